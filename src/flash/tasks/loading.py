"""A task's file to examples: good rows kept, bad ones counted and told, a wrong file refused."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from flash.corpus.records import Reject
from flash.corpus.rejects import RejectLog
from flash.errors import InputError
from flash.tasks.examples import ChoiceExample, EntityExample, Example, ReadingExample, TextExample, answer_of
from flash.tasks.readers import BadRowError, columns_of, read_examples
from flash.tasks.rows import COMPRESSIONS, SUFFIXES, Row, read_rows
from flash.tasks.task import Task, packaged_tasks

# a label column with more classes than this and as many as half the rows holds texts
_MOST_CLASSES_OF_FEW_ROWS = 50
_MOST_SHOWN = 5  # classes in a message
_LARGEST_VALUE = 1e37  # float32 ends at 3e38, and its full precision at 1e-38
_MOST_SPREADS_FROM_ZERO = 1e5  # float32 has 7 digits

logger = logging.getLogger(__name__)


@dataclass
class Split:
    """Examples of one file, and what was left out of it.

    Args:
        path: The file.
        examples: In the order of the file.
        label_names: Readable names of classes, where the file gives them.
        left_out: Number of rows left out, by reason.
    """

    path: Path
    examples: list[Example]
    label_names: dict[str, str] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)


def load_split(path: Path, task: Task, *, labels: Sequence[str] = (), need_answers: bool = True) -> Split:
    """Read a file of a task.

    Args:
        labels: Classes that there are; a row of another one is left out. None to take any.
        need_answers: Leave out rows without an answer; else rows with none, or with one that is not known, are kept
            without it, so that every text is answered.

    Raises:
        InputError: The file cannot be read, is not one of the task, or no row of it is of use.
    """
    answers = _read_answers(path, task)
    split = Split(path, [])
    wrong_labels: Counter[str] = Counter()
    rows = list(read_rows(path))
    _check_columns(path, task, [row for row in rows if isinstance(row, Row)], need_answers=need_answers)
    with RejectLog(only_counted=frozenset()) as rejects:
        for number, row in enumerate(rows):
            if isinstance(row, Reject):
                rejects.add(row)
                continue
            for example in _examples(task, row, number, answers, labels, need_answers):
                fault = example if isinstance(example, BadRowError) else _fault(example, task, labels, need_answers)
                if fault is None:
                    assert not isinstance(example, BadRowError)
                    split.examples.append(example)
                    _note_label_name(split, task, row, example)
                    continue
                if fault.reason == "unknown_label":
                    wrong_labels.update([str(fault)])
                rejects.add(Reject(fault.reason, str(path), row.line, str(fault)))
        split.left_out = rejects.tally.counts
    _check(split, task, wrong_labels, rejects.tally.first)
    if split.left_out:
        logger.warning(
            "%s: %s of %s rows left out: %s",
            path,
            f"{sum(split.left_out.values()):,}",
            f"{sum(split.left_out.values()) + len(split.examples):,}",
            ", ".join(f"{count:,} {reason}" for reason, count in sorted(split.left_out.items())),
        )
    return split


def find_file(folder: Path, name: str) -> Path | None:
    """Find the file of a split in a folder: ``train.json``, ``train.csv``, ``train.jsonl.zst``, ..."""
    endings = [suffix + compression for suffix in SUFFIXES for compression in ("", *COMPRESSIONS)]
    found = [folder / (name + ending) for ending in endings if (folder / (name + ending)).is_file()]
    if len(found) > 1:
        raise InputError(f"{folder} holds both {found[0].name} and {found[1].name}; name one with --{name}_file")
    return found[0] if found else None


def answers_beside(path: Path, task: Task) -> Path | None:
    """Find the file that holds the answers to another one, for tasks that have such files."""
    if task.answers is None:
        return None
    beside = path.with_name(task.answers.format(split=path.name.split(".", 1)[0]))
    return beside if beside.is_file() else None


def classes_of(split: Split, task: Task) -> tuple[str, ...]:
    """List the classes of a training file, those of the task where it names them.

    Numbers are in their own order, other names in that of their characters.

    Raises:
        InputError: There are fewer than two, or so many that the column must hold something else.
    """
    seen = Counter(label for example in split.examples for label in _labels_of(example))
    labels = task.labels or tuple(sorted(seen, key=_numbers_first))
    if task.kind == "entities":
        if not labels:
            raise InputError(f"{split.path}: no entity in {len(split.examples):,} texts; is {task.label!r} the column?")
        return labels
    if len(seen) < 2:
        raise InputError(
            f"{split.path}: all {len(split.examples):,} rows are of one class, {next(iter(seen))!r}: there is nothing "
            "to learn; name the column of the classes with --label_column"
        )
    too_many = len(seen) > max(_MOST_CLASSES_OF_FEW_ROWS, len(split.examples) // 2)
    if too_many or (not task.labels and _outnumber_the_texts(len(seen), split.examples)):
        raise InputError(
            f"{split.path}: column {task.label!r} has {len(seen):,} different values in {len(split.examples):,} rows, "
            f"such as {next(iter(seen))[:40]!r}: it seems to hold texts; are the columns swapped? (--text_columns, "
            "--label_column)"
        )
    return labels


def check_values(split: Split, task: Task) -> None:
    """Check that there is something to learn in the values of a training file, and that float32 can tell them apart.

    Raises:
        InputError: All are the same, or they are so large, so small or so close to each other that a model cannot give
            them.
    """
    values = np.array([answer_of(example) for example in split.examples], dtype=np.float64)
    if (values == values[0]).all():
        raise InputError(
            f"{split.path}: all {len(split.examples):,} rows have the value {values[0]}: there is nothing to "
            "learn; name the column of the values with --label_column"
        )
    largest = np.abs(values).max()
    middle, spread = largest * np.mean(values / largest), largest * np.std(values / largest)  # squares could overflow
    if largest > _LARGEST_VALUE or spread < 1 / _LARGEST_VALUE:
        raise InputError(
            f"{split.path}: column {task.label!r} has values up to {largest:g} with a standard deviation of "
            f"{spread:g}, which a model's float32 numbers do not hold; multiply or divide them by a power of ten"
        )
    if abs(middle) > _MOST_SPREADS_FROM_ZERO * spread:
        raise InputError(
            f"{split.path}: column {task.label!r} has values around {middle:g} with a standard deviation of "
            f"{spread:g}, which a model's float32 numbers do not tell apart; subtract {middle:g} from them"
        )


def placeholder_of(examples: Sequence[Example]) -> object | None:
    """Return the one answer of all rows, where several have the same; None where answers differ or are not known.

    The test files of CLUE that are published with a label column have such a placeholder in all rows.
    """
    if len(examples) < 2 or any(isinstance(example, ReadingExample) for example in examples):
        return None
    answers = {answer_of(example) for example in examples}
    return answers.pop() if len(answers) == 1 else None


def without_answers(examples: Sequence[Example]) -> list[Example]:
    """Take the answers away."""
    names = {TextExample: "label", EntityExample: "entities", ReadingExample: "answers", ChoiceExample: "answer"}
    return [replace(example, **{names[type(example)]: None}) for example in examples]  # type: ignore[arg-type]


def _numbers_first(name: str) -> tuple[bool, int, str]:
    return (False, int(name), "") if name.isdecimal() else (True, 0, name)


def _labels_of(example: Example) -> list[str]:
    if isinstance(example, EntityExample):
        return [entity.label for entity in example.entities or ()]
    assert isinstance(example, TextExample)
    return [str(example.label)]


def _outnumber_the_texts(classes: int, examples: Sequence[Example]) -> bool:
    """Say whether there are more classes than different texts, as where the two columns are swapped.

    One column of a pair may rightly hold a few topics; there the classes must hardly occur twice, too.
    """
    columns = list(zip(*map(_texts_of, examples), strict=True))
    fewer = any(len(set(column)) < classes for column in columns)
    return fewer and (len(columns) == 1 or 2 * classes > len(examples))


def _examples(
    task: Task, row: Row, number: int, answers: dict[str, Any], labels: Sequence[str], need_answers: bool
) -> Iterator[Example | BadRowError]:
    """Read a row; where answers are not needed, one that cannot be read or is not known is as none."""
    found = list(read_examples(task, row.values, number, answers))
    if need_answers:
        yield from found
        return
    unanswered = list(read_examples(task, _without(row.values, task.label), number, {}))
    for example, without_answer in zip(found, unanswered, strict=False):
        known = not isinstance(example, BadRowError) and _is_known(example, task, labels)
        yield example if known else without_answer
    if len(found) != len(unanswered):
        yield from found[len(unanswered) :] or unanswered[len(found) :]


def _without(value: Any, key: str) -> Any:
    """Leave a key out of nested mappings."""
    if isinstance(value, dict):
        return {name: _without(inner, key) for name, inner in value.items() if name != key}
    return [_without(inner, key) for inner in value] if isinstance(value, list) else value


def _is_known(example: Example, task: Task, labels: Sequence[str]) -> bool:
    if answer_of(example) is None or (task.no_label and answer_of(example) in task.no_label):
        return False
    return task.kind not in ("classification", "entities") or all(label in labels for label in _labels_of(example))


def _texts_of(example: Example) -> tuple[str, ...]:
    match example:
        case TextExample(text=text, pair=pair):
            return (text,) if pair is None else (text, pair)
        case EntityExample(text=text):
            return (text,)
        case _:
            return (example.context, example.question) if example.question else (example.context,)


def empty_column_of(example: Example, task: Task) -> str | None:
    """Name the first column without a text."""
    columns = zip(task.texts, _texts_of(example), strict=False)
    return next((column for column, text in columns if not text.strip()), None)


def _fault(example: Example, task: Task, labels: Sequence[str], need_answers: bool) -> BadRowError | None:
    answer = answer_of(example)
    if not need_answers:
        return None
    if (column := empty_column_of(example, task)) is not None:
        return BadRowError("empty_text", f"{column} is empty")
    if answer is None:
        return BadRowError("no_label", f"no {task.label}")
    if task.no_label and answer in task.no_label:
        return BadRowError("no_label", f"{task.label} is {answer!r}, which means that there is none")
    if labels and task.kind in ("classification", "entities"):
        for label in _labels_of(example):
            if label not in labels:
                some = ", ".join([*labels[:_MOST_SHOWN], *["..."][: len(labels) > _MOST_SHOWN]])
                what = f"{task.label} {label[:40]!r} is none of the {len(labels)} classes ({some})"
                return BadRowError("unknown_label", what)
    return None


def _check_columns(path: Path, task: Task, rows: Sequence[Row], *, need_answers: bool) -> None:
    """Refuse a file in which a column of the task is nowhere; a row that lacks one costs only itself."""
    needed = list(columns_of(task))
    if task.form == "squad":
        needed += [] if any("data" in row.values for row in rows) else [task.texts[0]]
    elif need_answers and task.form not in ("dialogue", "idiom"):
        needed.append(task.label)
    for name in needed:
        if rows and not any(name in row.values for row in rows):
            _refuse_columns(path, task, rows[0], name)


def _check(split: Split, task: Task, wrong_labels: Counter[str], first: Sequence[Reject]) -> None:
    wrong, good = sum(wrong_labels.values()), len(split.examples)
    broken = split.left_out["broken_line"]
    if broken > good:
        example = next(reject for reject in first if reject.reason == "broken_line")
        raise InputError(
            f"{split.path}: {broken:,} of {split.left_out.total() + good:,} rows are broken lines, the first one line "
            f"{example.line}: {example.detail}"
        )
    if wrong > good:
        raise InputError(
            f"{split.path}: in {wrong:,} of {wrong + good:,} rows {wrong_labels.most_common(1)[0][0]}: is this a file "
            f"of task {task.name}, and are its columns what they are taken for? (--text_columns, --label_column)"
        )
    if not good:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in split.left_out.items()) or "no rows"
        raise InputError(f"{split.path}: no row is of use for task {task.name} ({reasons})")


def _refuse_columns(path: Path, task: Task, row: Row, missing: str) -> None:
    fitting = [other.name for other in packaged_tasks().values() if other.submission and _is_of(other, row)]
    hint = f" They are those of {', '.join(fitting)}." if fitting else ""
    raise InputError(
        f"{path}: there is no column {missing!r}, which task {task.name} reads; the columns are "
        f"{', '.join(map(str, row.values))}.{hint} Other names are told to `flashquad finetune` with "
        "--text_columns and --label_column"
    )


def _is_of(task: Task, row: Row) -> bool:
    if task.form == "squad":
        articles = row.values.get("data")
        return isinstance(articles, list) and any(isinstance(each, dict) and "paragraphs" in each for each in articles)
    telling = columns_of(task) if task.form == "dialogue" else (*columns_of(task), task.label)
    return all(name in row.values for name in telling)


def _note_label_name(split: Split, task: Task, row: Row, example: Example) -> None:
    name = row.values.get(task.label_name) if task.label_name else None
    if name and str(name).isprintable() and isinstance(example, TextExample) and isinstance(example.label, str):
        split.label_names.setdefault(example.label, str(name))


def _read_answers(path: Path, task: Task) -> dict[str, Any]:
    beside = answers_beside(path, task)
    if beside is None:
        return {}
    try:
        answers = json.loads(beside.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise InputError(f"{beside} holds no JSON: {error}") from error
    if not isinstance(answers, dict):
        raise InputError(f"{beside} must hold a JSON object, the answer of each blank by its tag")
    return answers
