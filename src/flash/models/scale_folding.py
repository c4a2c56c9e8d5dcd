"""Move the sizes that training has left in the gains of norms into the matrices behind them."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from flash.layers.gated_unit import GatedUnit
from flash.layers.norms import ScaleNorm
from flash.models.encoder import GatedEncoder


@torch.no_grad()
def fold_scales(encoder: GatedEncoder, readers: Iterable[nn.Linear] = ()) -> None:
    """Bring the gains of an encoder's norms near 1 and its matrices to the size that belongs to them.

    What stands before a norm may have any size, and so may a gain if the matrix behind it makes up for it. Training
    uses that: a gain ends at 0.04 or 17, the matrices grow. An optimizer that moves all weights by about the same
    amount, as AdamW does, then moves the former too fast and the latter too slowly. Factors are powers of two, so
    the numbers keep their digits; what is computed stays the same but for the constant under the root of a norm.

    Folded are the gain of a norm before a layer (into ``in_proj``), of the norm on the attention output (into
    ``out_proj``), the size of the stream (that of the embeddings' norm, into every ``out_proj``) where a final norm
    ends it, and the gain of the final norm. Layers with the norm behind them have nothing to fold.

    Args:
        encoder: Model without a head, such as ``model.base_model``; changed in place.
        readers: The linear maps that read its output. Without them the output has another size than before: for a
            head that is new.
    """
    units = [layer for layer in encoder.layers if isinstance(layer, GatedUnit)]
    if any(unit.norm_position != "pre" for unit in units):
        return
    for unit in units:
        _fold(unit.norm, [unit.in_proj.weight])
        if unit.attention_norm is not None:
            _fold(unit.attention_norm, [unit.out_proj.weight])
    if isinstance(encoder.final_norm, nn.Identity):
        return
    factor = _fold(encoder.embeddings.norm, [])
    for unit in units:
        for parameter in unit.out_proj.parameters():
            parameter.div_(factor)
    _fold(encoder.final_norm, [reader.weight for reader in readers])


def _fold(norm: nn.Module, matrices: Iterable[Tensor]) -> float:
    """Divide what a norm returns by the size of its gain, and multiply the matrices that read it; return the factor."""
    gain: Tensor = norm.scale if isinstance(norm, ScaleNorm) else norm.weight  # type: ignore[assignment]
    size = gain.square().mean().sqrt()
    if not size > 0 or not size.isfinite():
        return 1.0
    factor = 2.0 ** size.log2().round().item()
    for parameter in norm.parameters():
        parameter.div_(factor)
    for matrix in matrices:
        matrix.mul_(factor)
    return factor
