"""Words + tokens -> which tokens continue a word."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from flash.corpus.records import TokenSpans


def continuation_marks(words: Sequence[Sequence[str]], spans: Sequence[TokenSpans]) -> list[NDArray[np.bool_]]:
    """Return, for each block, whether its tokens continue a word; shapes (n,).

        token i continues a word  <=>  begin of the word that starts[i] is in < ends[i - 1]

    So the first token of a word begins it, also where the tokenizer drops the word's first characters; and of several
    tokens out of one character (byte-level vocabularies) the first may begin a word, the others never do. A token that
    reaches over a cut (such as [UNK] for a run of unknown characters) counts by where it begins.

    Args:
        words: A segmenter's cuts of each block, all of its text.
        spans: The tokens of the same blocks, n of each.
    """
    if not spans:
        return []
    lengths = np.fromiter(map(len, chain.from_iterable(words)), dtype=np.int32)
    # all blocks one behind the other: the work is a few array operations, however short they are
    word_begins = np.concatenate(([0], np.cumsum(lengths)))  # and behind the last one the end
    begin_of_word = np.repeat(word_begins, np.append(lengths, 1))  # that each character is in
    word_counts = np.fromiter(map(len, words), dtype=np.int64)
    block_begins = word_begins[np.cumsum(word_counts) - word_counts]
    token_counts = np.fromiter((len(block.starts) for block in spans), dtype=np.int64)
    shifts = np.repeat(block_begins, token_counts)
    starts = np.concatenate([block.starts for block in spans]) + shifts
    ends = np.concatenate([block.ends for block in spans]) + shifts
    continues = np.zeros(len(starts), dtype=bool)
    continues[1:] = begin_of_word[starts[1:]] < ends[:-1]
    token_ends = np.cumsum(token_counts).tolist()
    return [continues[end - count : end] for end, count in zip(token_ends, token_counts.tolist(), strict=True)]
