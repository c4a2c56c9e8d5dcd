"""What differs between kinds of task: from examples to model inputs, from logits to answers, one module for each."""

from collections.abc import Mapping

from flash.finetuning.problems.choice import ChoiceProblem
from flash.finetuning.problems.entities import EntityProblem
from flash.finetuning.problems.problem import Problem
from flash.finetuning.problems.reading import ReadingProblem
from flash.finetuning.problems.text import ClassificationProblem, RegressionProblem
from flash.tasks.task import Task

PROBLEMS: dict[str, type[Problem]] = {
    "classification": ClassificationProblem,
    "regression": RegressionProblem,
    "entities": EntityProblem,
    "reading": ReadingProblem,
    "choice": ChoiceProblem,
}


def problem_of(task: Task, labels: tuple[str, ...] = (), measured: Mapping[str, int] | None = None) -> Problem:
    """Build the problem of a task's kind."""
    return PROBLEMS[task.kind](task, labels, measured)
