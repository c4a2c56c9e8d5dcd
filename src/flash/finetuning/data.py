"""A task's three files, read and checked together, and what a user should know of them before training."""

import logging
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from flash.errors import InputError
from flash.finetuning.arguments import FinetuningArguments
from flash.finetuning.models import shown_labels
from flash.finetuning.problems import problem_of
from flash.finetuning.problems.problem import Encoded, Problem, all_answered
from flash.tasks.examples import Example, answer_of
from flash.tasks.loading import (
    Split,
    check_values,
    classes_of,
    empty_column_of,
    load_split,
    placeholder_of,
    without_answers,
)
from flash.tasks.statistics import find_repeats, label_counts
from flash.tasks.task import Task

MANY_CUT = 0.05  # a larger share of cut texts is warned of
MANY_UNKNOWN, MOST_UNKNOWN = 0.05, 0.5  # a larger share of unknown tokens is warned of, or refused

logger = logging.getLogger(__name__)


@dataclass
class TaskData:
    """What is trained, validated and tested on."""

    problem: Problem
    label_names: dict[str, str]
    train: Split
    dev: Split
    test: Split | None

    @property
    def scored_rows(self) -> list[int]:
        """Rows of the test file that are scored: if all have answers those with a text, as by `flashquad evaluate`."""
        if self.test is None or not all_answered(self.test.examples, list(map(answer_of, self.test.examples))):
            return []
        return _with_text(self.test, self.problem.task)

    @property
    def scored_test(self) -> list[Example]:
        """The examples of these rows."""
        return [self.test.examples[row] for row in self.scored_rows] if self.test is not None else []


def load_data(args: FinetuningArguments) -> TaskData:
    """Read the files that the arguments name.

    Raises:
        InputError: One is missing or of no use.
    """
    task = args.read_task()
    train_path, dev_path, test_path = (args.file(name) for name in ("train", "dev", "test"))
    assert train_path is not None
    assert dev_path is not None
    if train_path.resolve() == dev_path.resolve():
        raise InputError(f"{train_path} is named for training and for validation; the scores would mean nothing")
    train = load_split(train_path, task, labels=task.labels)
    # of the whole file: a class that the drawn rows lack is still one
    labels = classes_of(train, task) if task.kind in ("classification", "entities") else ()
    if task.kind == "regression":
        check_values(train, task)
    if args.max_train_rows is not None and args.max_train_rows < len(train.examples):
        rows = sorted(random.Random(args.seed).sample(range(len(train.examples)), args.max_train_rows))
        train.examples = [train.examples[row] for row in rows]
        if task.kind == "classification" and len(label_counts(train.examples)) < 2:
            raise InputError(
                f"the {args.max_train_rows} rows drawn of {train_path} are of one class; raise --max_train_rows"
            )
    problem = problem_of(task, labels)
    dev = load_split(dev_path, task, labels=labels)
    if task.kind == "regression" and len({answer_of(example) for example in dev.examples}) == 1:
        logger.warning("%s: all rows have the same value; correlations with it are not defined and told as 0", dev_path)
    elif (same := placeholder_of(dev.examples)) is not None:
        logger.warning(
            "%s: %s is %r in all %s rows: is it a placeholder? The checkpoint is chosen by these scores",
            dev_path,
            task.label,
            same,
            f"{len(dev.examples):,}",
        )
    test = None if test_path is None else _load_test(test_path, task, labels)
    if args.class_weights == "balanced":
        if task.kind != "classification":
            raise InputError(f"--class_weights balanced is for classes; task {task.name} has none")
        counts = label_counts(train.examples)
        problem.class_weights = [
            len(train.examples) / (len(labels) * counts[label]) if counts[label] else 0.0 for label in labels
        ]
    return TaskData(problem, _distinct_names(labels, train.label_names), train, dev, test)


def _distinct_names(labels: tuple[str, ...], names: dict[str, str]) -> dict[str, str]:
    """Take readable names only where each class has one of its own."""
    given = [names.get(label, label) for label in labels]
    if shown_labels(labels, names) == given:
        return names
    twice = Counter(given).most_common(1)[0][0]
    logger.warning("train: %r is the name of several classes; classes are shown by their labels", twice)
    return {}


def _load_test(path: Path, task: Task, labels: tuple[str, ...]) -> Split:
    """Read the file that is predicted, and say which of its rows are not scored."""
    test = load_split(path, task, labels=labels, need_answers=False)
    rows, unknown = len(test.examples), _unanswered(test)
    if (placeholder := placeholder_of(test.examples)) is not None:
        logger.warning(
            "%s: %s is %r in all %s rows, as in CLUE's test files, whose answers are not published; they are "
            "predicted, not scored (`flashquad evaluate` scores them all the same)",
            path,
            task.label,
            placeholder,
            f"{rows:,}",
        )
        test.examples = without_answers(test.examples)
    elif 0 < unknown < rows:
        logger.warning(
            "%s: %s of %s rows have no %s that is known; the file is predicted, not scored (`flashquad evaluate` "
            "scores the others)",
            path,
            f"{unknown:,}",
            f"{rows:,}",
            task.label,
        )
    elif not unknown and (empty := rows - len(_with_text(test, task))):
        logger.warning(
            "%s: %s of %s rows have an empty text; they are predicted, not scored", path, f"{empty:,}", f"{rows:,}"
        )
    return test


def _with_text(split: Split, task: Task) -> list[int]:
    return [index for index, example in enumerate(split.examples) if empty_column_of(example, task) is None]


def _unanswered(split: Split) -> int:
    return sum(answer_of(example) is None for example in split.examples)


def check_vocabulary(model: str, encoded: Encoded, tokenizer: PreTrainedTokenizerFast, embeddings: int) -> float:
    """Check that the training texts are made of tokens that tokenizer and model know.

    Args:
        model: Its name, for messages.
        embeddings: Number of tokens that the model has embeddings of.

    Returns:
        The share of the tokens that the tokenizer does not know.

    Raises:
        InputError: That are most, as where a folder lacks the tokenizer's files, or the model does not know one.
    """
    counts = Counter(token for row in encoded.features.rows for token in _flat(row["input_ids"]))
    if max(counts, default=0) >= embeddings:
        raise InputError(
            f"--model {model}: its tokenizer has token {max(counts)}, the model knows {embeddings:,}; name a folder "
            "whose files belong together"
        )
    unknown = counts[tokenizer.unk_token_id]
    known = sum(count for token, count in counts.items() if token not in tokenizer.all_special_ids)
    if not unknown + known:  # a tokenizer without a token for what it does not know leaves that out
        raise InputError(
            f"--model {model}: its tokenizer makes no token of the training texts; does the folder hold its files?"
        )
    share = unknown / (unknown + known)
    if share > MOST_UNKNOWN:
        raise InputError(
            f"--model {model}: its tokenizer does not know {share:.0%} of the tokens of the training texts; does the "
            "folder hold the tokenizer's files, and is it for this language?"
        )
    if share > MANY_UNKNOWN:
        logger.warning("train: %.0f %% of the tokens are unknown to the tokenizer", 100 * share)
    return share


def _flat(input_ids: list[Any]) -> Iterator[int]:
    for each in input_ids:
        if isinstance(each, list):
            yield from each
        else:
            yield each


def describe(data: TaskData, encoded: dict[str, Encoded], max_length: int) -> dict[str, Any]:
    """Tell lengths, classes and repeats, and warn of what will cost accuracy.

    Returns:
        The same as JSON.
    """
    report: dict[str, Any] = {"max_length": max_length}
    for name, of_split in encoded.items():
        lengths = np.array(of_split.lengths)
        facts = {
            "rows": len(of_split.examples),
            "inputs": len(of_split.features),
            "tokens_median": int(np.median(lengths)),
            "tokens_95_percent": int(np.quantile(lengths, 0.95)),
            "tokens_longest": int(lengths.max()),
            "cut": of_split.cut,
        }
        report[name] = facts
        logger.info(
            "%s: %s rows; tokens: median %d, 95 %% at most %d, longest %d; %s",
            name,
            f"{facts['rows']:,}",
            facts["tokens_median"],
            facts["tokens_95_percent"],
            facts["tokens_longest"],
            f"{facts['inputs']:,} windows of at most {max_length}"
            if data.problem.reads_windows
            else f"{of_split.cut:,} longer than {max_length}",
        )
        if of_split.overlapping:
            logger.warning(
                "%s: %s entities overlap a longer one: each character has one tag, so only the longest is %s",
                name,
                f"{of_split.overlapping:,}",
                "learned" if name == "train" else "in reach, and the others count as missed",
            )
            facts["overlapping_entities"] = of_split.overlapping
        if data.problem.reads_windows:
            if of_split.cut:
                logger.warning(
                    "%s: %s answers fit no window in whole and %s; --max_seq_length can be larger",
                    name,
                    f"{of_split.cut:,}",
                    "are not learned" if name == "train" else "cannot be found",
                )
        elif of_split.cut > MANY_CUT * len(of_split.examples):
            logger.warning(
                "%s: %.0f %% of the texts are cut at %d tokens; --max_seq_length %d would keep 95 %% whole",
                name,
                100 * of_split.cut / len(of_split.examples),
                max_length,
                facts["tokens_95_percent"],
            )
    if counts := label_counts(data.train.examples) if data.problem.task.kind == "classification" else None:
        report["classes"] = dict(counts.most_common())
        (most, highest), (least, lowest) = counts.most_common()[0], counts.most_common()[-1]
        logger.info(
            "train: %d classes, from %s (%s rows) to %s (%s rows)",
            len(data.problem.labels),
            data.label_names.get(most, most),
            f"{highest:,}",
            data.label_names.get(least, least),
            f"{lowest:,}",
        )
        if absent := [label for label in data.problem.labels if not counts[label]]:
            logger.warning("train: no row of class %s; it cannot be learned", ", ".join(absent))
        if alike := _alike(data.problem.labels):
            logger.warning("train: %s are classes of their own; is one a slip of the pen?", " and ".join(alike))
    repeats = find_repeats(data.train.examples, data.dev.examples)
    report["repeats"] = {
        "within_train": repeats.within,
        "with_contradictory_labels": repeats.contradictory,
        "dev_in_train": repeats.shared,
    }
    if repeats.shared:
        logger.warning(
            "%s of %s dev texts are in the training file too, such as %r; scores are too good by them",
            f"{repeats.shared:,}",
            f"{len(data.dev.examples):,}",
            (repeats.first_shared or "")[:40],
        )
    if repeats.contradictory:
        logger.warning("train: %s texts occur with more than one label", f"{repeats.contradictory:,}")
    return report


def _alike(labels: Sequence[str]) -> list[str]:
    """Find classes that differ in case or white space alone."""
    counts = Counter("".join(label.split()).casefold() for label in labels)
    return [repr(label) for label in labels if counts["".join(label.split()).casefold()] > 1]
