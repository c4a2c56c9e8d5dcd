import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from flash.ops.linear_attention import LinearState, chunk_sums, linear_attention, recall
from flash.ops.linear_attention.packed import packed_linear_attention
from flash.ops.sequences import Sequences

from helpers import EXACT, FLOAT64, normal, relative_error

B, G, C, S, E = 2, 4, 3, 5, 6
MASK = torch.tensor([[True] * 12, [False] * 2 + [True] * 5 + [False] + [True] * 4]).reshape(B, G, C)
SEGMENTS = torch.tensor([[0, 0, 1, 1], [3, 5, 5, -1]])


def random_inputs(seed=0):
    return normal(B, G, C, S, seed=seed), normal(B, G, C, S, seed=seed + 1), normal(B, G, C, E, seed=seed + 2)


def by_pairs(query, key, value, mask, *, causal, divisor, segments=None):
    """Every query with every key: no sum over a chunk is formed."""
    out = torch.zeros(B, G, C, E, dtype=torch.float64)
    for b in range(B):
        for g in range(G):
            related = [h for h in range(G) if segments is None or segments[b, g] == segments[b, h]]
            keys = [(h, t) for h in related for t in range(C) if mask[b, h, t] and (not causal or h < g)]
            for i in range(C):
                total = sum(((query[b, g, i] @ key[b, h, t]) * value[b, h, t] for h, t in keys), torch.zeros(E))
                out[b, g, i] = total / (max(len(keys), 1) if divisor is None else divisor)
    return out


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("divisor", [None, 16.0])
@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["one sequence", "packed"])
def test_chunk_sums_give_what_all_pairs_give_and_so_do_gradients(causal, divisor, segments):
    inputs = [x.requires_grad_() for x in random_inputs()]
    query, key, value = inputs
    chunks = chunk_sums(key, value, MASK)
    out = linear_attention(query, chunks, causal=causal, divisor=divisor, segments=segments)
    expected = by_pairs(*inputs, MASK, causal=causal, divisor=divisor, segments=segments)
    torch.testing.assert_close(out, expected, **FLOAT64)
    upstream = normal(B, G, C, E, seed=9)
    gradients = torch.autograd.grad(out, inputs, upstream)
    torch.testing.assert_close(gradients, torch.autograd.grad(expected, inputs, upstream), **FLOAT64)


class Calls(TorchDispatchMode):
    """Names of the operators that ran."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_a_deterministic_run_sums_without_cumsum_which_cuda_would_refuse(count):
    query, key, value = normal(B, count, C, S), normal(B, count, C, S, seed=1), normal(B, count, C, E, seed=2)
    expected = linear_attention(query, chunk_sums(key, value), causal=True)
    torch.use_deterministic_algorithms(True)
    try:
        with Calls() as calls:
            out = linear_attention(query, chunk_sums(key, value), causal=True)
    finally:
        torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(out, expected, **FLOAT64)
    assert "cumsum" not in calls.names


def test_no_mask_means_that_every_token_is_real():
    _, key, value = random_inputs()
    everything = torch.ones(B, G, C, dtype=torch.bool)
    torch.testing.assert_close(chunk_sums(key, value), chunk_sums(key, value, everything), **EXACT)


def test_what_came_before_is_as_good_as_earlier_chunks():
    query, key, value = random_inputs()
    chunks = chunk_sums(key, value, MASK)
    whole = linear_attention(query, chunks, causal=True)
    before = LinearState(chunks.sums[:, :2].sum(dim=1), chunks.counts[:, :2].sum(dim=1))
    rest = LinearState(chunks.sums[:, 2:], chunks.counts[:, 2:])
    torch.testing.assert_close(
        linear_attention(query[:, 2:], rest, causal=True, initial=before), whole[:, 2:], **FLOAT64
    )


@pytest.mark.parametrize("divisor", [None, 16.0])
def test_one_step_recalls_what_the_next_chunk_would(divisor):
    query, key, value = random_inputs()
    chunks = chunk_sums(key, value, MASK)
    whole = linear_attention(query, chunks, causal=True, divisor=divisor)
    before = LinearState(chunks.sums[:, :3].sum(dim=1), chunks.counts[:, :3].sum(dim=1))
    torch.testing.assert_close(recall(query[:, 3], before, divisor=divisor), whole[:, 3], **FLOAT64)


def test_a_sum_beyond_half_precision_is_recalled():
    query = torch.ones(1, 1, S, dtype=torch.float16)
    state = LinearState(torch.full((1, S, E), 1e6), torch.full((1,), 1e6))
    assert recall(query, state).tolist() == [[[S] * E]]


def test_a_causal_sum_does_not_change_by_a_bit_when_later_chunks_do():
    query, key, value = (x.float() for x in random_inputs())
    before = linear_attention(query, chunk_sums(key, value), causal=True)
    key[:, 2:], value[:, 2:] = 1e6, -1e6
    after = linear_attention(query, chunk_sums(key, value), causal=True)
    assert torch.equal(after[:, :3], before[:, :3])  # the third sees the first two
    assert not torch.equal(after[:, 3], before[:, 3])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_of_half_precision_are_kept_in_float32(dtype):
    key, value = torch.ones(1, 300, 4, 2, dtype=dtype), torch.ones(1, 300, 4, 2, dtype=dtype)
    chunks = chunk_sums(key, value)
    assert chunks.sums.dtype == chunks.counts.dtype == torch.float32
    out = linear_attention(key, chunks, causal=False, divisor=1.0)
    assert out.dtype == dtype
    # 1200 ones: bfloat16 alone would stop counting at 256
    torch.testing.assert_close(out[0, 0, 0, 0].float().item(), 2400.0, rtol=torch.finfo(dtype).eps, atol=0)


def test_a_packed_sum_stays_float32_under_autocast_and_finite_in_half_precision():
    query, key, value = (30 * x.half().clamp(-1, 1) for x in random_inputs())
    chunks = chunk_sums(key, value)
    assert chunks.sums.isfinite().all()
    segments = torch.tensor([[0, 0, 1, 1], [3, 5, 5, -1]])
    for causal in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = linear_attention(query.float(), chunks, causal=causal, segments=segments)
        exact = linear_attention(
            query.double(), LinearState(*(x.double() for x in chunks)), causal=causal, segments=segments
        )
        assert ((out.double() - exact).norm() / exact.norm()).item() < 0.02


def test_the_sum_of_a_chunk_of_half_precision_may_exceed_its_range():
    key = value = torch.full((1, 1, 256, 2), 17.0, dtype=torch.float16)
    assert chunk_sums(key, value).sums.tolist() == [[[[256 * 289.0] * 2] * 2]]


@pytest.mark.parametrize("causal", [False, True])
def test_a_packed_sequence_is_summed_as_if_the_others_were_not_there_bit_for_bit(causal):
    query, key, value = (x.float() for x in random_inputs())
    segments = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1]])
    before = linear_attention(query, chunk_sums(key, value), causal=causal, segments=segments)
    key[:, :2], value[:, :2] = 1e6, -1e6
    after = linear_attention(query, chunk_sums(key, value), causal=causal, segments=segments)
    assert torch.equal(after[:, 2:], before[:, 2:])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("divisor", [None, 16.0])
@pytest.mark.parametrize("lengths", [[5, 0, 1, 7, 7], [0], []], ids=str)
def test_sequences_one_behind_the_other_have_the_sums_that_they_have_alone(causal, divisor, lengths):
    sequences = Sequences.of_lengths(lengths, torch.device("cpu"))
    inputs = [normal(sequences.tokens, width, seed=width).requires_grad_() for width in (5, 6, 7)]
    inputs[1] = inputs[1][:, :5]
    settings = {"causal": causal, "divisor": divisor}
    found = packed_linear_attention(*inputs, sequences=sequences, chunk_size=3, **settings)
    expected = []
    for query, key, value in zip(*(x.split(lengths) for x in inputs), strict=True):
        seen = torch.ones(len(value), len(value))
        if causal:
            chunks = torch.arange(len(value)) // 3
            seen = chunks < chunks[:, None]
        counts = seen.sum(dim=1, keepdim=True).clamp(min=1) if divisor is None else divisor
        expected.append((query @ key.T * seen) @ value / counts)
    torch.testing.assert_close(found, torch.cat([found[:0], *expected]), **FLOAT64)


@pytest.mark.parametrize("length", [17, 255, 257])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_dividing_a_packed_sequence_errs_in_half_precision_at_most_twice_as_much_as_the_definition(dtype, length):
    # the roots of 255 and 257 are next to a power of two
    chunk_size, widths = 64, (16, 16, 32)
    inputs = [normal(length, width, seed=seed).abs().to(dtype) for seed, width in enumerate(widths)]
    grad = normal(length, 32, seed=9).to(dtype)
    sequences = Sequences.rows(1, length, torch.device("cpu"))

    def packed(*inputs):
        return packed_linear_attention(*inputs, sequences=sequences, chunk_size=chunk_size, causal=False)

    def definition(*inputs):
        chunks = -(-length // chunk_size)
        pad = (0, 0, 0, chunks * chunk_size - length)
        query, key, value = (torch.nn.functional.pad(x, pad).view(1, chunks, chunk_size, -1) for x in inputs)
        mask = (torch.arange(chunks * chunk_size) < length).view(1, chunks, chunk_size)
        return linear_attention(query, chunk_sums(key, value, mask), causal=False).flatten(0, 2)[:length]

    def results(function, dtype):
        leaves = [x.to(dtype).requires_grad_() for x in inputs]
        out = function(*leaves)
        return [out, *torch.autograd.grad(out, leaves, grad.to(dtype))]

    exact = results(definition, torch.float64)
    found = results(packed, dtype)
    for ours, reference, true in zip(found, results(definition, dtype), exact, strict=True):
        assert ours.dtype == dtype
        assert relative_error(ours, true) <= 2 * relative_error(reference, true)
    # and no error that all outputs share
    assert abs((found[0] / exact[0] - 1).mean()) < torch.finfo(dtype).eps / 8


@pytest.mark.parametrize("causal", [False, True])
def test_the_sum_over_a_long_packed_sequence_may_exceed_the_range_of_half_precision(causal):
    sequences = Sequences.rows(1, 4000, torch.device("cpu"))
    query, key, value = (torch.full((4000, 2), number, dtype=torch.float16) for number in (1.0, 8.0, 8.0))
    out = packed_linear_attention(query, key, value, sequences=sequences, chunk_size=1000, causal=causal)
    # the mean of products of 64, of which 4000 are 256,000
    expected = torch.full((3000, 2), 2 * 64.0, dtype=torch.float16)
    torch.testing.assert_close(out[1000:], expected, rtol=4 * torch.finfo(torch.float16).eps, atol=0)
