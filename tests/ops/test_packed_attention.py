"""Squared-ReLU attention over packed sequences, against the definition over all pairs."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flash.errors import InputError
from flash.ops.quadratic_attention import blocked, quadratic_attention
from flash.ops.quadratic_attention.packed import keys_seen, squared_relu_attention
from flash.ops.sequences import Sequences
from flash.ops.visibility import visible_counts, visible_pairs

from helpers import EXACT, FLOAT64, few_examples, normal, relative_error

CPU = torch.device("cpu")


def pairs_of(sequences, key_mask, causal):
    tokens = sequences.tokens
    return visible_pairs(
        tokens,
        tokens,
        device=CPU,
        key_mask=None if key_mask is None else key_mask[None],
        segments=sequences.numbers()[None],
        causal=causal,
    )


def definition(query, key, value, diagonals, *, sequences, scale, divisor, row_sum, key_mask, causal):
    bias = None
    if diagonals is not None:
        longest = diagonals.shape[0] // 2
        positions = torch.arange(sequences.tokens)
        bias = diagonals[(positions - positions[:, None]).clamp(-longest, longest) + longest]
    scale, divisor = (x[None] if isinstance(x, torch.Tensor) else x for x in (scale, divisor))
    pairs = pairs_of(sequences, key_mask, causal)
    factors = {"scale": scale, "divisor": divisor, "row_sum": row_sum}
    return quadratic_attention(query[None], key[None], value[None], bias, pairs=pairs, **factors)[0][0]


problems = st.fixed_dictionaries(
    {
        "lengths": st.lists(st.integers(0, 9), min_size=1, max_size=5),
        "longest": st.sampled_from([None, 1, 4, 20]),
        "per_query": st.booleans(),
        "row_sum": st.booleans(),
        "masked": st.booleans(),
        "causal": st.booleans(),
        "seed": st.integers(0, 999),
    }
)


def build(problem):
    """Query, key, value and diagonals; and the settings."""
    sequences, seed, longest = Sequences.of_lengths(problem["lengths"], CPU), problem["seed"], problem["longest"]
    tokens = sequences.tokens
    inputs = [normal(tokens, width, seed=seed + i) for i, width in enumerate((5, 5, 7))]
    inputs.append(None if longest is None else normal(2 * longest - 1, seed=seed + 3))
    factor = normal(tokens, seed=seed + 4).abs() + 0.5
    return inputs, {
        "sequences": sequences,
        "scale": factor if problem["per_query"] else 0.4,
        "divisor": factor + 1.0 if problem["per_query"] else 3.0,
        "row_sum": problem["row_sum"],
        "key_mask": normal(tokens, seed=seed + 5) < 0.6 if problem["masked"] else None,
        "causal": problem["causal"],
    }


@pytest.fixture(params=[1 << 20, 8], ids=["one block", "many blocks"])
def block_size(request, monkeypatch):
    monkeypatch.setattr(blocked, "BLOCK_WEIGHTS", request.param)
    monkeypatch.setattr(blocked, "FEWEST_QUERIES", 2)


@pytest.mark.usefixtures("block_size")
@few_examples
@given(problem=problems)
def test_output_and_gradients_are_those_of_the_definition(problem):
    inputs, settings = build(problem)
    leaves = [x.requires_grad_() for x in inputs if x is not None]
    expected, found = (attend(*inputs, **settings) for attend in (definition, squared_relu_attention))
    torch.testing.assert_close(found, expected, **FLOAT64)
    grad = normal(*expected.shape, seed=7)
    for a, b in zip(*(torch.autograd.grad(out, leaves, grad) for out in (found, expected)), strict=True):
        torch.testing.assert_close(a, b, **FLOAT64)


def test_a_row_of_weights_next_to_nothing_has_the_gradients_of_the_definition():
    sequences = Sequences.of_lengths([7, 4], CPU)
    inputs = [normal(11, width, seed=width).requires_grad_() for width in (4, 5, 6)]
    inputs[1] = inputs[1][:, :4]
    settings = {"scale": 1e-7, "divisor": 1.0, "row_sum": True, "key_mask": None, "causal": False}  # sums of 1e-13
    results = []
    for attend in (squared_relu_attention, definition):
        out = attend(*inputs, None, sequences=sequences, **settings)
        results.append([out, *torch.autograd.grad(out, inputs, normal(11, 6, seed=9))])
    assert results[1][1].any()
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found / expected.abs().max(), expected / expected.abs().max(), **FLOAT64)


@pytest.mark.parametrize("length", [1, 127, 128, 129, 700])
def test_lengths_around_a_block_are_right_in_float32(length, monkeypatch):
    monkeypatch.setattr(blocked, "BLOCK_WEIGHTS", 2 * length * 128)
    sequences = Sequences.rows(2, length, CPU)
    inputs = [normal(2 * length, width, seed=width).float() for width in (8, 8, 12)]
    inputs.append(normal(2 * length - 1, seed=3).float())
    settings = {"scale": 0.3, "divisor": float(length), "row_sum": False, "key_mask": None, "causal": False}
    exact = definition(*(x.double() for x in inputs), sequences=sequences, **settings)
    errors = [
        relative_error(attend(*inputs, sequences=sequences, **settings), exact)
        for attend in (squared_relu_attention, definition)
    ]
    assert errors[0] <= 2 * errors[1] + 1e-7


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_errs_at_most_twice_as_much_as_the_definition_does(dtype):
    sequences = Sequences.rows(2, 60, CPU)
    exact_inputs = [normal(120, width, seed=width) for width in (16, 17, 24)]
    exact_inputs[1] = exact_inputs[1][:, :16]
    inputs = [x.to(dtype) for x in exact_inputs] + [normal(119, seed=3).float()]
    leaves = [x.requires_grad_() for x in inputs]
    wide = [x.detach().double().requires_grad_() for x in inputs]
    settings = {"scale": 0.25, "divisor": 60.0, "row_sum": False, "key_mask": None, "causal": False}
    grad = normal(120, 24, seed=9)

    def results(attend, inputs):
        out = attend(*inputs, sequences=sequences, **settings)
        return [out, *torch.autograd.grad(out, inputs, grad.to(out.dtype))]

    exact = results(definition, wide)
    for found, reference, true in zip(
        results(squared_relu_attention, leaves), results(definition, leaves), exact, strict=True
    ):
        assert found.dtype == reference.dtype
        assert relative_error(found, true) <= 2 * relative_error(reference, true)


@pytest.mark.parametrize("row_sum", [False, True])
@pytest.mark.parametrize("length", [130, 257, 300])
def test_what_each_query_is_divided_by_errs_in_half_precision_at_most_twice_as_much_as_in_the_definition(
    length, row_sum
):
    # bfloat16 has no number near the roots of these lengths
    sequences = Sequences.rows(1, length, CPU)
    exact_inputs = [normal(length, width, seed=seed) for seed, width in enumerate((16, 16, 8))]
    exact_inputs[2].abs_()
    inputs = [x.bfloat16().requires_grad_() for x in exact_inputs]
    wide = [x.detach().double().requires_grad_() for x in inputs]
    divisor = torch.full((length,), float(length))
    settings = {"scale": 0.25, "divisor": divisor, "row_sum": row_sum, "key_mask": None, "causal": False}
    grad = normal(length, 8, seed=9).bfloat16()

    def results(attend, inputs):
        out = attend(*inputs, None, sequences=sequences, **settings)
        return [out, *torch.autograd.grad(out, inputs, grad.to(out.dtype))]

    exact, found = results(definition, wide), results(squared_relu_attention, inputs)
    for ours, reference, true in zip(found, results(definition, inputs), exact, strict=True):
        assert relative_error(ours, true) <= 2 * relative_error(reference, true)


def test_inputs_of_several_dtypes_give_the_dtype_of_the_values_and_gradients_their_own():
    sequences = Sequences.of_lengths([9, 3], CPU)
    wide = [normal(12, width, seed=width).bfloat16().double().requires_grad_() for width in (4, 5, 6)]
    wide[1] = wide[1].detach()[:, :4].clone().requires_grad_()
    dtypes = (torch.float32, torch.float64, torch.bfloat16)
    inputs = [x.detach().to(dtype).requires_grad_() for x, dtype in zip(wide, dtypes, strict=True)]
    settings = {"scale": 0.5, "divisor": 4.0, "row_sum": False, "key_mask": None, "causal": False}
    found = squared_relu_attention(*inputs, None, sequences=sequences, **settings)
    exact = definition(*wide, None, sequences=sequences, **settings)
    assert found.dtype == torch.bfloat16
    grad = normal(12, 6, seed=9).bfloat16()
    gradients = torch.autograd.grad(found, inputs, grad), torch.autograd.grad(exact, wide, grad.double())
    assert [x.dtype for x in gradients[0]] == list(dtypes)
    for ours, true in zip((found, *gradients[0]), (exact, *gradients[1]), strict=True):
        assert relative_error(ours, true) < 4 * torch.finfo(torch.bfloat16).eps


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sequences": Sequences.rows(2, 4, CPU)}, "must hold the 10 tokens of query, got 8"),
        ({"key": normal(9, 4)}, r"got \(10, 4\), \(9, 4\) and \(10, 6\)"),
        ({"value": normal(9, 6)}, r"got \(10, 4\), \(10, 4\) and \(9, 6\)"),
        ({"diagonals": normal(4)}, "odd length 2 L - 1, got 4"),
        ({"key_mask": torch.ones(9, dtype=torch.bool)}, r"one entry a token \(10\), got torch.bool of shape \(9,\)"),
        ({"key_mask": torch.ones(10)}, "key_mask must be boolean"),
    ],
)
def test_what_does_not_belong_to_the_same_tokens_is_refused(changes, message, without_shape_checks):
    inputs = {"query": normal(10, 4), "key": normal(10, 4), "value": normal(10, 6), "diagonals": normal(9)}
    arguments = {**inputs, "sequences": Sequences.rows(2, 5, CPU), "scale": 0.5} | changes
    with pytest.raises(InputError, match=message):
        squared_relu_attention(**arguments)


def test_no_more_weights_than_those_of_a_block_are_held(monkeypatch):
    monkeypatch.setattr(blocked, "BLOCK_WEIGHTS", 1 << 14)
    length = 512
    inputs = [normal(length, width, seed=width).requires_grad_() for width in (4, 5, 6)]
    inputs[1] = inputs[1].detach()[:, :4].clone().requires_grad_()
    inputs.append(normal(2 * length - 1, seed=3).requires_grad_())
    sequences = Sequences.rows(1, length, CPU)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        squared_relu_attention(*inputs, sequences=sequences, scale=0.5).sum().backward()
    largest = max(event.self_cpu_memory_usage for event in profile.events())
    block = blocked.FEWEST_QUERIES * length * 8
    # sums along the diagonals lay a block out twice as wide
    assert block <= largest <= 3 * block < length**2 * 8


@pytest.mark.slow
def test_more_pairs_than_int32_can_number():
    length, reach = 46_400, 2
    inputs = [normal(length, 1, seed=seed) for seed in range(3)]
    inputs.append(torch.tensor([-1e6, 0.5, 0.5, 0.5, 0.5, 0.5, -1e6], dtype=torch.float64))

    def attend(*inputs):
        return squared_relu_attention(*inputs, sequences=Sequences.rows(1, length, CPU), scale=0.3)

    def attend_within_reach(query, key, value, diagonals):
        out = torch.zeros_like(value)
        for distance in range(-reach, reach + 1):
            rows = torch.arange(max(0, -distance), length - max(0, distance))
            scores = 0.3 * query[rows] * key[rows + distance] + diagonals[distance + reach + 1]
            out = out.index_add(0, rows, torch.relu(scores).square() * value[rows + distance])
        return out

    grad = normal(length, 1, seed=9)
    results = []
    for function, dtype in ((attend, torch.float32), (attend_within_reach, torch.float64)):
        leaves = [x.to(dtype).requires_grad_() for x in inputs]
        out = function(*leaves)
        results.append([out, *torch.autograd.grad(out, leaves, grad.to(dtype))])
    for found, exact in zip(*results, strict=True):
        assert relative_error(found, exact) < 1e-6


def test_products_beyond_half_precision_do_not_overflow():
    query = key = torch.full((2, 128), 24.0, dtype=torch.float16)
    value = torch.ones(2, 3, dtype=torch.float16)
    sequences = Sequences.rows(1, 2, CPU)
    out = squared_relu_attention(query, key, value, sequences=sequences, scale=1 / 512, divisor=1e4)
    torch.testing.assert_close(out, torch.full_like(out, 2 * (24 * 24 / 512 * 128) ** 2 / 1e4))


def test_views_that_are_not_contiguous_are_read_rightly():
    sequences = Sequences.rows(1, 6, CPU)
    query, key = normal(5, 6, seed=1).T, normal(6, 10, seed=2)[:, ::2]
    value, diagonals = normal(1, 4, seed=3).expand(6, 4), normal(1, seed=4).expand(11)
    settings = {"scale": 0.5, "divisor": 1.0, "row_sum": False, "key_mask": None, "causal": False}
    inputs = (query, key, value, diagonals)
    found, expected = (f(*inputs, sequences=sequences, **settings) for f in (squared_relu_attention, definition))
    torch.testing.assert_close(found, expected, **FLOAT64)


def test_hidden_keys_may_hold_anything_finite():
    sequences = Sequences.rows(1, 6, CPU)
    query, key, value = normal(6, 4, seed=1), normal(6, 4, seed=2), normal(6, 3, seed=3)
    mask = torch.arange(6) < 4
    before = squared_relu_attention(query, key, value, sequences=sequences, scale=0.5, key_mask=mask)
    key[4:], value[4:] = 1e30, -1e30
    after = squared_relu_attention(query, key, value, sequences=sequences, scale=0.5, key_mask=mask)
    torch.testing.assert_close(after, before, **EXACT)


def test_a_causal_output_ignores_what_follows_bit_for_bit():
    sequences = Sequences.rows(1, 50, CPU)
    inputs = [normal(50, width, seed=width).float() for width in (4, 5, 6)]
    inputs[1] = inputs[1][:, :4].contiguous()
    before = squared_relu_attention(*inputs, sequences=sequences, scale=0.5, causal=True)
    for x in inputs:
        x[30:] = 9.0
    after = squared_relu_attention(*inputs, sequences=sequences, scale=0.5, causal=True)
    assert torch.equal(after[:30], before[:30])


@few_examples
@given(problem=problems)
def test_keys_seen_are_counted_as_over_pairs(problem):
    _, settings = build(problem)
    sequences, key_mask, causal = (settings[name] for name in ("sequences", "key_mask", "causal"))
    expected = visible_counts(pairs_of(sequences, key_mask, causal), torch.float64)[0]
    found = keys_seen(sequences, key_mask, causal=causal, dtype=torch.float64)
    assert torch.equal(found.expand_as(expected), expected)


class Attend(torch.nn.Module):
    """The operation itself: what checks shapes cannot be traced."""

    def forward(self, query, key, value):
        runs = [2, query.shape[0] // 2]
        return torch.ops.flash.squared_relu_attention_blocked(
            query, key, value, None, None, None, runs, 0.5, False, False
        )[0]


def test_compiled_and_exported_graphs_hold_one_operation_and_give_the_same():
    arguments = tuple(normal(20, width, seed=width).requires_grad_() for width in (4, 4, 5))
    compiled = torch.compile(Attend(), fullgraph=True, backend="aot_eager", dynamic=False)
    found, expected = (torch.autograd.grad(f(*arguments).sum(), arguments) for f in (compiled, Attend()))
    torch.testing.assert_close(found, expected, **FLOAT64)
    exported = torch.export.export(Attend(), arguments)
    calls = [node.target for node in exported.graph.nodes if node.op == "call_function"]
    assert torch.ops.flash.squared_relu_attention_blocked.default in calls
    assert not any("bmm" in str(call) for call in calls)


@pytest.mark.parametrize("row_sum", [False, True])
def test_the_operation_keeps_to_the_rules_of_custom_operations(row_sum):
    inputs = [normal(12, width, seed=width).requires_grad_() for width in (4, 5)]
    key = normal(12, 4, seed=8).requires_grad_()
    diagonals = normal(5, seed=3).requires_grad_()
    arguments = (inputs[0], key, inputs[1], diagonals, None, None, [3, 2, 1, 6], 0.5, row_sum, False)
    torch.library.opcheck(torch.ops.flash.squared_relu_attention_blocked.default, arguments)


def test_a_gradient_of_the_gradients_is_refused():
    leaf, key, value = normal(12, 4, seed=0).requires_grad_(), normal(12, 4, seed=1), normal(12, 5, seed=2)
    sequences = Sequences.of_lengths([12], CPU)
    out = squared_relu_attention(leaf, key, value, None, sequences=sequences, scale=0.5, backend="blocked")
    (gradient,) = torch.autograd.grad(out.square().sum(), leaf, create_graph=True)
    with pytest.raises(InputError, match=r"can be differentiated once: .*attention_backend='reference'"):
        gradient.sum().backward()
