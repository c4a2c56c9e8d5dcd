"""An inspection as aligned tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from flash.inspection.inspector import Inspection
from flash.inspection.layers import LayerMeasures
from flash.inspection.lengths import LengthMeasures

_LAYER_HEADINGS = ("layer", "cosine", "update", "rms", "distance", "eff. keys", "zero", "self", "no weight")
_LENGTH_HEADINGS = ("input", "tokens", "sentences", "loss", "change", "error", "accuracy", "hidden cos.", "KL")
_NONE = "-"


def format_tables(inspection: Inspection) -> str:
    """Write what was measured as text: a line a layer, a line a length, and the warnings."""
    model, text = inspection.model, inspection.text
    lines = [
        f"{model['name']}: {model['class']}, {model['parameters']:,} parameters, "
        f"{len(inspection.trained.stack.layers)} layers; {text['rows']} rows, {text['tokens']:,} tokens",
        "",
        *_layer_table(inspection),
        "",
        f"{text['sentences']} sentences, {text['masked_tokens']} masked tokens; loss, change from alone and KL in nats",
        *_align([_LENGTH_HEADINGS, *(_length_row(one) for one in inspection.trained.lengths)]),
        "",
    ]
    if inspection.warnings:
        return "\n".join([*lines, *(f"warning: {warning}" for warning in inspection.warnings)])
    return "\n".join([*lines, "no measure exceeds its threshold"])


def _layer_table(inspection: Inspection) -> list[str]:
    layers = inspection.trained.stack.layers
    rows: list[Sequence[str]] = [_LAYER_HEADINGS, *(_layer_row(layer) for layer in layers)]
    if inspection.untrained is not None:
        fresh = inspection.untrained.stack.layers
        added = [("untrained: cosine", "update"), *(_layer_row(layer)[1:3] for layer in fresh)]
        rows = [(*row, *more) for row, more in zip(rows, added, strict=True)]
    return _align(rows)


def _layer_row(layer: LayerMeasures) -> tuple[str, ...]:
    return (
        str(layer.layer),
        _number(layer.cosine.mean, ".5f"),
        _number(layer.update.mean, ".2e"),
        _number(layer.rms.mean, ".3g"),
        _number(layer.distance.mean, ".1f"),
        _number(layer.effective_keys.mean, ".1%"),
        _number(layer.zero_share.mean, ".1%"),
        _number(layer.self_share.mean, ".1%"),
        _number(layer.empty_share, ".1%"),
    )


def _length_row(measures: LengthMeasures) -> tuple[str, ...]:
    return (
        measures.setting.replace("_", " "),
        _number(measures.length, ",.0f"),
        str(measures.sentences),
        _number(measures.loss, ".3f"),
        _number(measures.loss_change, "+.3f"),
        _number(measures.loss_change_error, ".3f"),
        _number(measures.accuracy, ".1%"),
        _number(measures.hidden_cosine.mean, ".5f"),
        _number(measures.kl_divergence, ".2e"),
    )


def _number(value: float | None, form: str) -> str:
    return _NONE if value is None else format(value, form)


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Put columns under one another: the first to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
