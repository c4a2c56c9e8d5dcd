"""From scores to attention weights: one function for each form, all with zeros at pairs that do not count."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

# Where Laplace's function equals relu(x)^2 best at x = sqrt(1/2): arXiv 2209.10655, section 3.3.
LAPLACE_MEAN = math.sqrt(0.5)
LAPLACE_DEVIATION = math.sqrt(0.25 / math.pi)
# A row whose weights add up to less fades out instead of being blown up.
SMALLEST_ROW_SUM = 1e-12


def squared_relu_weights(
    scores: Float[Tensor, "b n m"], pairs: Bool[Tensor, "#b n m"] | None = None
) -> Float[Tensor, "b n m"]:
    """Square the positive scores: ``relu(score)^2``. Source: arXiv 2202.10447, section 3.1; arXiv 2109.08668."""
    # the mask comes after the square: relu(0 + bias) need not be 0, so a zeroed score would still count
    return _hide(torch.relu(scores).square(), pairs)


def laplace_weights(
    scores: Float[Tensor, "b n m"], pairs: Bool[Tensor, "#b n m"] | None = None
) -> Float[Tensor, "b n m"]:
    """Squash the scores by Laplace's function, a bounded stand-in for the squared ReLU.

        weight = (1 + erf((score - mean) / (deviation * sqrt(2)))) / 2,   mean = sqrt(1/2), deviation = sqrt(1/(4 pi))

    Source: arXiv 2209.10655, section 3.3 (the attention function of Mega).
    """
    standard = (scores - LAPLACE_MEAN) / (LAPLACE_DEVIATION * math.sqrt(2.0))
    return _hide((1.0 + torch.erf(standard)) / 2.0, pairs)


def softmax_weights(
    scores: Float[Tensor, "b n m"], pairs: Bool[Tensor, "#b n m"] | None = None
) -> Float[Tensor, "b n m"]:
    """Exponentiate and divide by the row's sum, over the pairs that count; a row without any is 0, not NaN."""
    if pairs is not None:
        scores = scores.masked_fill(~pairs, torch.finfo(scores.dtype).min)
    return _hide(torch.softmax(scores, dim=-1), pairs)


def normalize_rows(weights: Float[Tensor, "b n m"]) -> Float[Tensor, "b n m"]:
    """Divide each row by its sum; a row of zeros stays one."""
    return weights / weights.sum(dim=-1, keepdim=True).clamp(min=SMALLEST_ROW_SUM)


def _hide(weights: Tensor, pairs: Tensor | None) -> Tensor:
    return weights if pairs is None else weights.masked_fill(~pairs, 0.0)


WEIGHT_FUNCTIONS = {
    "squared_relu": squared_relu_weights,
    "laplace": laplace_weights,
    "softmax": softmax_weights,
}
