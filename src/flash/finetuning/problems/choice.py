"""The right one of several candidates; each is scored by itself, and the scores of one question are compared."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForMultipleChoice, PreTrainedTokenizerFast

from flash.finetuning.problems.problem import (
    Answers,
    Collator,
    Encoded,
    Features,
    Problem,
    all_answered,
    log_softmax,
    slices,
    token_counts,
)
from flash.tasks.examples import ChoiceExample
from flash.tasks.metrics import choice_scores
from flash.tasks.readers import BLANK

AROUND_BLANK = 2  # parts of a long text: its blank is in the middle of what is kept


class ChoiceProblem(Problem):
    """Candidates to a text and, mostly, a question; or to a blank in the text."""

    auto_class: ClassVar[Any] = AutoModelForMultipleChoice

    def encode(
        self,
        examples: Sequence[ChoiceExample],
        tokenizer: PreTrainedTokenizerFast,
        max_length: int,
        *,
        training: bool = False,
    ) -> Encoded:
        """Tokenize each candidate, behind its question, with the text; a text that is too long loses its end."""
        firsts = [
            f"{example.question} {candidate}" if example.question else candidate
            for example in examples
            for candidate in example.candidates
        ]
        counts = [len(example.candidates) for example in examples]
        ends = list(accumulate(counts))
        of_example = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
        room = max_length - tokenizer.num_special_tokens_to_add(pair=True)
        in_tokens = token_counts(tokenizer, firsts, add_special_tokens=False)
        longest = [max(in_tokens[part]) for part in of_example]
        contexts = [example.context for example in examples]
        of_contexts = token_counts(tokenizer, contexts, add_special_tokens=False)
        wholes = [length + first for length, first in zip(of_contexts, longest, strict=True)]
        # the candidates lose their ends only where they are longer than half
        rooms = [max(room - first, room // 2, 1) for first in longest]
        kept = _around_blanks(contexts, tokenizer, rooms)
        seconds = [context for context, count in zip(kept, counts, strict=True) for _ in range(count)]
        inputs: dict[str, list[list[int]]] = {}
        for some in slices(len(firsts)):
            batch = tokenizer(firsts[some], seconds[some], truncation="longest_first", max_length=max_length)
            for name in batch:
                inputs.setdefault(name, []).extend(batch[name])
        rows = [{name: values[part] for name, values in inputs.items()} for part in of_example]
        if all_answered(examples, [example.answer for example in examples]):
            for row, example in zip(rows, examples, strict=True):
                row["labels"] = example.answer  # type: ignore[assignment]
        lengths = [whole + max_length - room for whole in wholes]
        return Encoded(examples, Features(rows), lengths, cut=sum(length > max_length for length in lengths))

    def collator(self, tokenizer: PreTrainedTokenizerFast, pad_to_multiple_of: int | None) -> Collator:
        """Pad candidates, and their number."""
        return _ChoiceCollator(tokenizer, pad_to_multiple_of)

    def loss(self, logits: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """Compare the candidates that there are; questions of one batch may have different numbers of them."""
        logits = logits.float().masked_fill(~inputs["is_candidate"], float("-inf"))
        return torch.nn.functional.cross_entropy(logits, inputs["labels"], reduction="sum")

    def answers(self, logits: np.ndarray, encoded: Encoded) -> Answers:
        """Take the candidate of the highest score."""
        predictions, confidences = [], []
        for scores in self._log_probabilities(logits, encoded):
            predictions.append(int(scores.argmax()))
            confidences.append(float(np.exp(scores.max())))
        return Answers(predictions, confidences)  # type: ignore[arg-type]

    @staticmethod
    def _log_probabilities(logits: np.ndarray, encoded: Encoded) -> list[np.ndarray]:
        return [
            log_softmax(row[: len(example.candidates)]) for row, example in zip(logits, encoded.examples, strict=True)
        ]

    def scores(self, predictions: Sequence[int], examples: Sequence[ChoiceExample]) -> dict[str, float]:
        """Return the share of right choices."""
        return choice_scores(predictions, [-1 if example.answer is None else example.answer for example in examples])

    def mistakes(self, logits: np.ndarray, answers: Answers, encoded: Encoded) -> list[float]:
        """Return the losses."""
        pairs = zip(self._log_probabilities(logits, encoded), encoded.examples, strict=True)
        return [-float(scores[example.answer]) for scores, example in pairs]


class _ChoiceCollator:
    def __init__(self, tokenizer: PreTrainedTokenizerFast, pad_to_multiple_of: int | None) -> None:
        self.tokenizer = tokenizer
        self.pad_to_multiple_of = pad_to_multiple_of

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Tensor]:
        names = [name for name in features[0] if name != "labels"]
        most = max(len(feature["input_ids"]) for feature in features)
        flat, is_candidate = [], []
        for feature in features:
            count = len(feature["input_ids"])
            # in the place of a candidate that is not there, the first one again; it is not compared
            places = [*range(count), *[0] * (most - count)]
            flat += [{name: feature[name][place] for name in names} for place in places]
            is_candidate.append([True] * count + [False] * (most - count))
        padded = self.tokenizer.pad(flat, pad_to_multiple_of=self.pad_to_multiple_of, return_tensors="pt")
        batch = {name: values.view(len(features), most, -1) for name, values in padded.items()}
        batch["is_candidate"] = torch.tensor(is_candidate)
        if "labels" in features[0]:
            batch["labels"] = torch.tensor([feature["labels"] for feature in features])
        return batch


def _around_blanks(contexts: Sequence[str], tokenizer: PreTrainedTokenizerFast, rooms: Sequence[int]) -> list[str]:
    """Keep of a text with more tokens than its room a stretch with its blank in the middle; other texts as they are."""
    kept = list(contexts)
    places = [index for index, context in enumerate(contexts) if BLANK in context]
    for some in slices(len(places)):
        blank_texts = [contexts[index] for index in places[some]]
        # in tokens: a character is several of them to some tokenizers
        batch = tokenizer(blank_texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        for index, context, offsets in zip(places[some], blank_texts, batch["offset_mapping"], strict=True):
            if len(offsets) > rooms[index]:
                kept[index] = _around_blank(context, offsets, tokenizer, rooms[index])
    return kept


def _around_blank(context: str, offsets: list[tuple[int, int]], tokenizer: PreTrainedTokenizerFast, room: int) -> str:
    start = context.index(BLANK)
    blank = next((token for token, (_, end) in enumerate(offsets) if end > start), 0)
    count, stretch = room, ""
    while count > 0:
        first = max(min(blank - count // AROUND_BLANK, len(offsets) - count), 0)
        stretch = context[offsets[first][0] : offsets[first + count - 1][1]]
        # words and characters that are cut through may be more tokens than before
        excess = token_counts(tokenizer, [stretch], add_special_tokens=False)[0] - room
        if excess <= 0:
            break
        count -= excess
    return stretch
