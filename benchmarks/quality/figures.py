"""Figures of docs/quality.md: curves against tokens and time, learning-rate sweeps, other lengths, what layers do."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from contestants import CONTESTANTS
from summary import Tuned

STYLES = ("-", "-", "--", "-.", ":", "-", "--", "-.", ":")
COLOURS = ("#0072b2", "#56b4e9", "#999999", "#d55e00", "#e69f00", "#009e73", "#cc79a7", "#000000", "#8c564b")
_ORDER = ("-", "--", ":", "-.")


def looks() -> Iterator[tuple[str, str]]:
    """Give up to 36 lines a style and a colour each; when the colours come round again, the styles are others."""
    for turn in range(len(_ORDER)):
        for style, colour in zip(STYLES, COLOURS, strict=True):
            yield _ORDER[(_ORDER.index(style) + turn) % len(_ORDER)], colour


def look_of_contestant(name: str) -> tuple[str, str]:
    """Give a contestant the same style and colour in each figure, whoever else is in it."""
    return dict(zip(CONTESTANTS, looks(), strict=False))[name]


END_OF_A_CURVE = 0.6  # of the tokens on, the best ones are drawn larger
NEAR_THE_BEST = 0.24  # nats


def draw_curves(contestants: Sequence[Tuned], path: Path) -> None:
    """Draw validation loss against tokens and against seconds of one core: the mean of the seeds, and each seed.

    A third panel is the end of the first, around the best.
    """
    figure = Figure(figsize=(14, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 3)
    for contestant in contestants:
        style, colour = look_of_contestant(contestant.runs[0].contestant)
        curves = [record["curve"] for record in contestant.records]
        for axes, name, unit in zip(panels, ("tokens", "seconds", "tokens"), (1e-6, 1.0, 1e-6), strict=True):
            for curve in curves:
                axes.plot(
                    [point[name] * unit for point in curve],
                    [point["loss"] for point in curve],
                    color=colour,
                    alpha=0.25,
                    linewidth=0.8,
                )
            steps = range(min(len(curve) for curve in curves))
            axes.plot(
                [mean(curve[i][name] for curve in curves) * unit for i in steps],
                [mean(curve[i]["loss"] for curve in curves) for i in steps],
                style,
                color=colour,
                label=contestant.label,
                linewidth=1.8,
            )
    panels[0].set_xlabel("tokens of training (millions)")
    panels[1].set_xlabel("processor seconds of training, one core")
    panels[0].set_ylabel("validation loss (nats per masked token)")
    panels[2].set_xlabel("tokens of training (millions): the end, larger")
    ends = [record["curve"][-1] for contestant in contestants for record in contestant.records]
    most, best = max(end["tokens"] for end in ends) * 1e-6, min(end["loss"] for end in ends)
    panels[2].set_xlim(END_OF_A_CURVE * most, 1.01 * most)
    panels[2].set_ylim(best - 0.1 * NEAR_THE_BEST, best + NEAR_THE_BEST)
    for axes in panels:
        axes.grid(alpha=0.3)
    figure.legend(
        *panels[0].get_legend_handles_labels(), frameon=False, fontsize=9, loc="outside lower center", ncols=3
    )
    figure.savefig(path, dpi=120)


def draw_sweeps(contestants: Sequence[Tuned], path: Path) -> None:
    """Draw the validation loss of the first seed against the learning rate, a panel for each optimizer."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = dict(zip((False, True), figure.subplots(1, 2), strict=True))  # by Muon or not
    for contestant in contestants:
        name = contestant.runs[0].contestant
        style, colour = look_of_contestant(name)
        panels[CONTESTANTS[name].muon].plot(
            list(contestant.sweep),
            list(contestant.sweep.values()),
            f"o{style}",
            color=colour,
            label=contestant.label,
            markersize=4,
        )
    panels[False].set_xlabel("highest learning rate, AdamW")
    panels[True].set_xlabel("highest learning rate of AdamW's part; Muon has a quarter of it")
    for axes in panels.values():
        axes.set_ylabel("validation loss (nats per masked token)")
    for muon, axes in panels.items():
        drawn = [each for each in contestants if CONTESTANTS[each.runs[0].contestant].muon == muon]
        rates = sorted({rate for each in drawn for rate in each.sweep})
        axes.set_xscale("log")
        axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=120)


def draw_lengths(contestants: Sequence[Tuned], path: Path, *, trained_at: int, matched: dict[int, float]) -> None:
    """Draw the loss of models trained at one length against the length of the validation rows.

    The models with a norm on the attention output stand on the left, the others on the right beside the first one.

    Args:
        contestants: The recommended model first.
        matched: Loss of a model trained at each length, measured there.
    """
    figure = Figure(figsize=(12, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    looks_of = (looks(), looks())
    for contestant in contestants:
        losses = {length: mean(seeds) for length, seeds in contestant.losses_at_lengths().items()}
        label = contestant.label.replace("`", "").removeprefix("attention_norm=False, ")
        normed = dict(contestant.runs[0].settings).get("attention_norm", True)
        for panel in (0, 1) if contestant is contestants[0] else (0 if normed else 1,):
            style, colour = next(looks_of[panel])
            panels[panel].plot(
                list(losses),
                list(losses.values()),
                f"o{style}",
                color=colour,
                label=label.removesuffix(", attention_norm=False"),
                markersize=3,
            )
    if matched:
        panels[0].plot(list(matched), list(matched.values()), "k*", label="FLASH-Quad, trained at that length")
    lengths = sorted({length for contestant in contestants for length in contestant.losses_at_lengths()})
    for axes, title in zip(panels, ("with a norm on the attention output", "without, but for FLASH-Quad"), strict=True):
        axes.set_title(title, fontsize=10)
        axes.axvline(trained_at, color="black", alpha=0.3, linewidth=1)
        axes.set_xscale("log", base=2)
        axes.set_xticks(lengths, [f"{length:,}" for length in lengths])
        axes.set_xlabel(f"tokens in a row (training: {trained_at})")
        axes.set_ylabel("validation loss (nats per masked token)")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
    figure.savefig(path, dpi=120)


def draw_signal(inspections: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw what the layers of models do before and after training, and what other lengths do to their predictions.

    Args:
        inspections: What `flashquad inspect` wrote, by the name of the model.
    """
    figure = Figure(figsize=(11, 7.4), layout="constrained")
    FigureCanvasAgg(figure)
    update, trained_update, cosine, lengths_axes = figure.subplots(2, 2).flat
    for (name, found), colour in zip(inspections.items(), (COLOURS[3], COLOURS[0]), strict=False):
        for state, style in (("trained", "o-"), ("untrained", "s:")):
            layers = found[state]["stack"]["layers"]
            numbers = [layer["layer"] for layer in layers]
            drawn = [(update, "update"), (cosine, "cosine")] + [(trained_update, "update")] * (state == "trained")
            for axes, measure in drawn:
                values = [layer[measure]["mean"] for layer in layers]
                axes.plot(numbers, values, style, color=colour, label=f"{name}, {state}", markersize=4)
        within = [entry for entry in found["trained"]["lengths"] if entry["setting"] in ("alone", "within")]
        lengths_axes.errorbar(
            [entry["length"] for entry in within],
            [entry["loss_change"] for entry in within],
            [entry["loss_change_error"] for entry in within],
            fmt="o-",
            color=colour,
            label=name,
            markersize=4,
            capsize=2,
        )
    update.set_yscale("log")
    trained_update.set_ylim(bottom=0)
    update.set_ylabel("update: |output - input| / |input|")
    trained_update.set_ylabel("the same after training, not logarithmic")
    cosine.set_ylabel("cosine of a layer's input and output")
    for axes in (update, trained_update, cosine):
        axes.set_xlabel("layer")
    lengths_axes.set_xscale("log", base=2)
    lengths_axes.set_xlabel("tokens of the input around a sentence")
    lengths_axes.set_ylabel("loss less that of the sentence alone (nats)")
    lengths = sorted(
        {round(entry["length"]) for found in inspections.values() for entry in found["trained"]["lengths"]}
    )
    lengths_axes.set_xticks(lengths, [str(length) for length in lengths])
    lengths_axes.minorticks_off()
    lengths_axes.axhline(0, color="black", alpha=0.4, linewidth=1)
    for axes in (update, trained_update, cosine, lengths_axes):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)
