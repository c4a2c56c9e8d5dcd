"""Changes to a FLASH-Quad that no setting makes, for ablations."""

from dataclasses import replace
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from flash.layers.gated_attention_unit import QuadraticContext
from flash.layers.norms import build_norm


def replace_outer_norms(model: PreTrainedModel, norm_type: str) -> None:
    """Put another norm, or ``none``, into the embeddings and the head; the layers keep theirs."""
    for owner in (model.base_model.embeddings, model.lm_head):
        width, eps = model.config.hidden_size, model.config.layer_norm_eps
        owner.norm = nn.Identity() if norm_type == "none" else build_norm(norm_type, width, eps)


def replace_attention_norms(model: PreTrainedModel, norm_type: str) -> None:
    """Put another norm behind the attention of each layer."""
    for layer in model.base_model.layers:
        layer.attention_norm = build_norm(norm_type, model.config.intermediate_size, model.config.layer_norm_eps)


def hide_own_position(model: PreTrainedModel) -> None:
    """Let no token attend to itself."""
    make_context = model.base_model.make_context

    def without_diagonal(common: Any, shape: tuple[int, int], cache: Any) -> QuadraticContext:
        context = make_context(common, shape, cache)
        others = ~torch.eye(shape[1], dtype=torch.bool, device=model.device)[None]
        return replace(context, pairs=others if context.pairs is None else context.pairs & others)

    model.base_model.make_context = without_diagonal


@torch.no_grad()
def scale_branches(model: PreTrainedModel, factor: float) -> None:
    """Multiply the first output projections: 1 / sqrt(layers) keeps the stream at its size, as in GPT-2."""
    for layer in model.base_model.layers:
        layer.out_proj.weight.mul_(factor)


def add_own_value(model: PreTrainedModel) -> None:
    """Gate ``rms_norm(A v) + v``: a gated linear unit beside the attention, whatever that attends to."""
    for layer in model.base_model.layers:
        _AddsOwnValue(layer)


class _AddsOwnValue:
    def __init__(self, layer: nn.Module) -> None:
        self._attend, self._norm = layer.attend, layer.attention_norm.forward
        self._value: torch.Tensor | None = None
        layer.attend = self.attend
        layer.attention_norm.forward = self.norm

    def attend(self, copies: Any, value: torch.Tensor, context: Any, state: Any) -> Any:
        self._value = value
        return self._attend(copies, value, context, state)

    def norm(self, attended: torch.Tensor) -> torch.Tensor:
        return self._norm(attended) + self._value
