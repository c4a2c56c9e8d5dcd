"""Text -> its tokens, ids and offsets, exactly as the tokenizer gives them, without asking it about every one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from flash.corpus.records import TokenSpans

# What BertPreTokenizer makes a token of its own whatever stands beside it, and the space, which it drops. Only a few
# old characters: the Unicode tables of that library and of Python need not agree on later additions.
_ISOLATED = " 。！？；：，、…—“”‘’（）《》「」『』【】〈〉〔〕,.!?;:()\"'"
_HAN = range(0x4E00, 0xA000)
_CODE_POINTS = 0x110000

# Latin words and numbers come again and again; longer runs do not, and would fill the memory.
_REMEMBERED_RUNS = 1 << 15
_REMEMBERED_CHARS = 24

# A tokenizer of which nothing is known is given a long text in such pieces: it holds 150 bytes and more a token.
_PIECE_CHARS = 4096


class SpanEncoder:
    """Finds the tokens of a text, special ones left out.

    Of BERT's tokenizers it is known that they set ideographs and punctuation apart, whatever the vocabulary; so only
    what stands between those is given to the tokenizer. All others are given the text as it is.

    Args:
        tokenizer_json: A `tokenizers.Tokenizer` as JSON; its padding and truncation are switched off.
    """

    def __init__(self, tokenizer_json: str) -> None:
        self._tokenizer = Tokenizer.from_str(tokenizer_json)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._is_isolated = _isolated_characters(json.loads(tokenizer_json))
        self._has_seams = bool(self._is_isolated.any())
        self._isolated_ids = self._ids_of_isolated_characters()
        self._encode_remembered = lru_cache(_REMEMBERED_RUNS)(self.encode)

    def encode(self, text: str) -> TokenSpans:
        """Return the tokens of ``text``, all of it given to the tokenizer at once."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        ids = np.array(encoding.ids, dtype=np.int32)
        flat = np.fromiter(chain.from_iterable(encoding.offsets), dtype=np.int32, count=2 * len(ids))
        return TokenSpans(ids, flat[0::2], flat[1::2])

    def is_estimated(self, text: str) -> bool:
        """Say whether `encode_document` may give other tokens than `encode`, at the borders of the pieces of a text."""
        return not self._has_seams and len(text) > _PIECE_CHARS

    def encode_document(self, text: str) -> TokenSpans:
        """Return the tokens of a text of any length: those of `encode`, or a close estimate, see `is_estimated`."""
        if self._has_seams:
            return self._encode_between_seams(text)
        pieces = range(0, len(text), _PIECE_CHARS)
        return _joined([(begin, self.encode(text[begin : begin + _PIECE_CHARS])) for begin in pieces])

    def encode_documents(self, texts: Sequence[str]) -> list[TokenSpans]:
        """Return what `encode_document` does for each text, at the price of one where the texts are short."""
        if not (self._has_seams and self._is_isolated[ord(" ")]):
            return [self.encode_document(text) for text in texts]
        begins = np.array(list(accumulate((len(text) + 1 for text in texts), initial=0)), dtype=np.int32)
        spans = self._encode_between_seams(" ".join(texts))  # a space is a seam on both sides, and no token
        places = spans.starts.searchsorted(begins).tolist()
        return [
            TokenSpans(spans.ids[first:last], spans.starts[first:last] - begin, spans.ends[first:last] - begin)
            for first, last, begin in zip(places[:-1], places[1:], begins[:-1], strict=True)
        ]

    def is_seam(self, text: str, position: int) -> bool:
        """Say whether the tokens of ``text`` are those of its two parts, cut at ``position``, put together.

        True only where that is certain: at the ends, and beside a character which the tokenizer always sets apart.
        """
        if position <= 0 or position >= len(text):
            return True
        return bool(self._is_isolated[ord(text[position - 1])] or self._is_isolated[ord(text[position])])

    def _encode_run(self, run: str) -> TokenSpans:
        return self._encode_remembered(run) if len(run) <= _REMEMBERED_CHARS else self.encode(run)

    def _encode_between_seams(self, text: str) -> TokenSpans:
        codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        isolated = self._is_isolated[codes]
        own = np.flatnonzero(isolated & (codes != ord(" "))).astype(np.int32)
        edges = np.flatnonzero(np.diff(np.concatenate(([True], isolated, [True]))))
        begins, ends = edges[0::2], edges[1::2]
        runs = [
            (begin, self._encode_run(text[begin:end]))
            for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)
        ]
        between = _joined(runs)

        # tokens in the order of the text: where each run's first one goes, all others of the run follow
        counts = np.zeros(len(text), dtype=np.int32)
        counts[own] = 1
        counts[begins] = [len(spans.starts) for _, spans in runs]
        is_own = np.zeros(len(own) + len(between.starts), dtype=bool)
        is_own[(np.cumsum(counts) - counts)[own]] = True
        ids, starts, token_ends = np.empty((3, len(is_own)), dtype=np.int32)
        ids[is_own], starts[is_own], token_ends[is_own] = self._isolated_ids[codes[own]], own, own + 1
        ids[~is_own], starts[~is_own], token_ends[~is_own] = between
        return TokenSpans(ids, starts, token_ends)

    def _ids_of_isolated_characters(self) -> NDArray[np.int32]:
        """Return for each code point the id of its one token, as the tokenizer gives it; 0 for all not set apart."""
        ids = np.zeros(_CODE_POINTS if self._has_seams else 0, dtype=np.int32)
        codes = np.flatnonzero(self._is_isolated & (np.arange(_CODE_POINTS) != ord(" ")))
        encodings = self._tokenizer.encode_batch_fast([chr(code) for code in codes], add_special_tokens=False)
        ids[codes] = [token_id for encoding in encodings for token_id in encoding.ids]
        return ids


def _joined(pieces: list[tuple[int, TokenSpans]]) -> TokenSpans:
    """Return the tokens of pieces that begin at the given characters, with offsets in the whole."""
    if not pieces:
        empty = np.empty(0, dtype=np.int32)
        return TokenSpans(empty, empty, empty)
    shifts = np.repeat([begin for begin, _ in pieces], [len(spans.starts) for _, spans in pieces]).astype(np.int32)
    ids = np.concatenate([spans.ids for _, spans in pieces])
    starts = np.concatenate([spans.starts for _, spans in pieces])
    ends = np.concatenate([spans.ends for _, spans in pieces])
    return TokenSpans(ids, starts + shifts, ends + shifts)


def _isolated_characters(description: dict[str, Any]) -> NDArray[np.bool_]:
    """Return for each code point whether the tokenizer of this JSON always sets it apart, as far as that is known.

    Known is BERT's own chain (BertNormalizer or none, BertPreTokenizer, WordPiece): it splits on both sides of spaces,
    punctuation and, if asked, ideographs, looks at nothing beyond the split, and makes one token of one character.
    Added tokens are matched before all that, so their characters do not count, and one that looks at its neighbours
    spoils everything.
    """
    is_isolated = np.zeros(_CODE_POINTS, dtype=bool)
    normalizer = description["normalizer"] or {}
    added = description["added_tokens"]
    if (
        description["model"]["type"] != "WordPiece"
        or (description["pre_tokenizer"] or {}).get("type") != "BertPreTokenizer"
        or normalizer.get("type", "BertNormalizer") != "BertNormalizer"
        or any(token["lstrip"] or token["rstrip"] or token["single_word"] for token in added)
    ):
        return is_isolated
    is_isolated[[ord(character) for character in _ISOLATED]] = True
    is_isolated[_HAN.start : _HAN.stop] = normalizer.get("handle_chinese_chars", False)
    is_isolated[[ord(character) for token in added for character in token["content"]]] = False
    return is_isolated
