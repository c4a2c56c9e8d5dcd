"""What a task is: which columns hold what, which labels there are, what counts as good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, Self

import yaml

from flash.errors import InputError

# Of each form of file: the kind of task, and the columns that it reads.
FORMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "text": ("classification", ("texts", "label")),
    "value": ("regression", ("texts", "label")),
    "pronoun": ("classification", ("texts", "label")),
    "entities": ("entities", ("texts", "label")),
    "squad": ("reading", ("texts", "label")),
    "choice": ("choice", ("texts", "candidates", "label")),
    "dialogue": ("choice", ("texts", "candidates", "label")),
    "idiom": ("choice", ("texts", "candidates", "label")),
}
# Of forms that do not take one text as well as two: how many.
_TEXTS = {"pronoun": 1, "entities": 1, "idiom": 1, "squad": 2, "dialogue": 2}

# The first one decides which checkpoint is best, unless the task names another.
METRICS: dict[str, tuple[str, ...]] = {
    "classification": ("accuracy", "macro_f1"),
    "regression": ("spearman", "pearson", "r2"),
    "entities": ("entity_f1", "entity_precision", "entity_recall", "entity_macro_f1"),
    "reading": ("answer_f1", "exact_match"),
    "choice": ("accuracy",),
}


@dataclass(frozen=True)
class Task:
    """A row of the table of tasks, see docs/finetuning.md.

    Args:
        name: What ``--task`` says.
        form: How a row of the file is read: a key of ``FORMS``.
        texts: Columns of the text, or of the two texts; for ``squad`` and the choices context and question.
        label: Column of what is to be found.
        candidates: Column of what is chosen from.
        id: Column that submissions repeat.
        labels: Classes in the order of their ids; where there are none, those of the training file.
        label_name: Column that calls a class by a readable name.
        no_label: Values of the label column that mean that there is none; such rows are left out.
        metric: Decides which checkpoint is best; one of ``METRICS``.
        max_length: Tokens of an input that are enough for most.
        submission: Name of CLUE's file; its form follows from that of the task.
        answers: File beside ``X.json`` that holds its answers, with ``{split}`` for ``X``.
        title: What it is about.
    """

    name: str
    form: str
    texts: tuple[str, ...]
    label: str = "label"
    candidates: str = "candidates"
    id: str = "id"
    labels: tuple[str, ...] = ()
    label_name: str | None = None
    no_label: tuple[str, ...] = ()
    metric: str = ""
    max_length: int = 128
    submission: str | None = None
    answers: str | None = None
    title: str = ""

    def __post_init__(self) -> None:
        """Refuse what no reader or metric is there for."""
        if self.form not in FORMS:
            raise InputError(f"task {self.name}: no form {self.form!r}; there are {', '.join(FORMS)}")
        if not 1 <= len(self.texts) <= 2:
            raise InputError(
                f"task {self.name}: texts must be one column or two, got {', '.join(self.texts) or 'none'}"
            )
        if len(self.texts) != _TEXTS.get(self.form, len(self.texts)):
            needed = "one column of texts" if _TEXTS[self.form] == 1 else "two columns of texts, context and question"
            raise InputError(f"task {self.name}: form {self.form} reads {needed}, got {', '.join(self.texts)}")
        if not self.metric:
            object.__setattr__(self, "metric", METRICS[self.kind][0])
        if self.metric not in METRICS[self.kind]:
            raise InputError(
                f"task {self.name}: no metric {self.metric!r} for {self.kind}; there are "
                f"{', '.join(METRICS[self.kind])}"
            )
        if self.answers is not None:
            try:
                self.answers.format(split="test")
            except (LookupError, ValueError, AttributeError):
                raise InputError(
                    f"task {self.name}: answers {self.answers!r} may hold {{split}}, the name of the file in front of "
                    "its suffix, and no other braces"
                ) from None
        if self.max_length < 3:
            raise InputError(f"task {self.name}: max_length must be at least 3, got {self.max_length}")

    @property
    def kind(self) -> str:
        """``classification``, ``regression``, ``entities``, ``reading`` or ``choice``."""
        return FORMS[self.form][0]

    def to_dict(self) -> dict[str, Any]:
        """Return what ``from_dict`` reads."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, source: str) -> Self:
        """Read a task from a mapping, such as a YAML file holds.

        Args:
            source: Where it is from, for messages.

        Raises:
            InputError: An unknown or missing key, or a value of another type.
        """
        known = {field.name: field for field in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise InputError(f"{source}: unknown key {unknown[0]!r}; the keys are {', '.join(known)}")
        missing = [name for name in ("name", "form", "texts") if not values.get(name)]
        if missing:
            raise InputError(f"{source}: {missing[0]} is missing")
        settings: dict[str, Any] = {}
        for name, value in values.items():
            if name in ("texts", "labels", "no_label"):
                settings[name] = tuple(map(str, value if isinstance(value, list | tuple) else [value]))
            elif name == "max_length":
                if not str(value).isdecimal():
                    raise InputError(f"{source}: max_length must be a whole number, got {value!r}")
                settings[name] = int(value)
            else:
                settings[name] = None if value is None else str(value)
        return cls(**settings)


def packaged_tasks() -> dict[str, Task]:
    """Return the tasks that come along, by name."""
    text = (resources.files("flash") / "tasks" / "clue.yaml").read_text(encoding="utf-8")
    table = yaml.load(text, yaml.BaseLoader)
    return {name: Task.from_dict({"name": name} | facts, source=f"task {name}") for name, facts in table.items()}


def load_task(name: str, **changes: Any) -> Task:
    """Find a task by its name, or read it from a YAML file.

    Args:
        changes: Fields to replace.

    Raises:
        InputError: There is no such task, or the file says nonsense.
    """
    tasks = packaged_tasks()
    if name in tasks:
        task = tasks[name]
    elif Path(name).is_file():
        task = _read_file(Path(name))
    else:
        raise InputError(
            f"no task {name!r}: it is neither a YAML file nor one of {', '.join(tasks)} (for files of another task "
            "with text and label take `text`, or `pair`, and name the columns)"
        )
    return replace(task, **changes)


def _read_file(path: Path) -> Task:
    try:
        # labels such as yes, 007 and 1e3 are text
        values = yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"task {path}: no YAML in UTF-8: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise InputError(f"task {path}: expected lines `key: value`, got {type(values).__name__}")
    return Task.from_dict({"name": path.stem} | values, source=f"task {path}")
