"""The definition of mixed chunk attention in plain PyTorch."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from flash.ops.linear_attention.reference import LinearState, chunk_sums, linear_attention
from flash.ops.quadratic_attention.reference import quadratic_attention
from flash.ops.quadratic_attention.weighting import Weighting
from flash.ops.visibility import visible_pairs


def mixed_chunk_attention(
    quadratic_query: Float[Tensor, "b n s"],
    quadratic_key: Float[Tensor, "b n s"],
    linear_query: Float[Tensor, "b n s"],
    linear_key: Float[Tensor, "b n s"],
    value: Float[Tensor, "b n e"],
    bias: Float[Tensor, "c c"] | None = None,
    *,
    chunk_size: int,
    weighting: Weighting,
    causal: bool,
    linear_divisor: float | None = None,
    mask: Bool[Tensor, "b n"] | None = None,
    segments: Int[Tensor, "b g"] | None = None,
    initial: LinearState | None = None,
) -> tuple[Float[Tensor, "b n e"], Float[Tensor, "b g c c"], LinearState]:
    """Attend to the own chunk by weights and to the other chunks by their summed products.

        out = quadratic_attention(within the chunk) + linear_attention(across chunks)

    Chunk ``g`` holds positions ``g c`` to ``g c + c - 1``; the last one may be short. Not causal, the linear part sums
    over all tokens, those of the own chunk included. Source: arXiv 2202.10447, section 3.2 and its pseudo-code, which
    knows no padding.

    Args:
        bias: Added to the scores within a chunk.
        chunk_size: ``c``.
        weighting: How scores within a chunk become weights; its ``longest`` is ``c``.
        linear_divisor: Divides the linear part; None for the number of real tokens summed.
        mask: True where a token is real.
        segments: Number of the packed sequence of each chunk.
        initial: Sums over earlier chunks, when the input continues a sequence; causal only.

    Returns:
        The outputs, 0 at padding; the weights within each chunk; and each chunk's sums.
    """
    batch_size, length = value.shape[:2]
    # a graph for any length cannot ask whether it is a multiple, and has an empty chunk where it is one
    chunks = length // chunk_size + 1 if torch.compiler.is_exporting() else (length + chunk_size - 1) // chunk_size
    short = chunks * chunk_size - length
    if torch.compiler.is_exporting() or short:
        mask = torch.ones((batch_size, length), dtype=torch.bool, device=value.device) if mask is None else mask
        mask = pad(mask, (0, short))
        quadratic_query, quadratic_key, linear_query, linear_key, value = (
            pad(x, (0, 0, 0, short)) for x in (quadratic_query, quadratic_key, linear_query, linear_key, value)
        )
    flat = (batch_size * chunks, chunk_size, -1)
    flat_mask = None if mask is None else mask.reshape(flat[:2])
    pairs = visible_pairs(
        chunk_size, chunk_size, device=value.device, query_mask=flat_mask, key_mask=flat_mask, causal=causal
    )
    attended, weights = quadratic_attention(
        quadratic_query.reshape(flat),
        quadratic_key.reshape(flat),
        value.reshape(flat),
        bias,
        pairs=pairs,
        **weighting.arguments_of_pairs(pairs, chunk_size, value.dtype),
    )  # (b g, c, e), (b g, c, c)

    in_chunks = (batch_size, chunks, chunk_size, -1)
    sums = chunk_sums(
        linear_key.reshape(in_chunks), value.reshape(in_chunks), None if mask is None else mask.reshape(in_chunks[:3])
    )
    recalled = linear_attention(
        linear_query.reshape(in_chunks),
        sums,
        causal=causal,
        divisor=linear_divisor,
        segments=segments,
        initial=initial,
    )  # (b, g, c, e)
    out = (attended.reshape(in_chunks) + recalled).reshape(batch_size, chunks * chunk_size, -1)
    if mask is not None:
        out = out.masked_fill(~mask[..., None], 0.0)
    return out[:, :length], weights.reshape(batch_size, chunks, chunk_size, chunk_size), sums
