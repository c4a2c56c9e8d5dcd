"""``task.json`` in a fine-tuned folder: what it was trained for, so that scoring needs not be told."""

import json
from pathlib import Path

from flash.errors import InputError
from flash.finetuning.json_files import write_json
from flash.finetuning.problems import problem_of
from flash.finetuning.problems.problem import Problem
from flash.tasks.task import Task

NAME = "task.json"


def write_task_file(folder: Path, problem: Problem, label_names: dict[str, str]) -> None:
    """Write the task, its classes and their readable names, and what was measured in training."""
    facts = {
        "task": problem.task.to_dict(),
        "labels": list(problem.labels),
        "label_names": label_names,
        "measured": problem.measured,
    }
    write_json(folder / NAME, facts)


def read_task_file(folder: Path) -> tuple[Problem, dict[str, str]]:
    """Read it again.

    Raises:
        InputError: The folder has none, or it is damaged.
    """
    path = folder / NAME
    if not path.is_file():
        raise InputError(f"{folder} has no {NAME}: name a folder that `flashquad finetune` wrote")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        task = Task.from_dict(facts["task"], source=str(path))
        # folders of earlier versions have nothing measured
        measured = {name: int(value) for name, value in facts.get("measured", {}).items()}
        return problem_of(task, tuple(facts["labels"]), measured), dict(facts["label_names"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged: {' '.join(str(error).split())}") from error
