"""Words + tokens -> which tokens continue a word."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flash.corpus.records import TokenSpans


def continuation_marks(words: Sequence[str], spans: TokenSpans) -> NDArray[np.bool_]:
    """Return, for each token, whether it begins inside a word; shape (n,).

        token i continues a word  <=>  starts[i] is no word boundary, or starts[i] < ends[i - 1]

    The second case is several tokens out of one character (byte-level vocabularies): the first of them may begin
    a word, the others never do. A token that reaches over a cut (such as [UNK] for a run of unknown characters)
    counts by where it begins.

    Args:
        words: A segmenter's cuts of the whole text.
        spans: The tokens of the same text, n of them.
    """
    lengths = np.fromiter(map(len, words), dtype=np.int32, count=len(words))
    word_ends = np.cumsum(lengths)
    is_boundary = np.zeros(1 + int(word_ends[-1]) if len(words) else 1, dtype=bool)
    is_boundary[0] = True
    is_boundary[word_ends] = True
    continues = ~is_boundary[spans.starts]
    continues[1:] |= spans.starts[1:] < spans.ends[:-1]
    return continues
