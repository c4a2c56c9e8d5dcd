"""Mixed chunk attention of FLASH: quadratic within a chunk, linear across chunks."""

from flash.ops.mixed_chunk_attention.reference import mixed_chunk_attention

__all__ = ["mixed_chunk_attention"]
