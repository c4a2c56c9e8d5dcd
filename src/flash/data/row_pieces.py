"""Rows that are longer than a model's: cut into pieces of about the same length, where words begin."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from flash.data.row_places import RowPlaces, read_bits

SPECIAL_TOKEN_COUNT = 2  # [CLS] and [SEP], which each piece has


def piece_counts(lengths: NDArray[np.int64], max_length: int) -> NDArray[np.int64]:
    """Say into how many pieces rows are cut, from their lengths alone, so that no text need be read to number them.

    Args:
        lengths: Tokens of each row, [CLS] and [SEP] counted.
        max_length: Most tokens of a piece, [CLS] and [SEP] counted.
    """
    room = max_length - SPECIAL_TOKEN_COUNT
    pieces = -(-(lengths - SPECIAL_TOKEN_COUNT) // (room - _leeway(room)))
    return np.where(lengths > max_length, pieces, 1)


def _leeway(room: int) -> int:
    """Say how many tokens before its even place a cut may be, to be where a word begins."""
    return min(16, room // 4)


def cut_rows(rows: RowPlaces, piece: NDArray[np.int64], count: NDArray[np.int64], max_length: int) -> RowPlaces:
    """Narrow each row down to one of its pieces.

    Even cuts are moved back to the last word start within 16 tokens (in short pieces a quarter of their length); where
    there is none, in a word that is longer, they stay.

    Args:
        rows: Rows, each as often as pieces of it are wanted.
        piece: Number of the wanted piece, ``(rows,)``.
        count: Number of pieces of the row, by ``piece_counts``, ``(rows,)``.
        max_length: Most tokens of a piece, [CLS] and [SEP] counted.
    """
    leeway = _leeway(max_length - SPECIAL_TOKEN_COUNT)
    return replace(
        rows, begins=_cuts(rows, piece, count, leeway=leeway), ends=_cuts(rows, piece + 1, count, leeway=leeway)
    )


def _cuts(rows: RowPlaces, number: NDArray[np.int64], count: NDArray[np.int64], *, leeway: int) -> NDArray[np.int64]:
    even = 1 + number * (rows.tokens.lengths - SPECIAL_TOKEN_COUNT) // count
    places = np.maximum(even[:, None] - np.arange(leeway + 1), 0)  # (rows, leeway + 1), the even place first
    is_start = read_bits(rows.word_starts, np.arange(len(even))[:, None], places)
    is_inner = (number > 0) & (number < count)
    return np.where(is_inner, even - is_start.argmax(axis=1), even)
