import pytest
import torch
from beartype import beartype
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError, jaxtyped

from flash.ops.quadratic_attention import quadratic_attention
from flash.ops.visibility import visible_pairs

import transcription
from helpers import EXACT, FLOAT64, few_examples, normal, relative_error


def random_inputs(*, n=5, m=7, dtype=torch.float64, seed=0):
    query, key = normal(2, n, 4, seed=seed), normal(2, m, 4, seed=seed + 1)
    value, bias = normal(2, m, 6, seed=seed + 2), normal(n, m, seed=seed + 3)
    return [tensor.to(dtype) for tensor in (query, key, value, bias)]


MASK = torch.tensor([[True] * 4 + [False] * 3, [True] * 7])


def pairs_of(n, m, *, query_mask=None, key_mask=None):
    return visible_pairs(n, m, device=torch.device("cpu"), query_mask=query_mask, key_mask=key_mask)


KEYS = pairs_of(5, 7, key_mask=MASK)


@pytest.mark.parametrize("n", [1, 2, 9])
def test_weights_and_sums_are_those_of_the_transcription(n):
    query, key, value, bias = random_inputs(n=n, m=n)
    mask = torch.arange(n) < torch.tensor([[n], [n - 1]])
    expected = transcription.attention_weights(query, key, bias, mask, score_scale=0.3)
    output, weights = quadratic_attention(
        query, key, value, bias, scale=0.3, pairs=pairs_of(n, n, query_mask=mask, key_mask=mask)
    )
    torch.testing.assert_close(weights, expected, **FLOAT64)
    torch.testing.assert_close(output, torch.einsum("bij,bje->bie", expected, value), **FLOAT64)


def test_autograd_agrees_with_finite_differences():
    inputs = [tensor.requires_grad_() for tensor in random_inputs(n=3, m=7)]

    def attend(*inputs):
        return quadratic_attention(*inputs, scale=0.5, divisor=3.0, pairs=KEYS[:, :3])

    assert torch.autograd.gradcheck(attend, inputs)


@few_examples
@given(st.floats(0.5, 1000.0), st.floats(0.01, 2.0))
def test_a_divisor_is_its_square_root_inside_the_square(divisor, scale):
    query, key, value, bias = random_inputs()
    outside = quadratic_attention(query, key, value, bias, scale=scale, divisor=divisor)
    root = divisor**0.5
    inside = quadratic_attention(query, key, value, bias / root, scale=scale / root)
    torch.testing.assert_close(outside, inside, **FLOAT64)


def test_negative_scores_weigh_exactly_nothing():
    query, key, value, bias = random_inputs()
    _, weights = quadratic_attention(query, key, value, bias, scale=0.5)
    negative = 0.5 * (query @ key.mT) + bias <= 0
    assert 0 < negative.sum() < negative.numel()
    assert torch.equal(weights == 0, negative)


def test_padded_keys_have_no_influence():
    query, key, value, bias = random_inputs()
    before = quadratic_attention(query, key, value, bias, scale=0.5, pairs=KEYS)
    key[0, 4:] = value[0, 4:] = 100.0
    after = quadratic_attention(query, key, value, bias, scale=0.5, pairs=KEYS)
    torch.testing.assert_close(after, before, **EXACT)
    without, _ = quadratic_attention(query[:1], key[:1, :4], value[:1, :4], bias[:, :4].contiguous(), scale=0.5)
    torch.testing.assert_close(after[0][:1], without, **FLOAT64)


def test_padded_queries_receive_nothing_and_change_no_other():
    query, key, value, bias = random_inputs(n=7)
    full, _ = quadratic_attention(query, key, value, bias, scale=0.5)
    masked, weights = quadratic_attention(query, key, value, bias, scale=0.5, pairs=pairs_of(7, 7, query_mask=MASK))
    assert torch.equal(masked[MASK], full[MASK])
    assert not masked[~MASK].any()
    assert not weights[~MASK].any()


def test_a_sequence_without_a_real_token_gives_zeros_and_finite_gradients():
    inputs = [tensor.requires_grad_() for tensor in random_inputs()]
    output, _ = quadratic_attention(*inputs, scale=0.5, pairs=torch.zeros(2, 5, 7, dtype=torch.bool))
    assert not output.any()
    for gradient in torch.autograd.grad(output.sum(), inputs):
        assert not gradient.any()


def test_dropout_leaves_weights_out_of_the_sums_and_the_others_make_up_for_them():
    query, key, value, bias = random_inputs(n=20, m=30)
    _, weights = quadratic_attention(query, key, value, bias, scale=0.5)
    torch.manual_seed(0)
    output, dropped = quadratic_attention(query, key, value, bias, scale=0.5, dropout=0.25)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], weights[kept] / 0.75, **FLOAT64)
    assert 0.65 < kept.sum() / (weights != 0).sum() < 0.85
    torch.testing.assert_close(output, dropped @ value, **FLOAT64)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_sums_keep_the_dtype_of_the_values_and_weights_that_of_the_bias(dtype):
    query, key, value, bias = random_inputs(dtype=dtype)
    output, weights = quadratic_attention(query, key, value, bias.float(), scale=0.5)
    assert (output.dtype, weights.dtype) == (dtype, torch.float32)
    exact, _ = quadratic_attention(*random_inputs(), scale=0.5)
    # roundings of half an epsilon: inputs, scores, weights, sums
    assert relative_error(output, exact) < 2 * torch.finfo(dtype).eps


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("bias", normal(2, 1, 7)),
        ("bias", normal(1, 7)),
        ("pairs", torch.ones(2, 5, 7)),
        ("pairs", torch.ones(2, 1, 7, dtype=torch.bool)),
        ("pairs", torch.ones(2, 7, dtype=torch.bool)),
        ("scale", torch.ones(2, 7)),
    ],
    ids=[
        "bias of one query a row",
        "bias of one query",
        "float mask",
        "mask of one query",
        "mask of keys",
        "scale a key",
    ],
)
def test_shape_checks_refuse_what_would_broadcast_silently(name, changed):
    checked = jaxtyped(quadratic_attention, typechecker=beartype)
    query, key, value, bias = random_inputs()
    arguments = {"query": query, "key": key, "value": value, "bias": bias, "pairs": KEYS, "scale": 0.5}
    checked(**arguments)
    with pytest.raises(TypeCheckError):
        checked(**(arguments | {name: changed}))


def test_products_of_queries_and_keys_may_exceed_the_range_of_half_precision():
    query = key = torch.full((1, 2, 128), 24.0, dtype=torch.float16)
    value = torch.ones(1, 2, 3, dtype=torch.float16)
    for function, expected in (("softmax", 1.0), ("squared_relu", 2 * (24 * 24 / 512 * 128) ** 2 / 1e4)):
        divisor = 1.0 if function == "softmax" else 1e4
        out, _ = quadratic_attention(query, key, value, function=function, scale=1 / 512, divisor=divisor)
        torch.testing.assert_close(out, torch.full_like(out, expected))
