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
    # sums over many chunks lose small terms in half precision
    return LinearState((key.mT @ value).to(dtype), counts)


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
        segments: Number of the packed sequence of each chunk; sums do not cross from one to another.
        initial: Sums ``(b, s, e)`` and counts ``(b,)`` of what came before the first chunk; causal only.
    """
    if segments is not None:
        total = _sum_within(chunks, segments, causal=causal)
    elif causal:
        # Running totals shifted by a chunk. A total minus its own chunk would carry that chunk's roundings into
        # queries that must not see it.
        sums, counts = pad(chunks.sums, (0, 0, 0, 0, 1, 0))[:, :-1], pad(chunks.counts, (1, 0))[:, :-1]
        if initial is not None:
            sums = torch.cat((initial.sums[:, None], sums[:, 1:]), dim=1)
            counts = torch.cat((initial.counts[:, None], counts[:, 1:]), dim=1)
        total = LinearState(sums.cumsum(dim=1), counts.cumsum(dim=1))
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
    total = query.to(state.sums.dtype) @ state.sums
    counts = state.counts.clamp(min=1.0)[:, None, None]
    return (total / (counts if divisor is None else divisor)).to(query.dtype)


def _sum_within(chunks: LinearState, segments: Tensor, *, causal: bool) -> LinearState:
    # a matrix of chunks by chunks: differences of running totals would leak roundings between sequences
    related = segments[:, :, None] == segments[:, None, :]  # (b, g, h)
    if causal:
        order = torch.arange(segments.shape[1], device=segments.device)
        related = related & (order < order[:, None])
    weights = related.to(chunks.sums.dtype)
    return LinearState(
        torch.einsum("bgh,bhse->bgse", weights, chunks.sums), torch.einsum("bgh,bh->bg", weights, chunks.counts)
    )
