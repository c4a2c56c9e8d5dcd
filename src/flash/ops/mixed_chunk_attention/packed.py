"""Mixed chunk attention over sequences that lie one behind the other, without the weights."""

import torch
from jaxtyping import Float
from torch import Tensor

from flash.ops.linear_attention.packed import packed_linear_attention
from flash.ops.quadratic_attention.packed import keys_seen, squared_relu_attention
from flash.ops.quadratic_attention.weighting import Weighting
from flash.ops.sequences import Sequences


def packed_mixed_chunk_attention(
    quadratic_query: Float[Tensor, "t s"],
    quadratic_key: Float[Tensor, "t s"],
    linear_query: Float[Tensor, "t s"],
    linear_key: Float[Tensor, "t s"],
    value: Float[Tensor, "t e"],
    diagonals: Float[Tensor, " distances"] | None = None,
    *,
    sequences: Sequences,
    chunks: Sequences,
    chunk_size: int,
    weighting: Weighting,
    causal: bool,
    linear_divisor: float | None = None,
    backend: str,
) -> Float[Tensor, "t e"]:
    """Attend to the own chunk by weights and to the other chunks of the sequence by their summed products.

    What ``flash.ops.mixed_chunk_attention.reference`` computes; a chunk is a sequence of its own here.

    Args:
        diagonals: Bias of each distance within a chunk; None for no bias.
        sequences: Which tokens make a sequence.
        chunks: ``sequences.cut(chunk_size)``.
        weighting: How scores within a chunk become weights, by ``squared_relu``.
        linear_divisor: Divides the linear part; None for the number of tokens summed.
        backend: ``blocked``, ``fused`` or ``materialized``.
    """
    seen: float | Tensor = 1.0
    if weighting.counts_keys:
        # bfloat16 counts to 256 only
        wide = torch.promote_types(value.dtype, torch.float32)
        seen = keys_seen(chunks, None, causal=causal, dtype=wide)
    attended = squared_relu_attention(
        quadratic_query,
        quadratic_key,
        value,
        diagonals,
        sequences=chunks,
        causal=causal,
        backend=backend,
        **weighting.arguments(seen),
    )
    return attended + packed_linear_attention(
        linear_query,
        linear_key,
        value,
        sequences=sequences,
        chunk_size=chunk_size,
        causal=causal,
        divisor=linear_divisor,
    )
