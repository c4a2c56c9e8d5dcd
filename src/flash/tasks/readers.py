"""From a row of a task's file to examples: a function for each form of file."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from operator import index
from typing import Any

from flash.tasks.examples import Answer, ChoiceExample, Entity, EntityExample, Example, ReadingExample, TextExample
from flash.tasks.task import Task

BLANK = "____"  # in the place of an idiom that was left out
_IDIOM = re.compile(r"#idiom\d*#")
_WITH_POINT = re.compile(r"-?\d+\.0")


class BadRowError(Exception):
    """A row that no example can be made of; ``reason`` is what such rows are counted under."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def columns_of(task: Task) -> tuple[str, ...]:
    """Name the columns that a row of the task must have, labels aside."""
    if task.form == "dialogue":
        return task.texts[0], "qas"
    if task.form == "squad":
        return ()  # a nested document or flat rows
    if task.form in ("choice", "idiom"):
        return *task.texts, task.candidates
    return (*task.texts, "target") if task.form == "pronoun" else task.texts


def read_examples(
    task: Task, row: dict[str, Any], number: int, answers: dict[str, Any]
) -> Iterator[Example | BadRowError]:
    """Make the examples of a row; a row of some forms holds several.

    Args:
        number: Of the row in its file, from 0: its id where it has none.
        answers: What the file beside it says, by the tag of the blank.

    Returns:
        Examples, and an error, not raised, in the place of each that cannot be made.
    """
    try:
        yield from _READERS[task.form](task, row, number, answers)
    except BadRowError as error:
        yield error


def _text_row(task: Task, row: dict[str, Any], number: int, answers: dict[str, Any]) -> Iterator[Example]:
    texts = [_text(row, column) for column in task.texts]
    yield TextExample(_id(task, row, number), texts[0], texts[1] if len(texts) == 2 else None, _class(task, row))


def _value_row(task: Task, row: dict[str, Any], number: int, answers: dict[str, Any]) -> Iterator[Example]:
    texts = [_text(row, column) for column in task.texts]
    label = row.get(task.label)
    value = None
    if label not in (None, ""):
        if _is_number_to_python_alone(label):
            raise BadRowError("no_number", f"{task.label} must be a number, got {_short(label)}")
        try:
            value = float(label)
        except (TypeError, ValueError, OverflowError) as error:
            raise BadRowError("no_number", f"{task.label} must be a number, got {_short(label)}") from error
        if not math.isfinite(value):
            raise BadRowError("no_number", f"{task.label} must be a finite number, got {label}")
    yield TextExample(_id(task, row, number), texts[0], texts[1] if len(texts) == 2 else None, value)


def _pronoun_row(task: Task, row: dict[str, Any], number: int, answers: dict[str, Any]) -> Iterator[Example]:
    text, target = _text(row, task.texts[0]), _cell(row.get("target"))
    try:
        spans = [(target[f"span{i}_index"], target[f"span{i}_text"]) for i in (1, 2)]
        ends = [(index(start), index(start) + len(mention)) for start, mention in spans]
    except (KeyError, TypeError) as error:
        raise BadRowError("broken_row", "target must hold span1_index, span1_text, span2_index, span2_text") from error
    for (start, end), (_, mention) in zip(ends, spans, strict=True):
        if text[start:end] != mention:
            raise BadRowError("not_in_text", f"{_short(mention)} is not at character {start} of the text")
    # the noun between low lines, the pronoun in brackets; from the right, so that places stay what they are
    marks = (("_", "_"), ("[", "]"))
    for (start, end), (left, right) in sorted(zip(ends, marks, strict=True), reverse=True):
        text = f"{text[:start]}{left}{text[start:end]}{right}{text[end:]}"
    yield TextExample(_id(task, row, number), text, None, _class(task, row))


def _entity_row(task: Task, row: dict[str, Any], number: int, answers: dict[str, Any]) -> Iterator[Example]:
    text, label = _text(row, task.texts[0]), _cell(row.get(task.label))
    if label is None:
        yield EntityExample(_id(task, row, number), text, None)
        return
    try:
        if isinstance(label, dict):  # CLUENER: {kind: {mention: [[first, last], ...]}}
            found = [
                (Entity(place[0], place[1] + 1, _named(kind)), mention)
                for kind, mentions in label.items()
                # Arrow writes None for what a row does not have
                for mention, places in ({} if mentions is None else mentions).items()
                for place in _listed([] if places is None else places)
            ]
        else:
            found = [
                (Entity(entry["start"], entry["end"], _named(entry["label"])), entry.get("text")) for entry in label
            ]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise BadRowError(
            "broken_row",
            f"{task.label} must be {{kind: {{mention: [[first, last]]}}}} or [{{start, end, label}}], got "
            f"{_short(label)}",
        ) from error
    for entity, mention in found:
        if not (isinstance(entity.start, int) and isinstance(entity.end, int)):
            raise BadRowError("broken_row", f"start and end of an entity must be whole numbers, got {entity[:2]}")
        if not 0 <= entity.start < entity.end <= len(text):
            raise BadRowError(
                "not_in_text", f"an entity from {entity.start} to {entity.end} in {len(text)} characters of text"
            )
        if mention is not None and text[entity.start : entity.end] != mention:
            raise BadRowError("not_in_text", f"{_short(mention)} is not at character {entity.start} of the text")
    yield EntityExample(_id(task, row, number), text, tuple(sorted(entity for entity, _ in found)))


def _listed(given: object) -> list[Any]:
    if not isinstance(given, list):
        raise TypeError(f"a list was expected, got {given!r}")
    return given


def _named(label: object) -> str:
    if label is None or not str(label).strip() or _is_no_number(label):
        raise BadRowError("broken_row", f"an entity needs a label, got {label!r}")
    return _whole(str(label).strip(), "a label")


def _squad_row(
    task: Task, row: dict[str, Any], number: int, answers: dict[str, Any]
) -> Iterator[Example | BadRowError]:
    if "data" not in row:
        yield _question(task, row, _text(row, task.texts[0]), _id(task, row, number))
        return
    try:
        paragraphs = [paragraph for article in row["data"] for paragraph in article["paragraphs"]]
        nested = [
            (question, paragraph, question.get("id")) for paragraph in paragraphs for question in paragraph["qas"]
        ]
    except (AttributeError, KeyError, TypeError) as error:
        raise BadRowError(
            "broken_row", "data must hold articles with paragraphs with qas, as SQuAD has them"
        ) from error
    for number_in_document, (question, paragraph, name) in enumerate(nested):
        name = number_in_document if name is None else name
        try:
            yield _question(task, question, _text(paragraph, task.texts[0]), name)
        except BadRowError as error:
            yield _of_question(name, error)


def _question(task: Task, row: dict[str, Any], context: str, name: object) -> ReadingExample:
    question, given = _text(row, task.texts[1]), _cell(row.get(task.label))
    if given is None:
        return ReadingExample(name, context, question, None)
    try:
        if isinstance(given, str):
            given = [{"text": given}]
        elif isinstance(given, dict) and not isinstance(given["text"], list):
            given = [given]
        if isinstance(given, dict):  # the columns of a table: {text: [...], answer_start: [...]}
            starts = given.get("answer_start")
            pairs = list(zip(given["text"], [None] * len(given["text"]) if starts is None else starts, strict=True))
        else:
            pairs = [(answer["text"], answer.get("answer_start")) for answer in given]
        found = [Answer(text, _place(start)) for text, start in pairs]
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise BadRowError(
            "broken_row", f"{task.label} must be [{{text, answer_start}}], got {_short(given)}"
        ) from error
    placed = [_placed(answer, context) for answer in found if str(answer.text)]
    # what is nowhere cannot be pointed at, but counts in the scores
    kept = tuple(sorted(placed, key=lambda answer: answer.start < 0))
    if not kept or kept[0].start < 0:
        what = f"{_short(found[0].text)} is not in its context" if found else "there is no answer"
        raise BadRowError("answer_not_in_context", what)
    return ReadingExample(name, context, question, kept)


def _place(start: object) -> int:
    """Read the place of an answer, -1 where none is given; tables with gaps write 13.0 for 13.

    Raises:
        ValueError: It is no whole number.
    """
    if start is None or start == "" or _is_no_number(start):
        return -1
    number = float(start)  # type: ignore[arg-type]
    if not number.is_integer() or _is_number_to_python_alone(start):
        raise ValueError(f"answer_start must be a whole number, got {start!r}")
    return int(number)


def _is_number_to_python_alone(given: object) -> bool:
    """Whether it is one of those that Python takes for a number and people do not: True for 1, "1_0" for 10."""
    return isinstance(given, bool) or (isinstance(given, str) and "_" in given)


def _placed(answer: Answer, context: str) -> Answer:
    """Find an answer where it is said to be, or else at its nearest place; -1 for nowhere."""
    text, start = str(answer.text), answer.start
    if start >= 0 and context.startswith(text, start):
        return Answer(text, start)
    places = [match.start() for match in re.finditer(re.escape(text), context)]
    return Answer(text, min(places, key=lambda place: abs(place - start), default=-1))


def _choice_row(task: Task, row: dict[str, Any], number: int, answers: dict[str, Any]) -> Iterator[Example]:
    texts = [_text(row, column) for column in task.texts]
    question = texts[1] if len(texts) == 2 else ""
    candidates = _candidates(row, task.candidates)
    answer = _chosen(row.get(task.label), candidates)
    yield ChoiceExample(_id(task, row, number), texts[0], question, candidates, answer)


def _dialogue_row(
    task: Task, row: dict[str, Any], number: int, answers: dict[str, Any]
) -> Iterator[Example | BadRowError]:
    column = task.texts[0]
    lines = _cell(row.get(column))
    context = "\n".join(_string(line, column) for line in lines) if isinstance(lines, list) else _text(row, column)
    questions = _cell(row.get("qas"))
    if not isinstance(questions, list) or not all(isinstance(entry, dict) for entry in questions):
        raise BadRowError("broken_row", "qas must be a list of questions")
    for number_in_row, entry in enumerate(questions, start=1):
        try:
            candidates = _candidates(entry, task.candidates)
            answer = _chosen(entry.get(task.label), candidates)
            yield ChoiceExample(_id(task, entry, None), context, _text(entry, task.texts[1]), candidates, answer)
        except BadRowError as error:
            yield _of_question(number_in_row, error)


def _of_question(name: object, error: BadRowError) -> BadRowError:
    """Say which of the questions of a row or document it is."""
    return BadRowError(error.reason, f"question {name}: {error}")


def _idiom_row(
    task: Task, row: dict[str, Any], number: int, answers: dict[str, Any]
) -> Iterator[Example | BadRowError]:
    column = task.texts[0]
    content = _cell(row.get(column))
    candidates = _candidates(row, task.candidates)
    for given in content if isinstance(content, list) else [content]:
        try:
            text = _string(given, column)
            tags = _IDIOM.findall(text)
            if not tags:
                raise BadRowError("broken_row", f"no #idiom# in {_short(text)}")
        except BadRowError as error:
            yield error
            continue
        for tag in tags:
            # one blank at a time is asked for; the others are blanks without a name
            asked = _IDIOM.sub("…", text.replace(tag, BLANK))
            named = tag != "#idiom#"
            name = tag if named else _id(task, row, number)
            try:
                answer = _chosen(answers.get(tag) if named else row.get(task.label), candidates)
                yield ChoiceExample(name, asked, "", candidates, answer)
            except BadRowError as error:
                yield _of_question(name, error)


_READERS: dict[str, Callable[[Task, dict[str, Any], int, dict[str, Any]], Iterator[Example | BadRowError]]] = {
    "text": _text_row,
    "value": _value_row,
    "pronoun": _pronoun_row,
    "entities": _entity_row,
    "squad": _squad_row,
    "choice": _choice_row,
    "dialogue": _dialogue_row,
    "idiom": _idiom_row,
}


def _text(row: dict[str, Any], column: str) -> str:
    value = row.get(column)
    return _string("；".join(map(str, value)) if isinstance(value, list) else value, column)  # a list of keywords


def _string(value: Any, column: str) -> str:
    if value is None or _is_no_number(value):
        raise BadRowError("no_text", f"no column {column}" if value is None else f"{column} is {value}, which is none")
    if not isinstance(value, str | int | float):
        raise BadRowError("no_text", f"{column} must be text, got {type(value).__name__}")
    return _whole(str(value), column)


def _whole(text: str, column: str) -> str:
    """Refuse halves of characters, which JSON can write and no tokenizer can read."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadRowError(
            "broken_text", f"{column} has half a character (a lone surrogate) at character {error.start}"
        ) from error
    return text


def _class(task: Task, row: dict[str, Any]) -> str | None:
    label = row.get(task.label)
    if label is None or label == "":
        return None
    if isinstance(label, dict | list | bytes):
        raise BadRowError("broken_row", f"{task.label} must be one class, got {_short(label)}")
    if _is_no_number(label):
        raise BadRowError("no_label", f"{task.label} is {label}, which is no class; an empty cell of a table?")
    if isinstance(label, bool):
        return str(label).lower()
    name = _whole(str(label).strip(), task.label)
    return (name if name in task.labels else _without_point(name)) or None


def _without_point(name: str) -> str:
    """Write 1.0 as 1: pandas makes numbers with a point of a column that has empty cells."""
    return name.removesuffix(".0") if _WITH_POINT.fullmatch(name) else name


def _candidates(row: dict[str, Any], column: str) -> tuple[str, ...]:
    candidates = _cell(row.get(column))
    if not isinstance(candidates, list) or len(candidates) < 2:
        raise BadRowError("broken_row", f"{column} must be a list of two or more, got {_short(candidates)}")
    if any(candidate is None or _is_no_number(candidate) for candidate in candidates):
        raise BadRowError("broken_row", f"{column} must hold texts, got {_short(candidates)}")
    return tuple(_whole(str(candidate), column) for candidate in candidates)


def _is_no_number(value: object) -> bool:
    """Find NaN and the infinities, which Python reads in JSON, and pandas writes for an empty cell."""
    return isinstance(value, float) and not math.isfinite(value)


def _cell(value: Any) -> Any:
    """Read JSON in a cell of a table."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return None if value == "" else value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _chosen(answer: object, candidates: tuple[str, ...]) -> int | None:
    if answer is None or answer == "" or _is_no_number(answer):
        return None
    if isinstance(answer, str | float) and str(answer) not in candidates:
        place = _without_point(str(answer))
        answer = int(place) if place.isdecimal() else answer
    if isinstance(answer, int) and not isinstance(answer, bool):
        if 0 <= answer < len(candidates):
            return answer
    elif str(answer) in candidates:
        return candidates.index(str(answer))
    raise BadRowError("unknown_label", f"the answer {_short(answer)} is none of the {len(candidates)} candidates")


def _id(task: Task, row: dict[str, Any], number: int | None) -> str | int | float | None:
    """Read an id as what JSON can write again; dates and the like as text."""
    value = row.get(task.id)
    if value is None or _is_no_number(value):
        return number
    return value if isinstance(value, int | float) else _whole(str(value), task.id)


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
