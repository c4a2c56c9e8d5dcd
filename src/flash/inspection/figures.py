"""An inspection as three pictures: what layers do, where attention goes, how predictions bear other lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flash.inspection.distribution import Distribution
from flash.inspection.inspector import Inspection, ModelMeasures
from flash.inspection.layers import LayerMeasures
from flash.inspection.lengths import LengthMeasures

LAYERS_FIGURE = "layers.png"
ATTENTION_FIGURE = "attention.png"
LENGTHS_FIGURE = "lengths.png"

_DPI = 120
# name, colour and line style of the two models
_MODELS = (("trained", "C0", "-"), ("untrained", "C1", "--"))


def draw_figures(inspection: Inspection, folder: str | Path) -> list[Path]:
    """Draw ``layers.png``, ``attention.png`` and ``lengths.png`` into a folder that exists, and return their paths."""
    models = [inspection.trained] if inspection.untrained is None else [inspection.trained, inspection.untrained]
    name = _title(inspection)
    drawings = {
        LAYERS_FIGURE: _draw_layers(models, name),
        ATTENTION_FIGURE: _draw_attention(models, name),
        LENGTHS_FIGURE: _draw_lengths(models, name, inspection.model["configuration"]["max_position_embeddings"]),
    }
    paths = []
    for file, figure in drawings.items():
        paths.append(Path(folder) / file)
        figure.savefig(paths[-1], dpi=_DPI)
    return paths


def _title(inspection: Inspection) -> str:
    """Name the model by its folder or hub id; by its class where the font of the figures has no such letters."""
    name = Path(inspection.model["name"]).resolve().name  # also of "."
    return name if name.isascii() else str(inspection.model["class"])


def _draw_layers(models: Sequence[ModelMeasures], name: str) -> Any:
    figure, panels = _figure(f"{name}: what each layer does to the stream", 1, 3)
    _plot_layers(panels[0], models, lambda layer: layer.cosine, "cosine similarity of input and output")
    _plot_layers(panels[1], models, lambda layer: layer.update, "update:  |output - input| / |input|")
    _plot_layers(panels[2], models, lambda layer: layer.rms, "root mean square of the output")
    _widen(panels[0], least=0.01, top=1.0)
    panels[1].set_yscale("log")
    panels[2].set_ylim(bottom=0)
    for (_, colour, _style), measures in zip(_MODELS, models, strict=False):
        if measures.stack.embeddings_rms.mean is not None:
            panels[2].plot([0], [measures.stack.embeddings_rms.mean], "D", color=colour, markersize=5)
    panels[2].set_xlabel("layer (0: the embeddings)")
    _finish(panels, "mean, and band from 10th to 90th percentile over tokens")
    return figure


def _draw_attention(models: Sequence[ModelMeasures], name: str) -> Any:
    figure, panels = _figure(f"{name}: where attention goes", 2, 2)
    _plot_layers(panels[0], models, lambda layer: layer.distance, "weighted mean distance (tokens)")
    _plot_layers(panels[1], models, lambda layer: layer.effective_keys, "effective keys / visible keys")
    _plot_layers(panels[2], models, lambda layer: layer.zero_share, "share of visible keys with weight 0")
    _plot_layers(panels[3], models, lambda layer: layer.self_share, "share of the weight on the token itself")
    uniform = models[0].stack.uniform_attention
    for axes, value in ((panels[0], uniform.distance), (panels[1], 1.0), (panels[3], uniform.self_share)):
        if value is not None:
            axes.axhline(value, color="grey", linestyle=":", label="uniform attention")
    for (label, colour, style), measures in zip(_MODELS, models, strict=False):
        numbers = [layer.layer for layer in measures.stack.layers]
        shares = [layer.empty_share for layer in measures.stack.layers]
        # not clipped: mostly they lie on the axis
        name_of_line = f"{label}: no weight at all"
        panels[2].plot(
            numbers, shares, f"x{style}", color=colour, markersize=5, linewidth=0.8, clip_on=False, label=name_of_line
        )
    for axes in panels:
        axes.set_ylim(bottom=0)
    panels[1].set_ylim(top=1.05)
    panels[2].legend(loc="best", frameon=False, fontsize=8)
    _finish(panels, "mean, and band from 10th to 90th percentile over tokens")
    return figure


def _draw_lengths(models: Sequence[ModelMeasures], name: str, longest: int) -> Any:
    figure, panels = _figure(f"{name}: the same masked sentences in other inputs", 2, 2)
    quantities: tuple[tuple[Callable[[LengthMeasures], float | None], str], ...] = (
        (lambda measures: measures.loss, "loss (nats per masked token)"),
        (lambda measures: measures.loss_change, "loss less that of the sentence alone (nats)"),
        (lambda measures: measures.hidden_cosine.mean, "cosine of hidden states to those alone"),
        (lambda measures: measures.kl_divergence, "KL divergence from predictions alone (nats)"),
    )
    # padding first: the line then runs from the sentence alone through ever longer inputs
    ordered = [sorted(one.lengths, key=lambda measures: not _is_padded(measures)) for one in models]
    settings = ordered[0]
    padded = sum(map(_is_padded, settings))
    for axes, (read, title) in zip(panels, quantities, strict=True):
        for (label, colour, style), lengths in zip(_MODELS, ordered, strict=False):
            values = [_or_nan(read(one)) for one in lengths]
            axes.plot(range(padded, len(values)), values[padded:], f"o{style}", color=colour, label=label, markersize=4)
            axes.plot(range(padded), values[:padded], "s", color=colour, fillstyle="none", label=f"{label}, padded")
        axes.set_ylabel(title, fontsize=9)
        axes.set_xticks(range(len(settings)), [_tick(one) for one in settings], fontsize=8)
        axes.set_xlabel("tokens of the input")
    for (_, colour, _style), lengths in zip(_MODELS, ordered, strict=False):
        _draw_errors(panels[1], lengths, colour)
    panels[1].axhline(0, color="grey", linewidth=0.8)
    # so that noise does not fill a panel
    _widen(panels[0], least=0.5)
    _widen(panels[1], least=0.5)
    _widen(panels[2], least=0.05, top=1.0)
    panels[3].set_ylim(0, max(0.05, panels[3].get_ylim()[1]))
    beyond = [i for i, one in enumerate(settings) if one.setting == "within" and one.length > longest]
    for axes in panels:
        if beyond:
            axes.axvspan(
                beyond[0] - 0.5, len(settings) - 0.5, color="grey", alpha=0.12, label="longer than the model's maximum"
            )
    _finish(panels, "bars: one standard error; long inputs: fewer sentences, compared with the same ones alone")
    return figure


def _figure(title: str, rows: int, columns: int) -> tuple[Any, list[Any]]:
    # the object interface, not pyplot: no global state and no display
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * columns, 3.6 * rows + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, parse_math=False)
    return figure, list(figure.subplots(rows, columns).flat)


def _plot_layers(
    axes: Any, models: Sequence[ModelMeasures], read: Callable[[LayerMeasures], Distribution], title: str
) -> None:
    for (label, colour, style), measures in zip(_MODELS, models, strict=False):
        numbers = [layer.layer for layer in measures.stack.layers]
        means, low, high = (
            [_or_nan(getattr(read(layer), name)) for layer in measures.stack.layers] for name in ("mean", "p10", "p90")
        )
        axes.plot(numbers, means, f"o{style}", color=colour, label=label, markersize=3.5, linewidth=1.4)
        axes.fill_between(numbers, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("layer")
    axes.set_ylabel(title)
    axes.ticklabel_format(axis="y", useOffset=False)


def _widen(axes: Any, *, least: float, top: float | None = None) -> None:
    """Make the y-axis span at least so much, with room for a highest possible value if there is one."""
    low, high = axes.get_ylim()
    if top is None:
        missing = max(0.0, least - (high - low)) / 2
        axes.set_ylim(low - missing, high + missing)
    else:
        low = min(low, top - least)
        axes.set_ylim(low, top + 0.05 * (top - low))


def _draw_errors(axes: Any, lengths: Sequence[LengthMeasures], colour: str) -> None:
    for position, one in enumerate(lengths):
        if one.loss_change is not None and one.loss_change_error is not None:
            axes.errorbar(position, one.loss_change, yerr=one.loss_change_error, color=colour, capsize=2, linewidth=0.9)


def _is_padded(measures: LengthMeasures) -> bool:
    return measures.setting.startswith("padded")


def _tick(measures: LengthMeasures) -> str:
    names = {
        "alone": f"alone\n({measures.length:.0f})",
        "padded_right": f"pad\nright\n{measures.length:.0f}",
        "padded_left": f"pad\nleft\n{measures.length:.0f}",
    }
    return names.get(measures.setting, f"{measures.length:.0f}")


def _finish(panels: Sequence[Any], note: str) -> None:
    for axes in panels:
        axes.grid(alpha=0.3)
    panels[0].legend(loc="best", frameon=False, fontsize=8)
    panels[0].figure.supxlabel(note, fontsize=8, color="dimgrey")


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
