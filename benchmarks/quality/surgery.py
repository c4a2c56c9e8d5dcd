"""Changes to a FLASH-Quad that no setting makes, for ablations."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from flash.layers.gated_attention_unit import QuadraticContext
from flash.layers.norms import build_norm
from flash.layers.offset_scale import OffsetScale


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


def activate_parts(model: PreTrainedModel, parts: str) -> None:
    """Keep the activation of gate, value and base where ``parts`` names them, as ``gb``; leave the others linear."""
    for layer in model.base_model.layers:
        layer.activation = _PartActivation(layer.activation, layer.widths, [name in parts for name in "gvb"])


class _PartActivation(nn.Module):
    def __init__(self, activation: nn.Module, widths: list[int], active: list[bool]) -> None:
        super().__init__()
        self.activation, self.widths, self.active = activation, widths, active

    def forward(self, projected: torch.Tensor) -> torch.Tensor:
        parts = zip(projected.split(self.widths, dim=-1), self.active, strict=True)
        return torch.cat([self.activation(part) if active else part for part, active in parts], dim=-1)


def convolve(model: PreTrainedModel, width: int) -> None:
    """Learn a depthwise convolution over an odd number of tokens in the place of the shift, which it begins as."""
    for layer in model.base_model.layers:
        layer.convolution = _Convolution(model.config.hidden_size, width, layer.shift_channels)
        layer._shift = layer.convolution.convolve


class _Convolution(nn.Module):
    def __init__(self, channels: int, width: int, shifted: int) -> None:
        super().__init__()
        self.reach = width // 2
        weight = torch.zeros(width, channels)
        weight[self.reach - 1, :shifted] = 1.0
        weight[self.reach + 1, shifted : 2 * shifted] = 1.0
        weight[self.reach, 2 * shifted :] = 1.0
        self.weight = nn.Parameter(weight)

    def convolve(self, hidden: torch.Tensor, context: Any, state: Any) -> torch.Tensor:
        if context.mask is not None:
            hidden = hidden * context.mask[..., None]
        padded = nn.functional.pad(hidden, (0, 0, self.reach, self.reach))
        taps = zip(self.weight.to(hidden.dtype), range(hidden.shape[1]), strict=False)
        return sum(padded[:, start : start + hidden.shape[1]] * tap for tap, start in taps)


def add_own_value(model: PreTrainedModel) -> None:
    """Gate ``rms_norm(A v) + v``: a gated linear unit beside the attention, whatever that attends to."""
    for layer in model.base_model.layers:
        layer.attention_norm = _NormPlusValue(layer.attention_norm, layer.attend)
        layer.attend = layer.attention_norm.attend


class _NormPlusValue(nn.Module):
    def __init__(self, norm: nn.Module, attend: Callable[..., Any]) -> None:
        super().__init__()
        self.norm = norm
        self._attend = attend
        self._value: torch.Tensor | None = None

    def attend(self, copies: Any, value: torch.Tensor, context: Any, state: Any) -> Any:
        self._value = value
        return self._attend(copies, value, context, state)

    def forward(self, attended: torch.Tensor) -> torch.Tensor:
        return self.norm(attended) + self._value


@torch.no_grad()
def divide_heads(model: PreTrainedModel, heads: int) -> None:
    """Give equal parts of the value's channels a query and a key of their own: further copies of the same base.

    Their gains begin scattered around 1, or all heads would attend alike at first.
    """
    for layer in model.base_model.layers:
        layer.offset_scale = OffsetScale(2 * heads, model.config.query_key_dim)
        layer.offset_scale.gain.normal_(mean=1.0, std=0.5)
        layer.attend = partial(_attend_by_heads, layer.attend)


def _attend_by_heads(
    attend: Callable[..., Any], copies: tuple[torch.Tensor, ...], value: torch.Tensor, context: Any, state: Any
) -> tuple[torch.Tensor, None]:
    pairs = zip(copies[::2], copies[1::2], strict=True)
    parts = zip(pairs, value.chunk(len(copies) // 2, dim=-1), strict=True)
    return torch.cat([attend(pair, part, context, state)[0] for pair, part in parts], dim=-1), None


@torch.no_grad()
def begin_near(model: PreTrainedModel, slope: float) -> None:
    """Let the bias of the scores begin at ``-slope * log(1 + distance / 16)``: far tokens weigh less at first."""
    for layer in model.base_model.layers:
        weight = layer.relative_bias.weight
        distances = torch.arange(len(weight)) - len(weight) // 2
        weight.copy_(-slope * (distances.abs() / 16).log1p())


@torch.no_grad()
def scale_embeddings(model: PreTrainedModel, std: float) -> None:
    """Give the embeddings, which are the decoder's matrix too, another size; what is added to them keeps its share."""
    for name, parameter in model.base_model.embeddings.named_parameters():
        if not name.startswith("norm."):
            parameter.mul_(std * model.config.hidden_size**0.5)


@torch.no_grad()
def scale_matrices(model: PreTrainedModel, factor: float) -> None:
    """Multiply the first weights of all matrices but the decoder."""
    for module in model.modules():
        if isinstance(module, nn.Linear) and module is not model.get_output_embeddings():
            module.weight.mul_(factor)


# what a variant asks for by name, and the change that it is
CHANGES: dict[str, Callable[[PreTrainedModel, Any], None]] = {
    "outer_norm": replace_outer_norms,
    "attention_norm_type": replace_attention_norms,
    "own_position": lambda model, kept: None if kept else hide_own_position(model),
    "branch_scale": scale_branches,
    "own_value": lambda model, added: add_own_value(model) if added else None,
    "activated": activate_parts,
    "convolution": convolve,
    "heads": divide_heads,
    "bias_slope": begin_near,
    "embedding_std": scale_embeddings,
    "matrix_scale": scale_matrices,
}
# of these, what changes no more than the first weights
FIRST_WEIGHTS = {"branch_scale", "bias_slope", "embedding_std", "matrix_scale"}
