"""A statistic of many tokens in three numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_OUTER_DECILES = (0.1, 0.9)


@dataclass(frozen=True)
class Distribution:
    """Mean, 10th and 90th percentile; None where there is no finite value."""

    mean: float | None
    p10: float | None
    p90: float | None


def describe(values: Tensor) -> Distribution:
    """Summarise the finite ones among ``values``; a token for which a statistic is undefined has NaN."""
    values = values.flatten().double()
    values = values[values.isfinite()].sort().values
    if not len(values):
        return Distribution(None, None, None)
    p10, p90 = (_quantile(values, share) for share in _OUTER_DECILES)
    return Distribution(values.mean().item(), p10, p90)


def _quantile(ascending: Tensor, share: float) -> float:
    """Interpolate between two neighbours, as ``torch.quantile`` does, which takes no more than 2^24 numbers."""
    position = share * (len(ascending) - 1)
    below = int(position)
    above = min(below + 1, len(ascending) - 1)
    return torch.lerp(ascending[below], ascending[above], position - below).item()
