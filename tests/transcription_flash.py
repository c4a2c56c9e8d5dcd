"""A second, literal writing-down of FLASH (mixed chunk attention), by direct evaluation of all n x n pairs.

Each token pair gets a quadratic weight if both are in one chunk, and a linear weight if the linear part lets the
query see the key: ``att[i] = sum_j (quadratic[i, j] + linear[i, j]) v[j]``. No sum over a chunk is ever formed, so a
mistake in chunk sums, in their order or at their borders cannot be repeated here. It imports nothing from ``flash``.

Axes and parameter names are those of ``transcription_attention``; ``offset_scale.{gain,offset}`` have the four rows
quad_q, quad_k, lin_q, lin_k.
"""

from typing import Any

import torch
from torch import Tensor

from transcription_attention import gated_unit, same_segment, visible, weights


def chunk_indices(mask: Tensor, chunk_size: int, segments: Tensor | None = None) -> list[list[int | None]]:
    """The chunk of each token of each row, None for padding.

    Chunks are counted from the first real token of a row or, packed, of a sequence; padding after it keeps its slot.
    """
    chunks: list[list[int | None]] = []
    batch_size, length = mask.shape
    for row in range(batch_size):
        chunks.append([])
        for i in range(length):
            of_sequence = [j for j in range(length) if mask[row, j] and same_segment(segments, row, i, j)]
            chunks[row].append((i - of_sequence[0]) // chunk_size if mask[row, i] else None)
    return chunks


def visible_within_chunk(
    mask: Tensor, chunk_size: int, *, causal: bool = False, segments: Tensor | None = None
) -> Tensor:
    """Whether the quadratic part of query i sees key j, (b, n, n): visible and of one chunk."""
    seen = visible(mask, causal, segments)
    for row, chunks in enumerate(chunk_indices(mask, chunk_size, segments)):
        for i, chunk_of_query in enumerate(chunks):
            for j, chunk_of_key in enumerate(chunks):
                seen[row, i, j] = seen[row, i, j] and chunk_of_key == chunk_of_query
    return seen


def visible_to_linear(mask: Tensor, chunk_size: int, *, causal: bool = False, segments: Tensor | None = None) -> Tensor:
    """Whether the linear part of query i sees key j, (b, n, n).

    Both are real and of one sequence; causal: the chunk of j is an earlier one. Not causal, the linear part sees the
    chunk of the query too, and the query itself.
    """
    seen = visible(mask, False, segments)
    if not causal:
        return seen
    for row, chunks in enumerate(chunk_indices(mask, chunk_size, segments)):
        for i, chunk_of_query in enumerate(chunks):
            for j, chunk_of_key in enumerate(chunks):
                if chunk_of_query is not None and chunk_of_key is not None:
                    seen[row, i, j] = seen[row, i, j] and chunk_of_key < chunk_of_query
    return seen


def linear_weights(
    query: Tensor, key: Tensor, seen: Tensor, *, linear_divisor: str, max_position_embeddings: int
) -> Tensor:
    """lin_q[i] . lin_k[j] / D where the linear part of i sees j, else 0; shape (b, n, n).

    D is the number of keys that i sees, at least 1 (true_length), or max_position_embeddings (constant).
    """
    if linear_divisor not in ("true_length", "constant"):
        raise ValueError(f"linear_divisor must be true_length or constant, got {linear_divisor!r}")
    batch_size, length, _ = query.shape
    pairs = []
    for row in range(batch_size):
        for i in range(length):
            count = max(int(seen[row, i].sum()), 1)
            divisor = count if linear_divisor == "true_length" else max_position_embeddings
            for j in range(length):
                weight = (query[row, i] * key[row, j]).sum() / divisor
                pairs.append(weight if seen[row, i, j] else torch.zeros((), dtype=torch.float64))
    return torch.stack(pairs).reshape(batch_size, length, length)


def unit(
    x: Tensor,
    parameters: dict[str, Tensor],
    *,
    mask: Tensor,
    segments: Tensor | None = None,
    bias: Tensor,
    chunk_size: int,
    max_position_embeddings: int,
    attention_function: str = "squared_relu",
    score_scale: str = "inverse_length",
    score_divisor: str = "constant",
    linear_divisor: str = "true_length",
    causal: bool = False,
    **form: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """One FLASH unit: its output (b, n, d), its quadratic and its linear weights, both (b, n, n).

    Args:
        bias: (n, n); only its entries between tokens of one chunk are read.
        form: Norms, activation, rotary and token shift, see `transcription_attention.gated_unit`.
    """

    def attention(quad_q: Tensor, quad_k: Tensor, lin_q: Tensor, lin_k: Tensor) -> tuple[Tensor, Tensor]:
        quadratic = weights(
            quad_q,
            quad_k,
            bias.double(),
            visible_within_chunk(mask, chunk_size, causal=causal, segments=segments),
            attention_function=attention_function,
            score_scale=score_scale,
            score_divisor=score_divisor,
            length=chunk_size,
        )
        linear = linear_weights(
            lin_q,
            lin_k,
            visible_to_linear(mask, chunk_size, causal=causal, segments=segments),
            linear_divisor=linear_divisor,
            max_position_embeddings=max_position_embeddings,
        )
        return quadratic, linear

    output, (quadratic, linear) = gated_unit(
        x, parameters, attention, mask=mask, segments=segments, causal=causal, **form
    )
    return output, quadratic, linear
