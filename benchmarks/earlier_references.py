"""The earlier repository's way to word references, written anew as a baseline: a loop over tokens and a set of words.

For each text: cut it, keep the Chinese words of two and more characters in a set, tokenize it, and walk over the
tokens; at each, try the longest run that spells a word of the set, then shorter ones. At the start of training the text
was tokenized again and cut to the model's length.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import rjieba
from transformers import PreTrainedTokenizerFast

_HAN_RANGES = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F))
_SENTENCE_ENDS = "。！？"


def prepare_earlier(
    lines: Iterable[str], tokenizer: PreTrainedTokenizerFast, max_length: int
) -> Iterator[dict[str, Any]]:
    """Yield ids and references of the blocks of each JSON line's text, as the earlier scripts got them in two steps."""
    for line in lines:
        for block in _blocks(json.loads(line)["text"], max_length - 2):
            references = _references(block, tokenizer)
            ids = tokenizer(block, truncation=True, max_length=max_length)["input_ids"]
            yield {"input_ids": ids, "chinese_ref": references}


def _blocks(text: str, most_chars: int) -> Iterator[str]:
    block = ""
    sentence = ""
    for character in text.replace("\n", ""):
        sentence += character
        if character in _SENTENCE_ENDS or len(sentence) >= most_chars:
            if block and len(block) + len(sentence) > most_chars:
                yield block
                block = ""
            block += sentence
            sentence = ""
    if block + sentence:
        yield block + sentence


def _references(text: str, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    words = {word for word in rjieba.cut(text) if len(word) > 1 and _is_chinese(word)}
    tokens = tokenizer.tokenize(text)
    longest = max(map(len, words), default=0)
    positions = []
    begin = 0
    while begin < len(tokens):
        matched = 1
        if _is_chinese(tokens[begin]):
            for length in range(min(longest, len(tokens) - begin), 1, -1):
                if "".join(tokens[begin : begin + length]) in words:
                    matched = length
                    positions += range(begin + 2, begin + length + 1)  # [CLS] counted
                    break
        begin += matched
    return positions


def _is_chinese(word: str) -> bool:
    return all(any(first <= ord(character) <= last for first, last in _HAN_RANGES) for character in word)
