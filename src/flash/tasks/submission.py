"""Predictions as files: CLUE's own forms where a task has one, else JSON lines with what was read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flash.tasks.examples import ChoiceExample, Entity, EntityExample, Example, ReadingExample, TextExample
from flash.tasks.loading import Split
from flash.tasks.task import Task

FEW_SHOT_IDIOMS = "chidf_predict.json"


def write_submission(path: Path, task: Task, examples: Sequence[Example], predictions: Sequence[Any]) -> None:
    """Write what CLUE's site takes, in the order of the test file.

    One JSON object with the answer of each question for reading comprehension and for the idioms of ChID, else a line
    ``{"id": ..., "label": ...}`` a row. Source: the submission rules of the CLUE benchmark (2021-09-04).
    """
    answers = list(zip(examples, predictions, strict=True))
    if _is_keyed(task, examples):
        _write(path, [{example.id: prediction for example, prediction in answers}])
    else:
        _write(path, [_submitted(task, number, *answer) for number, answer in enumerate(answers)])


def submission_obstacle(task: Task, split: Split) -> str | None:
    """Say why no submission can be made for a file; None where one can."""
    if split.left_out:
        return f"{split.left_out.total():,} rows cannot be read, and a submission must answer every one"
    if _is_keyed(task, split.examples):
        # as JSON writes them: 1 and "1" are one key
        ((name, times),) = Counter(str(example.id) for example in split.examples).most_common(1)
        if times > 1:
            return f"{times:,} questions have the id {name}, and a submission has one answer to an id"
    return None


def submission_name(task: Task, examples: Sequence[Example]) -> str:
    """Name the file."""
    assert task.submission is not None
    return FEW_SHOT_IDIOMS if task.form == "idiom" and not _is_tagged(examples) else task.submission


def write_predictions(
    path: Path, examples: Sequence[Example], predictions: Sequence[Any], confidences: Sequence[float | None]
) -> None:
    """Write a JSON line for each text: what was read, what is predicted, how probable the model holds it."""
    rows = []
    for example, prediction, confidence in zip(examples, predictions, confidences, strict=True):
        row = {"id": example.id, **_read(example), "prediction": _plain(prediction)}
        if isinstance(example, ChoiceExample):
            row["answer"] = example.candidates[prediction]
        rows.append(row if confidence is None else row | {"confidence": round(confidence, 6)})
    _write(path, rows)


def _submitted(task: Task, number: int, example: Example, prediction: Any) -> dict[str, Any]:
    if isinstance(example, EntityExample):
        return {"id": example.id, "text": example.text, "label": clue_entities(example.text, prediction)}
    if task.form == "idiom":
        return {"id": example.id, "answer": prediction}
    if task.form == "dialogue":
        return {"id": number if example.id is None else example.id, "label": prediction}
    return {"id": example.id, "label": prediction}


def clue_entities(text: str, entities: Sequence[Entity]) -> dict[str, dict[str, list[list[int]]]]:
    """Write entities as CLUENER does: ``{label: {mention: [[first, last], ...]}}``."""
    labels: dict[str, dict[str, list[list[int]]]] = {}
    for start, end, label in entities:
        labels.setdefault(label, {}).setdefault(text[start:end], []).append([start, end - 1])
    return labels


def _read(example: Example) -> dict[str, Any]:
    match example:
        case TextExample():
            return {"text": example.text} | ({} if example.pair is None else {"pair": example.pair})
        case EntityExample():
            return {"text": example.text}
        case ReadingExample():
            return {"question": example.question}
        case ChoiceExample():
            return {"question": example.question, "candidates": list(example.candidates)}


def _plain(prediction: Any) -> Any:
    if isinstance(prediction, tuple | list):
        return [{"start": entity.start, "end": entity.end, "label": entity.label} for entity in prediction]
    return prediction


def _is_keyed(task: Task, examples: Sequence[Example]) -> bool:
    """Say whether the submission is one object with the answers by id."""
    return task.kind == "reading" or (task.form == "idiom" and _is_tagged(examples))


def _is_tagged(examples: Sequence[Example]) -> bool:
    return any(str(example.id).startswith("#idiom") for example in examples)


def _write(path: Path, values: Sequence[Any]) -> None:
    with path.open("w", encoding="utf-8") as out:
        for value in values:
            out.write(json.dumps(value, ensure_ascii=False) + "\n")
