import pytest
import torch

from flash.ops.linear_attention import LinearState
from flash.ops.mixed_chunk_attention import mixed_chunk_attention
from flash.ops.mixed_chunk_attention.packed import packed_mixed_chunk_attention
from flash.ops.quadratic_attention import Weighting, quadratic_attention
from flash.ops.sequences import Sequences

import transcription_attention
import transcription_flash
from helpers import EXACT, FLOAT64, normal, relative_error

N, S, E, CHUNK = 11, 4, 5, 4
WEIGHTING = Weighting("squared_relu", "inverse_sqrt_dim", "true_length", longest=CHUNK, dim=S)
# right padding and a hole; chunks begin at the first position, as they do behind a layout
MASK = torch.tensor([[True] * N, [True] * 5 + [False] + [True] * 3 + [False] * 2])


def random_inputs(n=N, seed=0, dtype=torch.float64):
    copies = [normal(2, n, S, seed=seed + i).to(dtype) for i in range(4)]
    return *copies, normal(2, n, E, seed=seed + 4).to(dtype)


def mix(*inputs, bias=None, causal=False, mask=MASK, **options):
    return mixed_chunk_attention(
        *inputs, bias, chunk_size=CHUNK, weighting=WEIGHTING, causal=causal, mask=mask, **options
    )


def by_pairs(quad_query, quad_key, lin_query, lin_key, value, *, causal, mask, bias, constant):
    """Direct evaluation over all n x n pairs of tokens, in two matrices of weights."""
    chunk = torch.arange(N) // CHUNK
    in_chunk = torch.arange(N) % CHUNK
    quadratic = transcription_attention.weights(
        quad_query,
        quad_key,
        bias[in_chunk][:, in_chunk],
        transcription_flash.visible_within_chunk(mask, CHUNK, causal=causal),
        attention_function="squared_relu",
        score_scale="inverse_sqrt_dim",
        score_divisor="true_length",
        length=CHUNK,
    )
    assert not quadratic[:, chunk[:, None] != chunk].any()
    linear = transcription_flash.linear_weights(
        lin_query,
        lin_key,
        transcription_flash.visible_to_linear(mask, CHUNK, causal=causal),
        linear_divisor="true_length" if constant is None else "constant",
        max_position_embeddings=constant or 1,
    )
    return (quadratic + linear) @ value


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_packed_sequences_err_in_half_precision_at_most_twice_as_much_as_the_definition(dtype):
    # the keys that are seen divide the scores, and bfloat16 has no number between 258 and 260
    length, weighting = 259, Weighting("squared_relu", "inverse_sqrt_dim", "true_length", longest=300, dim=S)
    inputs = [normal(1, length, width, seed=seed).abs().to(dtype) for seed, width in enumerate([S] * 4 + [E])]
    settings = {"chunk_size": length, "weighting": weighting, "causal": False}
    exact = mixed_chunk_attention(*(x.double() for x in inputs), **settings)[0]
    definition = mixed_chunk_attention(*inputs, **settings)[0]
    sequences = Sequences.rows(1, length, torch.device("cpu"))
    found = packed_mixed_chunk_attention(
        *(x[0] for x in inputs), sequences=sequences, chunks=sequences.cut(length), backend="blocked", **settings
    )
    assert relative_error(found[None], exact) <= 2 * relative_error(definition, exact)
    # and no error that all outputs share
    assert abs((found / exact[0] - 1).mean()) < torch.finfo(dtype).eps / 8


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("constant", [None, 20])
def test_output_and_gradients_are_those_of_all_pairs_evaluated_directly(causal, constant):
    inputs = [x.requires_grad_() for x in random_inputs()]
    bias = normal(CHUNK, CHUNK, seed=7).requires_grad_()
    out, weights, chunks = mix(*inputs, bias=bias, causal=causal, linear_divisor=constant and float(constant))
    expected = by_pairs(*inputs, causal=causal, mask=MASK, bias=bias, constant=constant)
    torch.testing.assert_close(out, expected, **FLOAT64)
    assert weights.shape == (2, 3, CHUNK, CHUNK)
    assert chunks.sums.shape == (2, 3, S, E)
    assert chunks.counts.tolist() == [[4, 4, 3], [4, 3, 1]]
    upstream = normal(2, N, E, seed=8)
    gradients = torch.autograd.grad(out, [*inputs, bias], upstream)
    torch.testing.assert_close(gradients, torch.autograd.grad(expected, [*inputs, bias], upstream), **FLOAT64)


def test_finite_differences_agree():
    inputs = [x.requires_grad_() for x in random_inputs(n=5)]
    assert torch.autograd.gradcheck(lambda *x: mix(*x, causal=True, mask=None)[0], inputs)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("n", [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK])
def test_no_mask_means_that_every_token_is_real_at_any_length(n, causal):
    inputs = random_inputs(n=n)
    everything = torch.ones(2, n, dtype=torch.bool)
    torch.testing.assert_close(
        mix(*inputs, causal=causal, mask=None), mix(*inputs, causal=causal, mask=everything), **EXACT
    )


def test_one_chunk_is_quadratic_attention_and_a_sum_over_itself():
    quad_query, quad_key, lin_query, lin_key, value = inputs = random_inputs(n=CHUNK)
    out, _, _ = mix(*inputs, mask=None)
    quadratic, _ = quadratic_attention(quad_query, quad_key, value, **WEIGHTING.arguments_of_pairs(None, CHUNK))
    torch.testing.assert_close(out, quadratic + lin_query @ (lin_key.mT @ value) / CHUNK, **FLOAT64)
    causal, _, _ = mix(*inputs, mask=None, causal=True)
    # the first chunk of a causal model has nothing to recall
    without, _, _ = mix(quad_query, quad_key, torch.zeros_like(lin_query), lin_key, value, mask=None, causal=True)
    torch.testing.assert_close(causal, without, **EXACT)


def test_an_input_in_two_pieces_gives_what_it_gives_whole():
    inputs = random_inputs(n=12)
    whole, _, chunks = mix(*inputs, causal=True, mask=None)
    so_far = LinearState(chunks.sums[:, :2].sum(dim=1), chunks.counts[:, :2].sum(dim=1))
    rest, _, _ = mix(*(x[:, 8:] for x in inputs), causal=True, mask=None, initial=so_far)
    torch.testing.assert_close(rest, whole[:, 8:], **FLOAT64)


def test_a_causal_output_does_not_change_by_a_bit_when_later_tokens_do():
    inputs = random_inputs(dtype=torch.float32)
    before, _, _ = mix(*inputs, causal=True, mask=None)
    for x in inputs:
        x[:, 6:] = 1e4
    after, _, _ = mix(*inputs, causal=True, mask=None)
    assert torch.equal(after[:, :6], before[:, :6])
