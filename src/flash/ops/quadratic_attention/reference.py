"""The definition of quadratic attention in plain PyTorch, written as the paper writes it."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flash.ops.attention_weights import WEIGHT_FUNCTIONS, normalize_rows


def quadratic_attention(
    query: Float[Tensor, "b n s"],
    key: Float[Tensor, "b m s"],
    value: Float[Tensor, "b m e"],
    bias: Float[Tensor, "#b n m"] | Float[Tensor, "n m"] | None = None,
    *,
    function: str = "squared_relu",
    scale: float | Float[Tensor, "#b n"],
    divisor: float | Float[Tensor, "#b n"] = 1.0,
    row_sum: bool = False,
    pairs: Bool[Tensor, "#b n m"] | None = None,
    dropout: float = 0.0,
) -> tuple[Float[Tensor, "b n e"], Float[Tensor, "b n m"]]:
    """Sum the values, each weighted by a function of its score; return the sums and the weights.

        weights[i, j] = function(scale[i] * query[i] . key[j] + bias[i, j]) / divisor[i]     (0 where not pairs[i, j])
        out[i] = sum_j weights[i, j] * value[j]

    Holds all ``n * m`` weights at once, in float32 at least. Source: arXiv 2202.10447, section 3.1 and its
    pseudo-code (``A`` and ``A V``), for ``squared_relu``; see ``flash.ops.attention_weights`` for the other functions.

    Args:
        function: ``squared_relu``, ``laplace`` or ``softmax``.
        scale: Factor on the dot products, inside the function and before the bias; one number or one a query.
        divisor: Number outside the function; it keeps the sums of a half-precision model in range.
        row_sum: Divide each row of weights by its sum.
        pairs: True where the query may see the key, see ``flash.ops.visibility``.
        dropout: Probability of leaving out a weight.
    """
    # The products of 128 entries of size 24 are beyond float16. A power of two about sqrt(s) leaves entries above 1e-3
    # exact there, and all in other dtypes.
    shrink = 2.0 ** -(query.shape[-1].bit_length() // 2)
    scores = (query * shrink) @ key.mT  # (b, n, m)
    # a squared score of 256 is beyond float16, and a sum of 512 weights loses half of bfloat16's digits
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32)) * (_per_query(scale) / shrink)
    if bias is not None:
        scores = scores + bias
    weights = WEIGHT_FUNCTIONS[function](scores, pairs)
    if isinstance(divisor, Tensor) or divisor != 1.0:
        weights = weights / _per_query(divisor)
    if row_sum:
        weights = normalize_rows(weights)
    if dropout:
        weights = torch.nn.functional.dropout(weights, dropout)
    return weights.to(value.dtype) @ value, weights


def _per_query(number: float | Tensor) -> float | Tensor:
    return number[..., None] if isinstance(number, Tensor) else number
