"""Sequences -> rows of several sequences, with little room left over."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence

# Enough that nearly every length finds its place, few enough that neighbours in the order stay near each other.
_OPEN_ROWS = 128


def pack_sequences(lengths: Iterable[int], capacity: int) -> Iterator[Sequence[int]]:
    """Yield the sequences of each row, by their numbers, so that no row is longer than ``capacity``.

    Best fit over a window: a sequence goes to the fullest open row that has room for it, the oldest of these; where
    there are too many open rows the oldest is given out. Depends on the lengths alone. The name and the bound on
    what is left over are those of bin packing (Johnson, 1973); here the order is kept but for the window.

    Args:
        lengths: Tokens of each sequence, in order; each at most ``capacity``.
        capacity: Most tokens of a row.
    """
    rows: dict[int, list[int]] = {}  # by age; the first is the oldest
    rooms: list[tuple[int, int]] = []  # (tokens left, row), ascending
    for sequence, length in enumerate(lengths):
        place = bisect_left(rooms, (length, 0))
        if place < len(rooms):
            room, row = rooms.pop(place)
            rows[row].append(sequence)
        else:
            room, row = capacity, sequence
            rows[row] = [sequence]
        if room == length:
            yield rows.pop(row)
        else:
            insort(rooms, (room - length, row))
        if len(rows) > _OPEN_ROWS:
            oldest = next(iter(rows))
            rooms.remove(next(entry for entry in rooms if entry[1] == oldest))
            yield rows.pop(oldest)
    yield from rows.values()
