"""Sentences with fixed masks, alone, padded, or inside other text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from flash.data.whole_word_mask import kinds_of_ids, mask_tokens
from flash.errors import InputError
from flash.inspection.texts import SPECIAL_TOKEN_COUNT, Passage, Texts

MIN_SENTENCE_TOKENS = 14
# that of pretraining
_MASK_PROBABILITY = 0.15


@dataclass(frozen=True)
class MaskedSentence:
    """A passage with some of its words hidden, the same ones wherever it is placed.

    Args:
        start: Its place in the stream of all text.
        masked_ids: What the model sees of it, ``(tokens,)``.
        labels: The true id where scored, -100 elsewhere, ``(tokens,)``.
    """

    start: int
    masked_ids: NDArray[np.int64]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class PlacedSentences:
    """Sentences as rows of one length.

    Args:
        input_ids: ``(rows, length)``.
        attention_mask: 1 where a token is real, ``(rows, length)``.
        begins: Where the sentence of each row begins.
    """

    input_ids: Tensor
    attention_mask: Tensor
    begins: list[int]


def draw_sentences(
    texts: Texts, tokenizer: PreTrainedTokenizerFast, *, count: int, seed: int, inputs: str
) -> list[MaskedSentence]:
    """Draw passages of at least `MIN_SENTENCE_TOKENS` tokens, none special, and hide words in each.

    Masks are drawn as in pretraining, again where no word is hidden: every sentence has something to score.

    Raises:
        InputError: There is no such passage.
    """
    is_special, replacement_ids = kinds_of_ids(tokenizer)
    eligible = [
        passage
        for passage in texts.passages
        if len(passage.token_ids) >= MIN_SENTENCE_TOKENS and not is_special[passage.token_ids].any()
    ]
    if not eligible:
        raise InputError(
            f"no sentence of at least {MIN_SENTENCE_TOKENS} tokens without {tokenizer.unk_token} in {inputs}; name "
            "files with longer text, in the language of the vocabulary"
        )
    generator = np.random.default_rng(seed)
    chosen = generator.permutation(len(eligible))[:count]
    return [
        _hide_words(eligible[index], generator, is_special, tokenizer.mask_token_id, replacement_ids)
        for index in chosen
    ]


def _hide_words(
    passage: Passage, generator: np.random.Generator, is_special: Tensor, mask_token_id: int, replacement_ids: Tensor
) -> MaskedSentence:
    input_ids, word_starts = (torch.from_numpy(part)[None] for part in (passage.token_ids, passage.word_starts))
    while True:  # ends: no token is special, so each draw hides a word with some probability
        masked_ids, labels = mask_tokens(
            input_ids,
            word_starts,
            torch.from_numpy(generator.random((*input_ids.shape, 2))),
            mask_probability=_MASK_PROBABILITY,
            is_special=is_special,
            mask_token_id=mask_token_id,
            replacement_ids=replacement_ids,
        )
        if (labels >= 0).any():
            return MaskedSentence(passage.start, masked_ids[0].numpy(), labels[0].numpy())


def place_padded(
    sentences: Sequence[MaskedSentence], tokenizer: PreTrainedTokenizerFast, *, length: int, side: str
) -> PlacedSentences:
    """Put [CLS] and [SEP] around each sentence and padding on one side, ``right`` or ``left``."""
    input_ids = torch.full((len(sentences), length), tokenizer.pad_token_id)
    attention_mask = torch.zeros_like(input_ids)
    begins = []
    for row, sentence in enumerate(sentences):
        ids = _with_special_tokens(sentence.masked_ids, tokenizer)
        first = 0 if side == "right" else length - len(ids)
        input_ids[row, first : first + len(ids)] = ids
        attention_mask[row, first : first + len(ids)] = 1
        begins.append(first + 1)
    return PlacedSentences(input_ids, attention_mask, begins)


def place_alone(sentence: MaskedSentence, tokenizer: PreTrainedTokenizerFast) -> PlacedSentences:
    """Put [CLS] and [SEP] around one sentence and nothing else."""
    length = len(sentence.masked_ids) + SPECIAL_TOKEN_COUNT
    return place_padded([sentence], tokenizer, length=length, side="right")


def place_within(
    sentences: Sequence[MaskedSentence],
    stream: NDArray[np.int64],
    tokenizer: PreTrainedTokenizerFast,
    *,
    length: int,
) -> PlacedSentences:
    """Put each sentence in the middle of ``length`` tokens of its own text, not masked, [CLS] and [SEP] at the ends.

    The stream is read as a ring: behind its end comes its beginning.

    Args:
        stream: The text that the sentences are from, at least ``length - 2`` tokens.
        length: Tokens of a row.
    """
    rows, begins = [], []
    room = length - SPECIAL_TOKEN_COUNT
    for sentence in sentences:
        before = (room - len(sentence.masked_ids)) // 2
        window = stream.take(np.arange(sentence.start - before, sentence.start - before + room), mode="wrap")
        window[before : before + len(sentence.masked_ids)] = sentence.masked_ids
        rows.append(_with_special_tokens(window, tokenizer))
        begins.append(before + 1)
    input_ids = torch.stack(rows)
    return PlacedSentences(input_ids, torch.ones_like(input_ids), begins)


def _with_special_tokens(ids: NDArray[np.int64], tokenizer: PreTrainedTokenizerFast) -> Tensor:
    return torch.tensor([tokenizer.cls_token_id, *ids.tolist(), tokenizer.sep_token_id])
