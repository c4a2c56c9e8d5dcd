"""What is worth knowing of a task's texts before training: classes, and texts that occur twice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from flash.tasks.examples import Example, TextExample, answer_of, text_of


@dataclass(frozen=True)
class Repeats:
    """Texts that occur more than once.

    Args:
        within: Rows of the training file that repeat an earlier one of it.
        contradictory: Different texts of it that occur with more than one label.
        shared: Rows of the other file whose text is in the training file.
        first_shared: One of these.
    """

    within: int
    contradictory: int
    shared: int
    first_shared: str | None


def find_repeats(train: Sequence[Example], other: Sequence[Example]) -> Repeats:
    """Compare texts, white space aside."""
    answers: dict[str, set[object]] = defaultdict(set)
    for example in train:
        answers[_bare(example)].add(answer_of(example))
    shared = [example for example in other if _bare(example) in answers]
    return Repeats(
        within=len(train) - len(answers),
        contradictory=sum(len(found) > 1 for found in answers.values()),
        shared=len(shared),
        first_shared=text_of(shared[0]) if shared else None,
    )


def label_counts(examples: Sequence[Example]) -> Counter[str]:
    """Count the rows of each class."""
    return Counter(str(example.label) for example in examples if isinstance(example, TextExample))


def _bare(example: Example) -> str:
    return "".join(text_of(example).split())
