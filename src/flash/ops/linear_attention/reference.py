"""Linear attention between chunks in plain PyTorch: the sum of ``key (x) value`` is all that is kept of a chunk."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad


class LinearState(NamedTuple):
    """Products summed over tokens, ``(..., s, e)``, and how many real tokens, ``(...)``; float32 at least."""

    sums: Tensor
    counts: Tensor


def chunk_sums(
    key: Float[Tensor, "b g c s"], value: Float[Tensor, "b g c e"], mask: Bool[Tensor, "b g c"] | None = None
) -> LinearState:
    """Sum ``key[t] (x) value[t]`` over the real tokens of each chunk.

    Args:
        mask: True where a token is real.
    """
    dtype = torch.promote_types(key.dtype, torch.float32)
    if mask is None:
        counts = torch.full(key.shape[:2], float(key.shape[2]), dtype=dtype, device=key.device)
    else:
        key = key.masked_fill(~mask[..., None], 0.0)
        counts = mask.sum(dim=-1).to(dtype)
    shrink = 1.0
    if value.dtype == torch.float16:
        # a sum of 256 products may be beyond float16; a power of two about sqrt(c) leaves all but the smallest exact
        shrink = 2.0 ** -(key.shape[2].bit_length() // 2)
        value = value * shrink
    # sums over many chunks would lose small terms in half precision
    return LinearState((key.mT @ value).to(dtype) / shrink, counts)


def linear_attention(
    query: Float[Tensor, "b g c s"],
    chunks: LinearState,
    *,
    causal: bool,
    divisor: float | None = None,
    segments: Int[Tensor, "b g"] | None = None,
    initial: LinearState | None = None,
) -> Float[Tensor, "b g c e"]:
    """Apply each query to the summed products of its sequence.

        causal:      out[g, i] = query[g, i] . sum_{h < g} sums[h] / divisor
        not causal:  out[g, i] = query[g, i] . sum_h sums[h] / divisor

    Source: arXiv 2202.10447, section 3.2 and its pseudo-code. There the causal sum is divided by the full length, so an
    output depends on how much follows; here by the number of tokens summed.

    Args:
        chunks: Sums ``(b, g, s, e)`` and counts ``(b, g)`` of each chunk, see ``chunk_sums``.
        divisor: None divides by the number of real tokens summed, at least 1.
        segments: Number of the packed sequence of each chunk, a run of equal numbers; sums do not cross from one to
            another.
        initial: Sums ``(b, s, e)`` and counts ``(b,)`` of what came before the first chunk; causal only.
    """
    assert segments is None or initial is None, "packed sequences have nothing before them"
    if segments is not None:
        total = _sum_within(chunks, segments, causal=causal)
    elif causal:
        # Running totals shifted by a chunk. A total minus its own chunk would carry that chunk's roundings into
        # queries that must not see it.
        sums, counts = pad(chunks.sums, (0, 0, 0, 0, 1, 0))[:, :-1], pad(chunks.counts, (1, 0))[:, :-1]
        if initial is not None:
            sums = torch.cat((initial.sums[:, None], sums[:, 1:]), dim=1)
            counts = torch.cat((initial.counts[:, None], counts[:, 1:]), dim=1)
        total = LinearState(_running_total(sums), _running_total(counts))
    else:
        total = LinearState(chunks.sums.sum(dim=1, keepdim=True), chunks.counts.sum(dim=1, keepdim=True))
    divided = total.sums / (total.counts.clamp(min=1.0)[..., None, None] if divisor is None else divisor)
    return query @ divided.to(query.dtype)


def recall(
    query: Float[Tensor, "b n s"], state: LinearState, *, divisor: float | None = None
) -> Float[Tensor, "b n e"]:
    """Apply queries to a sum that is given, as ``linear_attention`` does; for one step of generation.

    Here the output is divided: it has ``n e`` numbers, the sum ``s e``. The product is float32 at least, in which a sum
    over a long context does not overflow.

    Args:
        state: Sums ``(b, s, e)`` and counts ``(b,)``.
    """
    with torch.autocast(query.device.type, enabled=False):
        total = query.to(state.sums.dtype) @ state.sums
    counts = state.counts.clamp(min=1.0)[:, None, None]
    return (total / (counts if divisor is None else divisor)).to(query.dtype)


def _running_total(x: Tensor) -> Tensor:
    if not torch.are_deterministic_algorithms_enabled():
        return x.cumsum(dim=1)
    # on CUDA PyTorch has no deterministic cumsum of floating point numbers, so how many are summed is doubled
    axes, reach = x.dim() - 2, 1
    while reach < x.shape[1]:
        x = x + pad(x, (0, 0) * axes + (reach, 0))[:, : x.shape[1]]
        reach *= 2
    return x


def _sum_within(chunks: LinearState, segments: Tensor, *, causal: bool) -> LinearState:
    before = _before(chunks, segments)
    if causal:
        return before
    after = _before(LinearState(*(x.flip(1) for x in chunks)), segments.flip(1))
    return LinearState(*(x + y + z.flip(1) for x, y, z in zip(before, chunks, after, strict=True)))


def _before(chunks: LinearState, segments: Tensor) -> LinearState:
    """Sum the earlier chunks of the same sequence, by doubling how many are summed.

    Differences of totals over the row would leak roundings from one sequence into the next.
    """
    sums, counts = (_earlier(x, segments, 1) for x in chunks)
    reach = 1
    while reach < segments.shape[1]:
        sums, counts = (x + _earlier(x, segments, reach) for x in (sums, counts))
        reach *= 2
    return LinearState(sums, counts)


def _earlier(x: Tensor, segments: Tensor, chunks: int) -> Tensor:
    """Read ``x`` that many chunks before, 0 where another sequence is."""
    axes = x.dim() - 2
    moved = pad(x, (0, 0) * axes + (chunks, 0))[:, : x.shape[1]]
    same = pad(segments[:, chunks:] == segments[:, :-chunks], (chunks, 0))
    return moved * same.reshape(*same.shape, *[1] * axes).to(x.dtype)
