"""Quadratic attention of FLASH-Quad: squared positive scores over all pairs of positions."""

from flash.ops.quadratic_attention.reference import quadratic_attention

__all__ = ["quadratic_attention"]
