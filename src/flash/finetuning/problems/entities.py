"""Entities in texts: a tag for each token, B- where an entity begins, I- where it goes on, O elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForTokenClassification, DataCollatorForTokenClassification, PreTrainedTokenizerFast

from flash.finetuning.problems.problem import (
    NOT_SCORED,
    Answers,
    Collator,
    Encoded,
    Features,
    Problem,
    all_answered,
    rows_of,
    slices,
    token_counts,
)
from flash.finetuning.problems.tag_sequences import likeliest_tags
from flash.tasks.examples import Entity, EntityExample
from flash.tasks.metrics import entity_scores


@dataclass
class _Window:
    """A stretch of a text that fits the model: the example's index, and each token's characters, (0, 0) for none."""

    owner: int
    offsets: list[tuple[int, int]]


class EntityProblem(Problem):
    """Stretches of a text with labels; a long text is read in windows that overlap by a quarter."""

    auto_class: ClassVar[Any] = AutoModelForTokenClassification
    pipeline: ClassVar[str | None] = "token-classification"
    reads_windows: ClassVar[bool] = True

    def head_labels(self) -> tuple[str, ...]:
        """Return the tags."""
        return ("O", *(f"{part}-{label}" for label in self.labels for part in "BI"))

    def encode(
        self,
        examples: Sequence[EntityExample],
        tokenizer: PreTrainedTokenizerFast,
        max_length: int,
        *,
        training: bool = False,
    ) -> Encoded:
        """Tokenize the texts and tag their tokens."""
        if not examples:
            return Encoded(examples, Features([]), [])
        texts = [example.text for example in examples]
        rows: list[dict[str, Any]] = []
        windows: list[_Window] = []
        for some in slices(len(texts)):
            batch = tokenizer(
                texts[some],
                truncation=True,
                max_length=max_length,
                stride=max_length // 4,
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
            )
            owners, offsets = batch.pop("overflow_to_sample_mapping"), batch.pop("offset_mapping")
            rows += rows_of(batch)
            windows += [_Window(some.start + owner, spans) for owner, spans in zip(owners, offsets, strict=True)]
        encoded = Encoded(examples, Features(rows), token_counts(tokenizer, texts), windows=windows)
        if all_answered(examples, [example.entities for example in examples]):
            kept = [without_overlaps(example.entities or ()) for example in examples]
            for row, window in zip(rows, windows, strict=True):
                row["labels"] = self._tags(window.offsets, kept[window.owner])
            entities = (set(example.entities or ()) for example in examples)
            encoded.overlapping = sum(len(all_) - len(of_text) for all_, of_text in zip(entities, kept, strict=True))
        return encoded

    def _tags(self, offsets: Sequence[tuple[int, int]], entities: Sequence[Entity]) -> list[int]:
        tags = [NOT_SCORED if start == end else 0 for start, end in offsets]
        for entity in entities:
            begin = 1 + 2 * self.labels.index(entity.label)
            inside = [i for i, (start, end) in enumerate(offsets) if start < entity.end and end > entity.start]
            for place, i in enumerate(inside):
                # a window may begin within an entity
                tags[i] = begin if place == 0 and offsets[i][0] <= entity.start else begin + 1
        return tags

    def collator(self, tokenizer: PreTrainedTokenizerFast, pad_to_multiple_of: int | None) -> Collator:
        """Pad tags too."""
        return DataCollatorForTokenClassification(
            tokenizer, pad_to_multiple_of=pad_to_multiple_of, label_pad_token_id=NOT_SCORED
        )

    def loss(self, logits: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """Sum over the tokens that have tags."""
        return cross_entropy(
            logits.float().flatten(0, 1),
            inputs["labels"].flatten(),
            ignore_index=NOT_SCORED,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )

    def reduce_logits(self, logits: Tensor) -> Tensor:
        """Keep log probabilities, in half precision: there is one for each token and tag of the file."""
        return logits.float().log_softmax(dim=-1).half()

    def answers(self, logits: np.ndarray, encoded: Encoded) -> Answers:
        """Join the likeliest tags to entities.

        Where windows overlap, the one in which the token stands farther from an end says.

        Args:
            logits: Of all windows, (windows, tokens, tags), padded at the end.
            encoded: The windows, and whose they are.
        """
        places = [_places_that_say(window) for window in encoded.windows]
        owners = [window.owner for window in encoded.windows]
        found = likeliest_tags(
            [rows[kept] for rows, kept in zip(logits, places, strict=True)],
            may_go_on=[owner == before for before, owner in pairwise([None, *owners])],
        )
        tags: list[dict[tuple[int, int], tuple[int, int]]] = [{} for _ in encoded.examples]
        for window, kept, of_window in zip(encoded.windows, places, found, strict=True):
            last, of_text = len(window.offsets) - 1, tags[window.owner]
            for place, tag in zip(kept, of_window, strict=True):
                span, depth = tuple(window.offsets[place]), min(place, last - place)
                if span not in of_text or depth > of_text[span][0]:
                    of_text[span] = (depth, int(tag))
        predictions = [
            tuple(_stripped(entity, example.text) for entity in self._entities(_in_order(of_text)))
            for of_text, example in zip(tags, encoded.examples, strict=True)
        ]
        return Answers(predictions, [None] * len(predictions))

    def _entities(self, tagged: Sequence[tuple[tuple[int, int], int]]) -> list[Entity]:
        entities: list[Entity] = []
        label, start, end = -1, 0, 0  # of the entity that is open
        for span, tag in [*tagged, ((0, 0), 0)]:
            goes_on = tag > 0 and tag % 2 == 0 and (tag - 1) // 2 == label
            if label >= 0 and not goes_on:
                entities.append(Entity(start, end, self.labels[label]))
                label = -1
            if goes_on:
                end = span[1]
            elif tag > 0:
                # where windows meet, an I- may stand without its B-; it opens an entity as well
                label, start, end = (tag - 1) // 2, *span
        return entities

    def scores(self, predictions: Sequence[Sequence[Entity]], examples: Sequence[EntityExample]) -> dict[str, float]:
        """Return precision, recall and F1 of whole entities."""
        return entity_scores(predictions, [example.entities or () for example in examples], self.labels)

    def mistakes(self, logits: Any, answers: Answers, encoded: Encoded) -> list[float]:
        """Count the entities that were missed or made up."""
        pairs = zip(answers.predictions, encoded.examples, strict=True)
        return [float(len(set(found) ^ set(example.entities or ()))) for found, example in pairs]


def _places_that_say(window: _Window) -> list[int]:
    """Leave out tokens without characters; of several tokens of one character the first one says."""
    spans = [tuple(span) for span in window.offsets]
    return [place for place, span in enumerate(spans) if span[0] < span[1] and (place == 0 or span != spans[place - 1])]


def without_overlaps(entities: Sequence[Entity]) -> list[Entity]:
    """Keep of entities that share characters the longest one, of equally long ones the first."""
    kept: list[Entity] = []
    for entity in sorted(set(entities), key=lambda entity: (entity.start - entity.end, entity)):
        if all(entity.end <= other.start or other.end <= entity.start for other in kept):
            kept.append(entity)
    return sorted(kept)


def _in_order(of_text: dict[tuple[int, int], tuple[int, int]]) -> list[tuple[tuple[int, int], int]]:
    return [(span, tag) for span, (_, tag) in sorted(of_text.items())]


def _stripped(entity: Entity, text: str) -> Entity:
    """Leave out white space at the ends: some tokenizers count it to the word behind it."""
    mention = text[entity.start : entity.end]
    start = entity.start + len(mention) - len(mention.lstrip())
    return Entity(start, max(start + len(mention.strip()), start + 1), entity.label)
