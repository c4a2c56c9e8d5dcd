"""Document -> blocks that fit a token limit, cut at sentence ends where possible."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np

from flash.corpus.records import TokenSpans
from flash.corpus.segment import Segmenter
from flash.corpus.sentences import clause_ends, last_cluster_end, sentence_ends, splits_cluster
from flash.corpus.token_spans import SpanEncoder

# A block's characters may be many though its tokens are few: a word beyond WordPiece's limit is one [UNK].
_MAX_CHARS_PER_TOKEN = 8

# How much text behind the border the segmenter sees, to know whether a word goes on there.
_LOOK_AHEAD_CHARS = 32


class BlockSplitter:
    """Cuts cleaned text into blocks of at most ``max_tokens`` tokens; the blocks joined give the text back.

    Each cut is the last sentence end that fits, else the last clause end, else the last cut of the segmenter, else
    the last place that parts no character from its marks. A single character of more tokens than fit stays whole.

    Args:
        encoder: Counts the tokens.
        segmenter: Says where words end in a stretch without punctuation.
        max_tokens: Room for the text of one block, special tokens not counted.
        min_chars: No cut leaves fewer characters before or behind it, where another is possible.
    """

    def __init__(self, encoder: SpanEncoder, segmenter: Segmenter, max_tokens: int, min_chars: int) -> None:
        self._encoder = encoder
        self._segmenter = segmenter
        self._max_tokens = max_tokens
        self._min_chars = max(1, min_chars)

    def split(self, text: str, spans: TokenSpans | None = None) -> Iterator[tuple[str, TokenSpans]]:
        """Yield each block with its tokens, exactly as encoding the block alone gives them.

        Args:
            text: Cleaned text.
            spans: What `SpanEncoder.encode_document` gives for it, where that is known already.
        """
        spans = spans or self._encoder.encode_document(text)
        ends = sentence_ends(text)
        begin = 0
        while begin < len(text):
            room = self._max_tokens
            while True:
                end = self._cut(text, begin, self._fitting_end(text, spans, begin, room), ends)
                block_spans = self._block_spans(text, spans, begin, end)
                excess = len(block_spans.starts) - self._max_tokens
                if excess <= 0 or end == begin + 1:
                    break
                # the document's spans, counted in another context, fell short by so many
                room = max(0, room - excess)
            yield text[begin:end], block_spans
            begin = end

    def _fitting_end(self, text: str, spans: TokenSpans, begin: int, room: int) -> int:
        """Return the last position up to which at most ``room`` tokens begin, going by the document's spans."""
        left_out = _tokens_before(spans, begin) + room
        end = int(spans.starts[left_out]) if left_out < len(spans.starts) else len(text)
        return max(begin + 1, min(end, begin + room * _MAX_CHARS_PER_TOKEN))

    def _block_spans(self, text: str, spans: TokenSpans, begin: int, end: int) -> TokenSpans:
        at_seams = self._encoder.is_seam(text, begin) and self._encoder.is_seam(text, end)
        if not at_seams or self._encoder.is_estimated(text):
            return self._encoder.encode(text[begin:end])
        first, last = _tokens_before(spans, begin), _tokens_before(spans, end)
        shift = np.int32(begin)
        return TokenSpans(spans.ids[first:last], spans.starts[first:last] - shift, spans.ends[first:last] - shift)

    def _cut(self, text: str, begin: int, upper: int, ends: Sequence[int]) -> int:
        """Return the best cut in ``(begin, upper]``."""
        if upper == len(text):
            return upper
        upper = max(begin + 1, min(upper, len(text) - self._min_chars))
        lower = min(begin + self._min_chars, upper)
        index = bisect_right(ends, upper) - 1
        if index >= 0 and ends[index] >= lower:
            return ends[index]
        for find_ends in (clause_ends, self._word_ends):
            last = max(find_ends(text, begin, upper), default=0)
            if last >= lower:
                return last
        return last_cluster_end(text, begin, upper)

    def _word_ends(self, text: str, begin: int, upper: int) -> list[int]:
        words = self._segmenter.cut(text[begin : upper + _LOOK_AHEAD_CHARS])
        ends = (begin + length for length in accumulate(map(len, words)))
        return [end for end in ends if end <= upper and not splits_cluster(text, end)]


def _tokens_before(spans: TokenSpans, position: int) -> int:
    # of the array's own type, or numpy converts all of it first
    return int(spans.starts.searchsorted(np.int32(position)))
