"""Widths and depths at which models are compared: one Transformer layer for every two gated attention units."""

from dataclasses import dataclass

from flash.models import presets

VOCABULARY = 12000
HEAD_DIM = 64


@dataclass(frozen=True)
class Size:
    """Width and depth of a comparison.

    Args:
        width: Model width ``d``.
        units: Gated attention units, an even number; a Transformer has half as many layers.
        query_key_dim: Query and key width ``s`` of a unit.
    """

    width: int
    units: int
    query_key_dim: int

    @property
    def layers(self) -> int:
        """Layers of a Transformer."""
        return self.units // 2

    @property
    def heads(self) -> int:
        """Heads of a Transformer."""
        return self.width // HEAD_DIM


SIZES = {
    name: Size(size["hidden_size"], size["num_hidden_layers"], size["query_key_dim"])
    for name, size in presets.SIZES.items()
}
