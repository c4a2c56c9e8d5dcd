"""The figures of a study: which classes are taken for which, and the curves of its runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager, get_font
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

MOST_NUMBERED_CLASSES = 20  # more cells than these cannot be read with numbers in them
MOST_TICKS = 40  # of many classes not every one has its name at the side
WIDEST_UPRIGHT = 40  # characters of all names that stand side by side
# families with Chinese characters, by system
CHINESE_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Micro Hei"),
    *("WenQuanYi Zen Hei", "Droid Sans Fallback", "PingFang SC", "Hiragino Sans GB", "Heiti TC", "Microsoft YaHei"),
    *("SimHei", "Arial Unicode MS"),
)


def font_for(names: Sequence[str]) -> FontProperties | None:
    """Find an installed font that has every character of the names; None where there is none."""
    wanted = {ord(character) for name in names for character in name}
    installed = {entry.name for entry in fontManager.ttflist}
    for family in ("DejaVu Sans", *CHINESE_FONTS):
        if family in installed:
            path = fontManager.findfont(family)  # the upright, regular one
            if wanted <= get_font(path).get_charmap().keys():
                return FontProperties(fname=path)
    return None


def shown_names(names: Sequence[str], labels: Sequence[str]) -> tuple[list[str], FontProperties | None]:
    """Choose what stands at the sides: names if a font has them, else the labels of the files, else numbers."""
    numbers = [str(number) for number in range(len(names))]
    for candidates in (names, labels):
        font = font_for(candidates)
        if font is not None:
            return list(candidates), font
    return numbers, font_for(numbers)


def draw_confusion(path: Path, counts: np.ndarray, names: Sequence[str], labels: Sequence[str]) -> None:
    """Draw the share of each class's rows (from above) that was taken for each class (from the left).

    Args:
        counts: Rows of a right and a predicted class, (classes, classes).
        names: Readable names of the classes.
        labels: What stands for them in the files.
    """
    size = min(max(4.0, 0.45 * len(names) + 2.0), 16.0)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=max(shares.max(), 0.01))
    figure.colorbar(image, ax=axes, label="share of the rows of a class", shrink=0.8)
    if len(names) <= MOST_NUMBERED_CLASSES:
        for row, column in np.ndindex(counts.shape):
            if counts[row, column]:
                colour = "white" if shares[row, column] > 0.5 * shares.max() else "black"
                axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=7)
    shown, font = shown_names(names, labels)
    ticks = range(0, len(names), -(-len(names) // MOST_TICKS))
    texts = [shown[tick] for tick in ticks]
    upright = max(map(len, shown)) * len(texts) <= WIDEST_UPRIGHT
    axes.set_xticks(ticks, texts, rotation=0 if upright else 90, fontproperties=font, fontsize=8)
    axes.set_yticks(ticks, texts, fontproperties=font, fontsize=8)
    axes.set_xlabel("predicted" if shown == list(names) else "predicted (README.md has the names)")
    axes.set_ylabel("right")
    figure.savefig(path, dpi=120, bbox_inches="tight")


def draw_curves(path: Path, metric: str, records: Sequence[dict[str, Any]]) -> None:
    """Draw loss and score against epochs, a colour a seed; what is known of one moment only is a dot."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    for number, record in enumerate(records):
        for axes, key, style in (
            (panels[0], "loss", ".-"),
            (panels[0], "eval_loss", "o--"),
            (panels[1], f"eval_{metric}", "o-"),
        ):
            points = [(entry["epoch"], entry[key]) for entry in record["curve"] if key in entry]
            if points:
                axes.plot(*zip(*points, strict=True), style, color=f"C{number % 10}", markersize=4, linewidth=1.2)
    for axes, what in zip(panels, ("loss", metric.replace("_", " ")), strict=True):
        axes.set_xlabel("epoch")
        axes.set_ylabel(what)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    lines = [
        Line2D([], [], color="gray", marker="."),
        Line2D([], [], color="gray", linestyle="--", marker="o", markersize=4),
    ]
    panels[0].legend(lines, ["training", "dev"], loc="best", frameon=False, fontsize=8)
    seeds = [Line2D([], [], color=f"C{number % 10}") for number in range(len(records))]
    panels[1].legend(seeds, [f"seed {record['seed']}" for record in records], loc="best", frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)
