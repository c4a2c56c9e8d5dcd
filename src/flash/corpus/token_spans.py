"""Text -> character offsets of its tokens, each character encoded once where that is exact."""

from __future__ import annotations

import json
from itertools import chain

import numpy as np
from tokenizers import Tokenizer

from flash.corpus.records import TokenSpans

# Encoding takes time in proportion to the text but holds about 150 bytes a token, so a long document is encoded
# in pieces.
_PIECE_CHARS = 4096

# Punctuation that BertPreTokenizer makes a token of its own, whatever stands beside it. A few, and old ones:
# the Unicode tables of the library and of Python need not agree on later additions.
_ISOLATED = frozenset(" 。！？；：，、…—“”‘’（）《》「」『』【】〈〉〔〕,.!?;:()\"'")


class SpanEncoder:
    """Encodes without special tokens, and knows where a text may be cut without changing its tokens.

    Args:
        tokenizer_json: A `tokenizers.Tokenizer` as JSON; its padding and truncation are switched off.
    """

    def __init__(self, tokenizer_json: str) -> None:
        self._tokenizer = Tokenizer.from_str(tokenizer_json)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._isolated, self._isolates_han = _isolated_characters(json.loads(tokenizer_json))

    def encode(self, text: str) -> TokenSpans:
        """Return the spans of the tokens of ``text``, encoded in one go."""
        offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets
        flat = np.fromiter(chain.from_iterable(offsets), dtype=np.int32, count=2 * len(offsets))
        return TokenSpans(flat[0::2], flat[1::2])

    def encode_pieces(self, text: str) -> TokenSpans:
        """Return the spans of a text of any length, encoded in pieces cut at seams.

        Equal to `encode` where the tokenizer has seams; a close estimate for any other tokenizer.
        """
        starts, ends, begin = [], [], 0
        while begin < len(text):
            end = self._piece_end(text, begin)
            spans = self.encode(text[begin:end])
            starts.append(spans.starts + np.int32(begin))
            ends.append(spans.ends + np.int32(begin))
            begin = end
        if not starts:
            return self.encode("")
        return TokenSpans(np.concatenate(starts), np.concatenate(ends))

    def is_seam(self, text: str, position: int) -> bool:
        """Say whether the tokens of ``text`` are those of its two parts, cut at ``position``, put together.

        True only where that is certain: at the ends, and beside a character which the tokenizer always sets apart.
        """
        if position <= 0 or position >= len(text):
            return True
        return self._is_isolated(text[position - 1]) or self._is_isolated(text[position])

    def _is_isolated(self, character: str) -> bool:
        return character in self._isolated or (self._isolates_han and "\u4e00" <= character <= "\u9fff")

    def _piece_end(self, text: str, begin: int) -> int:
        end = begin + _PIECE_CHARS
        if not self._isolated:
            return min(end, len(text))
        while end < len(text) and not self.is_seam(text, end):
            end += 1
        return min(end, len(text))


def _isolated_characters(description: dict) -> tuple[frozenset[str], bool]:
    """Read from a tokenizer's JSON which characters it always sets apart; nothing for kinds not known here.

    Known is BERT's own chain (BertNormalizer or none, BertPreTokenizer, WordPiece): it splits on both sides of
    spaces, punctuation and, if asked, ideographs, and looks at nothing beyond the split. An added token is matched
    before all that, so its characters do not count, and one that looks at its neighbours spoils every seam.
    """
    normalizer = description["normalizer"]
    known = (
        description["model"]["type"] == "WordPiece"
        and (description["pre_tokenizer"] or {}).get("type") == "BertPreTokenizer"
        and (normalizer is None or normalizer["type"] == "BertNormalizer")
    )
    added = description["added_tokens"]
    if not known or any(token["lstrip"] or token["rstrip"] or token["single_word"] for token in added):
        return frozenset(), False
    added_characters = set("".join(token["content"] for token in added))
    isolates_han = (
        normalizer is not None
        and normalizer["handle_chinese_chars"]
        and not any("\u4e00" <= character <= "\u9fff" for character in added_characters)
    )
    return _ISOLATED - added_characters, isolates_han
