"""What a row of a task's file becomes, one class for each kind of task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class TextExample:
    """One text or a pair, with its class or its value; None where it is not known."""

    id: object
    text: str
    pair: str | None
    label: str | float | None


class Entity(NamedTuple):
    """Characters ``start`` up to, not including, ``end`` of a text."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, slots=True)
class EntityExample:
    """A text and its entities; None where they are not known."""

    id: object
    text: str
    entities: tuple[Entity, ...] | None


class Answer(NamedTuple):
    """Text of an answer and the character of the context that it starts at; -1 where the context does not hold it."""

    text: str
    start: int


@dataclass(frozen=True, slots=True)
class ReadingExample:
    """A question on a text and its answers, the first one to train on; None where they are not known.

    The first is in the text; answers that are not, as an annotator wrote them, come last and are only scored against.
    """

    id: object
    context: str
    question: str
    answers: tuple[Answer, ...] | None


@dataclass(frozen=True, slots=True)
class ChoiceExample:
    """A question on a text, answers to choose from, and the right one's index; None where it is not known."""

    id: object
    context: str
    question: str
    candidates: tuple[str, ...]
    answer: int | None


Example = TextExample | EntityExample | ReadingExample | ChoiceExample


def text_of(example: Example) -> str:
    """Write all that a model reads of an example, for duplicates and displays."""
    match example:
        case TextExample():
            return example.text if example.pair is None else f"{example.text}\n{example.pair}"
        case EntityExample():
            return example.text
        case ReadingExample():
            return f"{example.question}\n{example.context}"
        case ChoiceExample():
            return "\n".join((example.question, *example.candidates, example.context))


def answer_of(example: Example) -> object:
    """Return what is to be found; None where it is not known."""
    match example:
        case TextExample():
            return example.label
        case EntityExample():
            return example.entities
        case ReadingExample():
            return example.answers
        case ChoiceExample():
            return example.answer
