"""The definition of quadratic attention in plain PyTorch, written as the paper writes it."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def quadratic_attention(
    query: Float[Tensor, "b n s"],
    key: Float[Tensor, "b m s"],
    value: Float[Tensor, "b m e"],
    bias: Float[Tensor, "n m"],
    *,
    scale: float,
    divisor: float = 1.0,
    query_mask: Bool[Tensor, "b n"] | None = None,
    key_mask: Bool[Tensor, "b m"] | None = None,
) -> tuple[Float[Tensor, "b n e"], Float[Tensor, "b n m"]]:
    """Sum the values, each weighted by its squared positive score; return the sums and the weights.

        weights[i, j] = relu(scale * query[i] . key[j] + bias[i, j])^2 / divisor
        out[i] = sum_j weights[i, j] * value[j]

    Holds all ``n * m`` weights at once. Source: arXiv 2202.10447, section 3.1 and its pseudo-code (``A`` and ``A V``).

    Args:
        scale: Factor on the dot products, before the bias and inside the square.
        divisor: Constant outside the square; it keeps the sums of a half-precision model in range.
        query_mask: True where a query is a real token; the weights of other rows are 0.
        key_mask: True where a key is a real token; the weights of other columns are 0.
    """
    scores = scale * (query @ key.mT) + bias  # (b, n, m)
    weights = torch.relu(scores).square()
    if divisor != 1.0:
        weights = weights / divisor
    # after the square: relu(0 + bias) need not be 0, so a zeroed score would still count
    if key_mask is not None:
        weights = weights.masked_fill(~key_mask[:, None, :], 0.0)
    if query_mask is not None:
        weights = weights.masked_fill(~query_mask[:, :, None], 0.0)
    # under autocast the bias promotes the weights to float32 while the values may be half precision
    return weights.to(value.dtype) @ value, weights
