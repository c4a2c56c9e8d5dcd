"""Where rows lie in flat arrays, and taking them from there, without a loop over rows or tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flash.data.rows import TokenRows
from flash.errors import InputError


@dataclass(frozen=True)
class SequencePlaces:
    """Where the lengths of the sequences of packed rows lie.

    Args:
        lengths: Those of many rows.
        starts: Where each row begins in them, ``(rows,)``.
        counts: Its sequences.
    """

    lengths: NDArray[np.int32]
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]


@dataclass(frozen=True)
class RowPlaces:
    """Where some rows of one shard lie.

    Args:
        source: Names the shard in messages.
        positions: Place of each row in the batch, ``(rows,)``.
        tokens: Token ids of many rows, of which these rows take some.
        token_starts: Where each row begins in ``tokens``, ``(rows,)``.
        lengths: Its tokens, [CLS] and [SEP] counted.
        bits: Word starts of many rows, a bit a token, the lowest first, each row in bytes of its own.
        bit_starts: The byte of ``bits`` where each row begins.
        sequences: The sequences of packed rows; None where a row is one sequence.
        begins: First token that is taken behind [CLS], ``(rows,)``; None: from the first on.
        ends: The token behind the last that is taken; None: to the last before [SEP].
    """

    source: str
    positions: NDArray[np.int64]
    tokens: NDArray[np.unsignedinteger]
    token_starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    bits: NDArray[np.uint8]
    bit_starts: NDArray[np.int64]
    sequences: SequencePlaces | None = None
    begins: NDArray[np.int64] | None = None
    ends: NDArray[np.int64] | None = None

    @property
    def taken(self) -> NDArray[np.int64]:
        """Tokens that are taken of each row, [CLS] and [SEP] counted."""
        return self.lengths if self.begins is None or self.ends is None else self.ends - self.begins + 2


def ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count up from each start, one behind the other: ``ranges([5, 0], [2, 3])`` is ``[5, 6, 0, 1, 2]``."""
    ends = np.cumsum(lengths)
    return np.arange(lengths.sum()) + np.repeat(starts - (ends - lengths), lengths)


def read_bits(bits: NDArray[np.uint8], starts: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Read the bits at ``positions`` behind the bytes ``starts``; the two are broadcast."""
    return (bits[starts + (positions >> 3)] >> (positions & 7).astype(np.uint8)) & 1 == 1


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
    input_ids = np.empty(lengths.sum(), dtype=parts[0].tokens.dtype)
    word_starts = np.empty(len(input_ids), dtype=bool)
    for part in parts:
        within = ranges(np.zeros_like(part.taken), part.taken)
        if part.begins is not None:
            # behind its [CLS] a piece goes on where it begins, and its last token is the [SEP] of the row
            within = within + np.repeat(part.begins - 1, part.taken)
            last = np.cumsum(part.taken) - 1
            within[last - part.taken + 1], within[last] = 0, part.lengths - 1
        to = ranges(row_starts[part.positions], part.taken)
        ids = part.tokens[np.repeat(part.token_starts, part.taken) + within]
        if ids.max() >= vocab_size:
            raise InputError(
                f"{part.source} holds the token id {ids.max()}, its tokenizer has {vocab_size} tokens: it was changed "
                "since it was written (--verify_data finds out); prepare the text again"
            )
        input_ids[to] = ids
        word_starts[to] = read_bits(part.bits, np.repeat(part.bit_starts, part.taken), within)
        # the first token starts a word for this row, also where its word began in the piece before
        word_starts[row_starts[part.positions] + 1] = True
    return TokenRows(input_ids, word_starts, lengths, numbers, epoch, _sequence_lengths(parts, len(numbers)))


def _sequence_lengths(parts: Sequence[RowPlaces], rows: int) -> NDArray[np.int32] | None:
    packed = [(part, part.sequences) for part in parts if part.sequences is not None]
    if not packed:
        return None
    counts = np.zeros(rows, dtype=np.int64)
    for part, sequences in packed:
        counts[part.positions] = sequences.counts
    starts = np.cumsum(counts) - counts
    lengths = np.empty(counts.sum(), dtype=np.int32)
    for part, sequences in packed:
        found = sequences.lengths[ranges(sequences.starts, sequences.counts)]
        sums = np.add.reduceat(found, np.cumsum(sequences.counts) - sequences.counts)
        if found.min() < 1 or not np.array_equal(sums, part.lengths):
            raise InputError(
                f"{part.source}: the sequence_lengths of a row do not add up to its tokens: it was changed since it "
                "was written (--verify_data finds out); prepare the text again"
            )
        lengths[ranges(starts[part.positions], sequences.counts)] = found
    return lengths
