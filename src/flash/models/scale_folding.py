"""Move the sizes that training has left in the gains of norms into the matrices behind them."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from flash.layers.gated_unit import GatedUnit
from flash.layers.norms import ScaleNorm
from flash.models.encoder import GatedEncoder


class Folded(NamedTuple):
    """What an encoder's output and its embeddings were divided by."""

    output: float = 1.0
    embeddings: float = 1.0


@torch.no_grad()
def fold_scales(encoder: GatedEncoder) -> Folded:
    """Bring gains near 1, and matrices and embeddings to the size that belongs to them, for a head that is new.

    What stands before a norm may have any size, and so may a gain if the matrix behind it makes up for it. Training
    uses that: a gain ends at 0.04 or 17, matrices and embeddings grow. An optimizer that moves all weights by about
    the same amount, as AdamW does, then moves the former too fast and the latter too slowly. Factors are powers of
    two, so the numbers keep their digits; the output keeps its direction, but for the constants under the roots of
    norms.

    Folded are the gain of a norm before a layer (into ``in_proj``), of the norm on the attention output (into
    ``out_proj``), the embeddings before their norm (to ``d^-0.5``, as fan-in initialisation draws them), the size of
    the stream (that of the embeddings' norm, into every ``out_proj``) where a final norm ends it, and the gain of the
    final norm. Layers with the norm behind them have nothing to fold.

    Args:
        encoder: Model without a head, such as ``model.base_model``; changed in place.
    """
    units = [layer for layer in encoder.layers if isinstance(layer, GatedUnit)]
    if any(unit.norm_position != "pre" for unit in units):
        return Folded()
    for unit in units:
        unit.in_proj.weight.mul_(_fold(unit.norm))
        if unit.attention_norm is not None:
            unit.out_proj.weight.mul_(_fold(unit.attention_norm))
    parts = encoder.embeddings
    words = parts.word_embeddings.weight
    embeddings = _power_of_two(words * words.shape[1] ** 0.5)
    for part in (parts.word_embeddings, parts.token_type_embeddings, parts.position_embeddings):
        if part is not None:
            _divide(part, embeddings)
    if isinstance(encoder.final_norm, nn.Identity):
        return Folded(embeddings=embeddings)
    stream = _fold(parts.norm)
    for unit in units:
        _divide(unit.out_proj, stream)
    return Folded(_fold(encoder.final_norm), embeddings)


@torch.no_grad()
def fold_masked_lm(model: Any) -> None:
    """Fold the encoder of a masked language model, and its head such that the logits stay."""
    folded = fold_scales(model.base_model)
    model.lm_head.dense.weight.mul_(folded.output)
    if model.lm_head.decoder.weight is model.get_input_embeddings().weight:
        _divide(model.lm_head.norm, 1.0 / folded.embeddings)


def _fold(norm: nn.Module) -> float:
    """Divide what a norm returns by the size of its gain."""
    gain: Tensor = norm.scale if isinstance(norm, ScaleNorm) else norm.weight  # type: ignore[assignment]
    factor = _power_of_two(gain)
    _divide(norm, factor)
    return factor


def _power_of_two(x: Tensor) -> float:
    """Return the power of two next to the root mean square; 1 where that is 0 or no number."""
    size = x.float().square().mean().sqrt()
    return 2.0 ** size.log2().round().item() if 0 < size < float("inf") else 1.0


def _divide(module: nn.Module, factor: float) -> None:
    for parameter in module.parameters():
        parameter.div_(factor)
