"""Run a model over text and describe what each of its layers does to real tokens."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from flash.inspection.attention import AttentionStatistics, attention_statistics, rows_of_real_tokens
from flash.inspection.distribution import Distribution, describe
from flash.inspection.stream import cosine_similarity, relative_update, root_mean_square

_ATTENTION_NAMES = tuple(field.name for field in fields(AttentionStatistics))


@dataclass(frozen=True)
class LayerMeasures:
    """What one layer does, over real tokens; see docs/inspect.md for the meaning of each number.

    Args:
        layer: Counted from 1.
        cosine: Cosine similarity of the layer's input and output.
        update: ``|output - input| / |input|``.
        rms: Root mean square of the output's channels.
        distance: Distance in tokens, averaged with the attention's weights.
        zero_share: Share of the visible keys with a weight of exactly 0.
        effective_keys: ``exp(entropy)`` of the normalised row over the number of visible keys.
        self_share: Share of a row's weight on the token itself.
        empty_share: Share of the tokens without any weight.
        finite: Whether every number of the output is finite.
    """

    layer: int
    cosine: Distribution
    update: Distribution
    rms: Distribution
    distance: Distribution
    zero_share: Distribution
    effective_keys: Distribution
    self_share: Distribution
    empty_share: float
    finite: bool


@dataclass(frozen=True)
class UniformAttention:
    """What attention of equal weights to all real tokens of the same rows would have.

    Args:
        distance: Mean distance in tokens.
        self_share: Mean share of the token itself.
    """

    distance: float | None
    self_share: float | None


@dataclass(frozen=True)
class StackMeasures:
    """The root mean square of what enters the first layer, what each layer does, and uniform attention beside it."""

    embeddings_rms: Distribution
    layers: list[LayerMeasures]
    uniform_attention: UniformAttention


class _Collector:
    """Keeps a few numbers a token and layer; weights are reduced to them before the next layer makes its own."""

    def __init__(self) -> None:
        self.values: dict[str, list[Tensor]] = {}
        self.finite = True

    def add(self, **statistics: Tensor) -> None:
        for name, values in statistics.items():
            self.values.setdefault(name, []).append(values.float().cpu())

    def describe(self, name: str) -> Distribution:
        return describe(torch.cat(self.values[name]))


@torch.inference_mode()
def measure_layers(model: PreTrainedModel, batches: Iterable[tuple[Tensor, Tensor]]) -> StackMeasures:
    """Measure every layer of an encoder in evaluation mode.

    Args:
        model: A model of this package, with a head or without.
        batches: Pairs of ``input_ids`` and ``attention_mask``, each ``(batch_size, sequence_length)``; at least one
            real token a row.
    """
    encoder = model.base_model
    entrance = _Collector()
    collectors = [_Collector() for _ in encoder.layers]
    with ExitStack() as hooks:
        # the only backend that has the weights, and that leaves padding where it is
        hooks.callback(setattr, encoder.config, "attention_backend", encoder.config.attention_backend)
        encoder.config.attention_backend = "reference"
        hooks.callback(encoder.layers[0].register_forward_hook(partial(_observe_entrance, entrance)).remove)
        for layer, collector in zip(encoder.layers, collectors, strict=True):
            hooks.callback(layer.register_forward_hook(partial(_observe_layer, collector)).remove)
        for input_ids, attention_mask in batches:
            encoder(input_ids=input_ids.to(model.device), attention_mask=attention_mask.to(model.device))
    return StackMeasures(
        embeddings_rms=entrance.describe("rms"),
        layers=[_summary(number, collector) for number, collector in enumerate(collectors, start=1)],
        uniform_attention=UniformAttention(entrance.describe("distance").mean, entrance.describe("self_share").mean),
    )


def _observe_layer(
    collector: _Collector, layer: nn.Module, arguments: tuple[Any, ...], output: tuple[Tensor, Tensor]
) -> None:
    """Read a layer's input, output and weights; a forward hook of PyTorch."""
    hidden_states, context = arguments[:2]
    out, weights = output
    before, after = hidden_states[context.mask], out[context.mask]  # (tokens, d)
    collector.finite &= bool(after.isfinite().all())
    collector.add(
        cosine=cosine_similarity(before, after), update=relative_update(before, after), rms=root_mean_square(after)
    )
    statistics = attention_statistics(*rows_of_real_tokens(weights, context))
    collector.add(**{name: getattr(statistics, name) for name in _ATTENTION_NAMES})


def _observe_entrance(
    collector: _Collector, layer: nn.Module, arguments: tuple[Any, ...], output: tuple[Tensor, Tensor]
) -> None:
    """Read what enters the first layer, and what uniform attention over the same tokens would be."""
    hidden_states, context = arguments[:2]
    rows, real = rows_of_real_tokens(output[1], context)
    equal = attention_statistics(torch.ones_like(rows), real)
    collector.add(
        rms=root_mean_square(hidden_states[context.mask]), distance=equal.distance, self_share=equal.self_share
    )


def _summary(number: int, collector: _Collector) -> LayerMeasures:
    empty = collector.describe("empty").mean
    assert empty is not None  # 0 or 1 for each of at least one token
    described = ("cosine", "update", "rms", "distance", "zero_share", "effective_keys", "self_share")
    return LayerMeasures(
        layer=number,
        **{name: collector.describe(name) for name in described},
        empty_share=empty,
        finite=collector.finite,
    )
