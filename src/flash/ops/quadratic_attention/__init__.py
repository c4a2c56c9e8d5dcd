"""Quadratic attention of FLASH-Quad: a function of the scores over all pairs of positions."""

from flash.ops.quadratic_attention.reference import quadratic_attention
from flash.ops.quadratic_attention.weighting import SELF_NORMALIZED, Weighting

__all__ = ["SELF_NORMALIZED", "Weighting", "quadratic_attention"]
