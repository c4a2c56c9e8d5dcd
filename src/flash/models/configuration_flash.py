"""Configuration of FLASH."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from flash.models.configuration_gated import GatedAttentionConfig


@strict
class FLASHConfig(GatedAttentionConfig):
    """Settings of a FLASH model: mixed chunk attention, linear in the length (arXiv 2202.10447, section 3.2).

    All settings of ``FLASHQuadConfig``, with these differences.

    Args:
        chunk_size: Positions in a chunk ``c``; 256 in the paper. It takes the place of ``L`` in the scores, in
            ``score_divisor`` and in ``relative_bias``, since queries and keys meet within a chunk only. Chunks are
            counted from the first real token of a sequence; the last one may be short.
        linear_divisor: The sum over other chunks is divided by the number of real tokens in it (``true_length``; in a
            causal model those of earlier chunks) or by ``max_position_embeddings`` (``constant``).
    """

    model_type = "flash"

    chunk_size: int = 256
    linear_divisor: Literal["true_length", "constant"] = "true_length"

    def check_settings(self) -> None:
        """Refuse values that no model can have; call it after a setting was changed."""
        self.check_at_least_one("chunk_size")
        super().check_settings()

    @property
    def score_length(self) -> int:
        """Chunk size: queries and keys meet within a chunk only."""
        return self.chunk_size
