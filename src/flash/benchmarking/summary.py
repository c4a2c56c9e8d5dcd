"""What the rows say: the best of each contestant, and how many times as fast it is as another."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from flash.benchmarking.families import FAMILIES
from flash.benchmarking.records import Timing

TRANSFORMER = "modernbert"  # with all layers global, the Transformer++ that the paper compares with
EARLIER = "earlier"


def best_of(rows: Iterable[Timing], mode: str, length: int) -> dict[str, Timing]:
    """Take of each contestant at a length the fastest of its dtypes, compiled or not.

    Returns:
        Rows that were measured, by ``Contestant.stem``.
    """
    best: dict[str, Timing] = {}
    for row in rows:
        if (row.mode, row.length, row.status) == (mode, length, "ok"):
            stem = row.parsed.stem
            if stem not in best or _pace(row) > _pace(best[stem]):
                best[stem] = row
    return best


def speed_up(own: Timing, other: Timing) -> list[float]:
    """Return how many times as fast one is as another, round by round.

    Both are compared through the baseline of their own rounds, so that rows of two sessions can be compared; within
    one session the baseline cancels. Without a baseline at that length, seconds are compared with seconds.
    """
    if own.ratios and other.ratios:
        return [mine / theirs for mine, theirs in zip(own.ratios, other.ratios, strict=True)]
    return [theirs / mine for mine, theirs in zip(own.seconds, other.seconds, strict=True)]


def fastest_peer(best: dict[str, Timing]) -> Timing | None:
    """Return the fastest model of transformers, None where none was measured."""
    peers = [row for row in best.values() if not FAMILIES[row.parsed.family].gated]
    return max(peers, key=_pace, default=None)


def has_others(rows: Iterable[Timing]) -> bool:
    """Say whether there is a model of transformers or the earlier code among them, to be compared with."""
    return any(row.parsed.stem == EARLIER or not FAMILIES[row.parsed.family].gated for row in rows)


def lengths_of(rows: Sequence[Timing], mode: str) -> list[int]:
    """Return the lengths of a mode in order."""
    return sorted({row.length for row in rows if row.mode == mode})


def _pace(row: Timing) -> float:
    """Order rows by their ratio to the baseline, that of their own rounds, or else by tokens a second."""
    return statistics.median(row.ratios or row.rates)
