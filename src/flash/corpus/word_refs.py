"""Words + tokens -> which tokens continue a word."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from flash.corpus.records import TokenSpans


def continuation_marks(words: Sequence[Sequence[str]], spans: Sequence[TokenSpans]) -> list[NDArray[np.bool_]]:
    """Return, for each block, whether its tokens begin inside a word; shapes (n,).

        token i continues a word  <=>  starts[i] is no word boundary, or starts[i] < ends[i - 1]

    The second case is several tokens out of one character (byte-level vocabularies): the first of them may begin
    a word, the others never do. A token that reaches over a cut (such as [UNK] for a run of unknown characters)
    counts by where it begins.

    Args:
        words: A segmenter's cuts of each block, all of its text.
        spans: The tokens of the same blocks, n of each.
    """
    if not spans:
        return []
    lengths = np.fromiter(map(len, chain.from_iterable(words)), dtype=np.int32)
    word_ends = np.cumsum(lengths)
    is_boundary = np.zeros(1 + int(word_ends[-1]) if len(lengths) else 1, dtype=bool)
    is_boundary[0] = True
    is_boundary[word_ends] = True
    # all blocks one behind the other: the work is a few array operations, however short they are
    word_counts = np.fromiter(map(len, words), dtype=np.int64)
    block_begins = np.concatenate(([0], word_ends))[np.cumsum(word_counts) - word_counts]
    token_counts = np.fromiter((len(block.starts) for block in spans), dtype=np.int64)
    shifts = np.repeat(block_begins, token_counts)
    starts = np.concatenate([block.starts for block in spans]) + shifts
    ends = np.concatenate([block.ends for block in spans]) + shifts
    continues = ~is_boundary[starts]
    continues[1:] |= starts[1:] < ends[:-1]
    token_ends = np.cumsum(token_counts).tolist()
    return [continues[end - count : end] for end, count in zip(token_ends, token_counts.tolist(), strict=True)]
