"""Results as Markdown tables that a terminal shows well too."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import TypeVar

from flash.benchmarking.benchmark import Results
from flash.benchmarking.records import Memory, Padding, Point, Timing, spread
from flash.benchmarking.summary import EARLIER, TRANSFORMER, best_of, fastest_peer, has_others, lengths_of, speed_up

P = TypeVar("P", bound=Point)
MIB = 1 << 20


def format_results(results: Results) -> str:
    """Write all tables of a folder, one below the other, each under a line that says what it shows."""
    parts = []
    if results.timings:
        one = results.timings[0].conditions
        parts += [
            f"Size {one.size}, {one.batch_tokens:,} tokens a batch. Tokens/s: median [quartiles] (least ... most) of "
            f"{one.rounds} rounds; ratio: to {one.baseline}, round by round; products: share of the rate of a large "
            "matrix product in the same rounds.",
            timing_table(results.timings),
        ]
        if has_others(results.timings):
            parts += [
                "Speed-ups, median [quartiles]; each at the better of its dtypes.",
                speed_up_table(results.timings),
            ]
    if results.memories:
        parts += ["Peak memory of a step, MiB above what is held before it.", memory_table(results.memories)]
    if results.paddings:
        parts += ["Real tokens/s of rows of unequal length, median (least ... most).", padding_table(results.paddings)]
    return "\n\n".join(parts)


def timing_table(rows: Sequence[Timing]) -> str:
    """Write a line for each mode, length and contestant."""
    header = ["mode", "length", "rows", "contestant", "tokens/s", "ratio", "GFLOP/s", "products"]
    return markdown_table(header, [_timing_cells(row) for row in _in_order(rows)], texts={0, 3})


def speed_up_table(rows: Sequence[Timing]) -> str:
    """Write how many times as fast each contestant is as Transformer++, the fastest peer and the earlier code."""
    cells = []
    for mode in dict.fromkeys(row.mode for row in rows):
        for length in lengths_of(rows, mode):
            best = best_of(rows, mode, length)
            peer = fastest_peer(best)
            for stem, row in best.items():
                against = [best.get(TRANSFORMER), peer, best.get(EARLIER)]
                ratios = ["-" if other is None else _median_quartiles(speed_up(row, other)) for other in against]
                name = "-" if peer is None else peer.contestant
                cells.append([mode, f"{length:,}", stem, row.parsed.dtype, *ratios, name])
    header = [
        "mode",
        "length",
        "contestant",
        "dtype",
        *(f"over {name}" for name in ("Transformer++", "fastest peer", "earlier code")),
    ]
    return markdown_table([*header, "fastest peer"], cells, texts={0, 2, 3, 7})


def memory_table(rows: Sequence[Memory]) -> str:
    """Write the peak memory of each contestant by length, a line each; the ratio to the baseline in brackets."""
    lengths = sorted({row.length for row in rows})
    by_key = {row.key: row for row in rows}
    lines = []
    for mode, name in dict.fromkeys((row.mode, row.contestant) for row in rows):
        cells = []
        for length in lengths:
            row = by_key.get((mode, name, length))
            cells.append("-" if row is None else _memory_cell(row, by_key.get((mode, row.conditions.baseline, length))))
        lines.append([mode, name, *cells])
    return markdown_table(["mode", "contestant", *(f"{n:,}" for n in lengths)], lines, texts={0, 1})


def padding_table(rows: Sequence[Padding]) -> str:
    """Write real tokens a second padded and packed, and the ratio."""
    header = ["mode", "width", "real tokens", "contestant", "padded", "packed", "ratio"]
    return markdown_table(header, [_padding_cells(row) for row in _in_order(rows)], texts={0, 3})


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, texts: Iterable[int]) -> str:
    """Write an aligned Markdown table: numbers to the right, and to the left the columns ``texts``."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    texts = set(texts)

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if index in texts else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = ["-" * width if index in texts else "-" * (width - 1) + ":" for index, width in enumerate(widths)]
    return "\n".join(map(line, [header, rule, *rows]))


def _in_order(rows: Sequence[P]) -> list[P]:
    modes = list(dict.fromkeys(row.mode for row in rows))
    return sorted(rows, key=lambda row: (modes.index(row.mode), row.length))


def _timing_cells(row: Timing) -> list[str]:
    who = [row.mode, f"{row.length:,}", f"{row.rows:,}", row.contestant]
    if row.status != "ok":
        return [*who, row.status, "-", "-", "-"]
    least, low, median, high, most = spread(row.rates)
    rates = f"{median:,.0f} [{low:,.0f} {high:,.0f}] ({least:,.0f} ... {most:,.0f})"
    ratio = _median_quartiles(row.ratios) if row.ratios else "-"
    gigaflops = f"{row.derived()['flops_per_second'] / 1e9:,.1f}"
    return [*who, rates, ratio, gigaflops, f"{statistics.median(row.shares):.0%}" if row.shares else "-"]


def _padding_cells(row: Padding) -> list[str]:
    who = [row.mode, f"{row.length:,}", f"{row.real_tokens:,} of {row.rows * row.length:,}", row.contestant]
    if row.status != "ok":
        return [*who, row.status, "-", "-"]
    kinds = [_rates(row.real_tokens, seconds) for seconds in (row.padded_seconds, row.packed_seconds)]
    return [*who, *kinds, _median_quartiles(row.ratios) if row.ratios else "-"]


def _rates(tokens: int, seconds: Sequence[float]) -> str:
    if not seconds:
        return "-"
    least, _, median, _, most = spread([tokens / s for s in seconds])
    return f"{median:,.0f} ({least:,.0f} ... {most:,.0f})"


def _median_quartiles(values: Sequence[float]) -> str:
    _, low, median, high, _ = spread(values)
    return f"{median:.2f} [{low:.2f} {high:.2f}]"


def _memory_cell(row: Memory, baseline: Memory | None) -> str:
    if row.status != "ok":
        return row.status
    size = f"{row.step_bytes / MIB:,.0f}"
    if baseline is None or baseline.status != "ok" or not baseline.step_bytes:
        return size
    return f"{size} ({row.step_bytes / baseline.step_bytes:.2f})"
