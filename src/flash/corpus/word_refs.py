"""Words + tokens -> the positions that continue a word ("chinese_ref")."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flash.corpus.records import TokenSpans

# One [CLS] stands before the text.
_FIRST_POSITION = 1


def continuation_positions(words: Sequence[str], spans: TokenSpans) -> NDArray[np.int32]:
    """Return the positions, [CLS] counted, of the tokens that begin inside a word.

        token i continues a word  <=>  starts[i] is no word boundary, or starts[i] < ends[i - 1]

    The second case is several tokens out of one character (byte-level vocabularies): the first of them may begin
    a word, the others never do. A token that reaches over a cut (such as [UNK] for a run of unknown characters)
    counts by where it begins.

    Args:
        words: A segmenter's cuts of the whole text.
        spans: Character offsets of the tokens in the same text, shape (n,).
    """
    lengths = np.fromiter(map(len, words), dtype=np.int32, count=len(words))
    word_ends = np.cumsum(lengths)
    is_boundary = np.zeros(1 + int(word_ends[-1]) if len(words) else 1, dtype=bool)
    is_boundary[0] = True
    is_boundary[word_ends] = True
    continues = ~is_boundary[spans.starts]
    continues[1:] |= spans.starts[1:] < spans.ends[:-1]
    return (np.flatnonzero(continues) + _FIRST_POSITION).astype(np.int32)
