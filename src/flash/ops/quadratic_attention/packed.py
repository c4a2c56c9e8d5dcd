"""Squared-ReLU attention over sequences that lie one behind the other, without the weights: by blocks or fused."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flash.errors import InputError
from flash.ops.backends import KERNELS
from flash.ops.quadratic_attention import blocked
from flash.ops.quadratic_attention.kernel_inputs import check_shapes
from flash.ops.sequences import Sequences


def squared_relu_attention(
    query: Float[Tensor, "t s"],
    key: Float[Tensor, "t s"],
    value: Float[Tensor, "t e"],
    diagonals: Float[Tensor, " distances"] | None = None,
    *,
    sequences: Sequences,
    scale: float | Float[Tensor, " t"],
    divisor: float | Float[Tensor, " t"] = 1.0,
    row_sum: bool = False,
    key_mask: Bool[Tensor, " t"] | None = None,
    causal: bool = False,
    backend: str = "blocked",
) -> Float[Tensor, "t e"]:
    """Sum the values of the own sequence, each weighted by its squared positive score.

        bias[i, j] = diagonals[clip(j - i, -(L - 1), L - 1) + L - 1]
        out[i] = sum_j relu(scale[i] * query[i] . key[j] + bias[i, j])^2 * value[j] / divisor[i]

    What ``flash.ops.quadratic_attention.reference`` computes with the Toeplitz bias, in memory linear in the number of
    tokens. Source: arXiv 2202.10447, section 3.1.

    Args:
        diagonals: Bias of each distance, ``2 L - 1`` numbers; None for no bias.
        sequences: Which tokens make a sequence.
        scale: Factor on the dot products, one number or one a query; like ``divisor`` without a gradient.
        divisor: Divides the sum.
        row_sum: Divide by the sum of the row's weights too.
        key_mask: True where a key counts.
        causal: Hide the keys behind a query.
        backend: ``blocked``, ``fused`` or ``materialized``, see ``flash.ops.backends``.

    Raises:
        InputError: Shapes do not go together, or the kernels cannot compute it.
    """
    check_shapes(query, key, value, diagonals, key_mask)
    if sequences.tokens != query.shape[0]:
        raise InputError(
            f"sequences must hold the {query.shape[0]} tokens of query, got {sequences.tokens}: pack both alike."
        )
    factors: dict[str, Any] = {"scale": scale, "divisor": divisor, "row_sum": row_sum}
    masks: dict[str, Any] = {"key_mask": key_mask, "causal": causal}
    if backend in KERNELS:
        # brings in triton, which not every machine has
        from flash.ops.quadratic_attention import fused, materialized

        attend = fused.squared_relu_attention if backend == "fused" else materialized.squared_relu_attention
        bounds: dict[str, Any] = {"cumulative_lengths": sequences.cumulative_lengths, "longest": sequences.longest}
        return attend(query, key, value, diagonals, **bounds, **factors, **masks)
    return blocked.squared_relu_attention(query, key, value, diagonals, sequences=sequences, **factors, **masks)


def keys_seen(
    sequences: Sequences, key_mask: Bool[Tensor, " t"] | None, *, causal: bool, dtype: torch.dtype
) -> Float[Tensor, " t"]:
    """Count the keys that each query sees; 1 where it sees none, so that the count can divide."""
    bounds = sequences.cumulative_lengths.long()
    tokens = sequences.tokens
    real = torch.ones(tokens, dtype=torch.long, device=bounds.device) if key_mask is None else key_mask.long()
    before = torch.nn.functional.pad(real.cumsum(dim=0), (1, 0))  # (t + 1,)
    sequence = sequences.numbers()
    last = torch.arange(1, tokens + 1, device=bounds.device) if causal else bounds[sequence + 1]
    return (before[last] - before[bounds[sequence]]).clamp(min=1).to(dtype)
