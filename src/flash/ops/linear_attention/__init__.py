"""Linear attention across chunks, through sums of key-value products."""

from flash.ops.linear_attention.reference import LinearState, chunk_sums, linear_attention, recall

__all__ = ["LinearState", "chunk_sums", "linear_attention", "recall"]
