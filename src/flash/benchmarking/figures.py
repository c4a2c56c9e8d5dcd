"""A benchmark as one picture: speed-up over Transformer++, tokens a second and memory against the length."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flash.benchmarking.contestants import Contestant, parse_contestant
from flash.benchmarking.families import FAMILIES
from flash.benchmarking.records import Memory, Timing, spread
from flash.benchmarking.summary import TRANSFORMER, best_of, lengths_of, speed_up

_DPI = 120
_COLOURS = {
    "flash-quad": "C0",
    "flash": "C3",
    "earlier": "C7",
    "modernbert": "black",
    "modernbert-local": "C2",
    "bert": "C1",
}
_MARKERS = "os^vDP"
_MIB = 1 << 20
_DECADE = 10.0


def draw_benchmark(timings: Sequence[Timing], memories: Sequence[Memory], path: Path) -> None:
    """Draw a row of panels for each mode into a PNG, all axes logarithmic.

    Each contestant has one line, at each length the better of its dtypes; bands span the quartiles.
    """
    # the object interface, not pyplot: no global state and no display
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    modes = list(dict.fromkeys(row.mode for row in timings))
    columns = 3 if memories else 2
    figure = Figure(figsize=(4.8 * columns, 3.7 * len(modes) + 1.1), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(modes), columns, squeeze=False)
    stems = list(dict.fromkeys(row.parsed.stem for row in timings))
    for row, mode in zip(panels, modes, strict=True):
        _draw_speed_ups(row[0], timings, mode, stems)
        _draw_rates(row[1], timings, mode, stems)
        if memories:
            _draw_memory(row[2], [one for one in memories if one.mode == mode], mode, stems)
        lengths = lengths_of(timings, mode)
        for axes in row:
            _label_axes(axes, lengths)
    conditions = timings[0].conditions
    figure.suptitle(
        f"{conditions.size}, {conditions.batch_tokens:,} tokens a batch; {conditions.device}, "
        f"threads: {conditions.threads}; each at the better of its dtypes",
        fontsize=10,
        parse_math=False,
    )
    handles, labels = _legend(panels)
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(len(labels), 3) or 1, frameon=False, fontsize=8
    )
    figure.savefig(path, dpi=_DPI)


def _legend(panels: Any) -> tuple[list[Any], list[str]]:
    entries: dict[str, Any] = {}
    for axes in panels.flat:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    return list(entries.values()), list(entries)


def _draw_speed_ups(axes: Any, rows: Sequence[Timing], mode: str, stems: Sequence[str]) -> None:
    points: dict[str, list[tuple[int, list[float]]]] = {stem: [] for stem in stems}
    for length in lengths_of(rows, mode):
        best = best_of(rows, mode, length)
        if TRANSFORMER in best:
            for stem, row in best.items():
                points[stem].append((length, speed_up(row, best[TRANSFORMER])))
    for stem in stems:
        if stem != TRANSFORMER:
            _plot(axes, stem, points[stem], stems)
    if any(points.values()):
        axes.axhline(1, color=_COLOURS[TRANSFORMER], linewidth=1.2)
    axes.set_ylabel(f"{mode}: speed-up over Transformer++")


def _draw_rates(axes: Any, rows: Sequence[Timing], mode: str, stems: Sequence[str]) -> None:
    points: dict[str, list[tuple[int, list[float]]]] = {stem: [] for stem in stems}
    for length in lengths_of(rows, mode):
        for stem, row in best_of(rows, mode, length).items():
            points[stem].append((length, row.rates))
    for stem in stems:
        _plot(axes, stem, points[stem], stems)
    axes.set_ylabel(f"{mode}: tokens/s")


def _draw_memory(axes: Any, rows: Sequence[Memory], mode: str, stems: Sequence[str]) -> None:
    for stem in stems:
        least: dict[int, float] = {}
        for row in rows:
            if row.status == "ok" and row.parsed.stem == stem:
                mebibytes = row.step_bytes / _MIB
                least[row.length] = min(mebibytes, least.get(row.length, mebibytes))
        _plot(axes, stem, [(length, [size]) for length, size in sorted(least.items())], stems)
    axes.set_ylabel(f"{mode}: peak memory of a step (MiB)")


def _plot(axes: Any, stem: str, points: Sequence[tuple[int, Sequence[float]]], stems: Sequence[str]) -> None:
    if not points:
        return
    contestant = parse_contestant(stem)
    family = contestant.family
    # those of one family share its colour; the first has a full line
    rank = [other for other in stems if parse_contestant(other).family == family].index(stem)
    lengths = [length for length, _ in points]
    spreads = [spread(values) for _, values in points]
    axes.plot(
        lengths,
        [statistics.median(values) for _, values in points],
        marker=_MARKERS[rank % len(_MARKERS)],
        linestyle=("-", "--", ":", "-.")[rank % 4],
        color=_COLOURS[family],
        label=_title(contestant),
        markersize=4,
        linewidth=1.4,
    )
    low, high = [one[1] for one in spreads], [one[3] for one in spreads]
    axes.fill_between(lengths, low, high, color=_COLOURS[family], alpha=0.15, linewidth=0)


def _title(contestant: Contestant) -> str:
    backend = f", {contestant.backend}" if contestant.backend else ""
    return f"{FAMILIES[contestant.family].title}{backend}{', full logits' * contestant.full_logits}"


def _label_axes(axes: Any, lengths: Sequence[int]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

    if not axes.lines:
        axes.text(0.5, 0.5, "nothing measured", ha="center", va="center", transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])
        return
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator(lengths))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if _spans(axes) > _DECADE else (1, 1.5, 2, 3, 5, 7)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1024:g}k" if x >= 1024 else f"{x:g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.6g}"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
    axes.tick_params(labelsize=8)
    axes.set_xlabel("length (tokens)")
    axes.grid(alpha=0.3)


def _spans(axes: Any) -> float:
    low, high = axes.get_ylim()
    return high / low
