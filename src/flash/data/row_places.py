"""Where rows lie in flat arrays, and taking them from there, without a loop over rows or tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flash.data.rows import TokenRows
from flash.data.shard_schema import damaged


@dataclass(frozen=True)
class Runs:
    """Where the values of some rows lie in a flat array, which holds those of other rows too.

    Args:
        values: The array.
        starts: Where each row begins, ``(rows,)``.
        ends: Behind its last value.
    """

    values: NDArray[np.integer]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of values of each row."""
        return self.ends - self.starts


@dataclass(frozen=True)
class RowPlaces:
    """Where some rows of one shard lie.

    Args:
        source: Names the shard in messages.
        positions: Place of each row in the batch, ``(rows,)``.
        tokens: Their token ids.
        word_starts: Their word starts: a bit a token, the lowest first, each row in bytes of its own.
        sequences: The lengths of their sequences where rows are packed; None where a row is one sequence.
        begins: First token behind [CLS] that is taken, ``(rows,)``; None: from the first on.
        ends: The token behind the last that is taken; None: to the last before [SEP].

    Raises:
        InputError: They do not lie within the arrays.
    """

    source: str
    positions: NDArray[np.int64]
    tokens: Runs
    word_starts: Runs
    sequences: Runs | None = None
    begins: NDArray[np.int64] | None = None
    ends: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        columns = [(self.tokens, 2), (self.word_starts, 1)]  # [CLS] and [SEP] at least
        if self.sequences is not None:
            columns.append((self.sequences, 1))
        for runs, least in columns:
            if runs.starts.min() < 0 or runs.ends.max() > len(runs.values) or runs.lengths.min() < least:
                raise damaged(self.source, "its rows do not lie within it")
        if not np.array_equal(self.word_starts.lengths, (self.tokens.lengths + 7) // 8):
            raise damaged(self.source, "its rows have more or fewer word starts than tokens")

    @property
    def taken(self) -> NDArray[np.int64]:
        """Tokens that are taken of each row, [CLS] and [SEP] counted."""
        return self.tokens.lengths if self.begins is None or self.ends is None else self.ends - self.begins + 2


def ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count up from each start, one behind the other: ``ranges([5, 0], [2, 3])`` is ``[5, 6, 0, 1, 2]``."""
    ends = np.cumsum(lengths)
    return np.arange(lengths.sum()) + np.repeat(starts - (ends - lengths), lengths)


def read_bits(runs: Runs, rows: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Read the bits at ``positions`` within ``rows``; the two are broadcast."""
    return (runs.values[runs.starts[rows] + (positions >> 3)] >> (positions & 7).astype(np.uint8)) & 1 == 1


def _all_bits(runs: Runs, counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Read the first ``counts`` bits of each row, one row behind the other."""
    sizes = runs.lengths
    packed = runs.values[ranges(runs.starts, sizes)].astype(np.uint8, copy=False)
    bits = np.unpackbits(packed, bitorder="little").view(np.bool_)
    return bits[ranges(8 * (np.cumsum(sizes) - sizes), counts)]


def take_rows(parts: Sequence[RowPlaces], *, numbers: NDArray[np.int64], epoch: int, vocab_size: int) -> TokenRows:
    """Put the rows of a batch together, from wherever they lie.

    Args:
        parts: The rows; their ``positions`` are together 0 ... ``len(numbers) - 1``.
        numbers: Number of each row in its dataset.
        epoch: The epoch that masks are drawn from.
        vocab_size: Number of tokens of the tokenizer.

    Raises:
        InputError: A shard holds other ids than its tokenizer has.
    """
    lengths = np.empty(len(numbers), dtype=np.int64)
    for part in parts:
        lengths[part.positions] = part.taken
    row_starts = np.cumsum(lengths) - lengths
    input_ids = np.empty(lengths.sum(), dtype=parts[0].tokens.values.dtype)
    word_starts = np.empty(len(input_ids), dtype=bool)
    for part in parts:
        taken = part.taken
        to = ranges(row_starts[part.positions], taken)
        if part.begins is None:
            input_ids[to] = part.tokens.values[ranges(part.tokens.starts, taken)]
            word_starts[to] = _all_bits(part.word_starts, taken)
            continue
        # behind its [CLS] a piece goes on where it begins, and its last token is the [SEP] of the row
        row = np.repeat(np.arange(len(taken)), taken)
        last = np.cumsum(taken) - 1
        within = ranges(part.begins - 1, taken)
        within[last - taken + 1], within[last] = 0, part.tokens.lengths - 1
        input_ids[to] = part.tokens.values[part.tokens.starts[row] + within]
        word_starts[to] = read_bits(part.word_starts, row, within)
    # the first token starts a word for this row, also where its word began in the piece before
    word_starts[row_starts + 1] = True
    if input_ids.max() >= vocab_size:
        holds = {int(part.tokens.values[ranges(part.tokens.starts, part.tokens.lengths)].max()): part for part in parts}
        raise damaged(
            holds[max(holds)].source, f"it holds the token id {max(holds)}, its tokenizer has {vocab_size} tokens"
        )
    return TokenRows(input_ids, word_starts, lengths, numbers, epoch, _sequence_lengths(parts, len(numbers)))


def _sequence_lengths(parts: Sequence[RowPlaces], rows: int) -> NDArray[np.int32] | None:
    packed = [(part, part.sequences) for part in parts if part.sequences is not None]
    if not packed:
        return None
    counts = np.zeros(rows, dtype=np.int64)
    for part, sequences in packed:
        counts[part.positions] = sequences.lengths
    starts = np.cumsum(counts) - counts
    lengths = np.empty(counts.sum(), dtype=np.int32)
    for part, sequences in packed:
        found = sequences.values[ranges(sequences.starts, sequences.lengths)]
        sums = np.add.reduceat(found, np.cumsum(sequences.lengths) - sequences.lengths)
        if found.min() < 1 or not np.array_equal(sums, part.tokens.lengths):
            raise damaged(part.source, "the sequence_lengths of a row do not add up to its tokens")
        lengths[ranges(starts[part.positions], sequences.lengths)] = found
    return lengths
