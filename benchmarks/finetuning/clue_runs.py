"""One fine-tuning of the results table: what it is told, how it is run, what is kept of it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flash.finetuning.arguments import FinetuningArguments
from flash.finetuning.baselines import baselines
from flash.finetuning.data import load_data

from harness import machine
from run_records import read_run_records

BASELINES = "baselines"  # the contestant that is no model
TASK_OF_FOLDER = {"chid_few": "chid"}  # where the folder is not called as the task


@dataclass(frozen=True)
class Run:
    """Everything that decides the outcome of a run, but for the weights behind a contestant's name and the files.

    Args:
        folder: Of the task's files, below that of all tasks.
        contestant: Name of the checkpoint, or ``BASELINES``.
        from_scratch: Begin with new weights.
        seed: Of head, order, dropout, and of the rows that are drawn.
        epochs: Times that the training rows are gone through.
        max_train_rows: Train on so many rows, drawn by the seed.
        flags: More flags of `flashquad finetune`.
    """

    folder: str
    contestant: str
    seed: int
    learning_rate: float = 0.0
    epochs: float = 0.0
    max_train_rows: int | None = None
    from_scratch: bool = False
    flags: tuple[str, ...] = ()

    @property
    def task(self) -> str:
        """Name the task."""
        return TASK_OF_FOLDER.get(self.folder, self.folder)

    def command(self, *, model: str, clue: str, seeds: int = 1) -> list[str]:
        """Write the run, or that of several seeds beginning with this one, as it is typed."""
        values: dict[str, Any] = {
            "task": self.task,
            "data_dir": f"{clue}/{self.folder}",
            "model": model,
            "learning_rate": f"{self.learning_rate:g}",
            "num_train_epochs": f"{self.epochs:g}",
            "max_train_rows": self.max_train_rows,
            "seed": self.seed,
            "seeds": seeds if seeds > 1 else None,
        }
        flags = [part for name, value in values.items() if value is not None for part in (f"--{name}", str(value))]
        return ["flashquad", "finetune", *flags, *(["--from_scratch"] if self.from_scratch else []), *self.flags]

    def to_dict(self) -> dict[str, Any]:
        """Return the run as JSON holds it."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "Run":
        """Read what ``to_dict`` returned."""
        return Run(**values | {"flags": tuple(values["flags"])})


def finetune(run: Run, *, model: str, clue: Path, work: Path, keep: bool = False) -> dict[str, Any]:
    """Run it in a process of its own, on one thread; one that was stopped goes on.

    Args:
        work: Folder for what is under way.
        keep: Leave the model there.

    Returns:
        The record: the run, its scores, parameters, steps, seconds, and the machine.

    Raises:
        subprocess.CalledProcessError: The command failed; it has said why.
    """
    scratch = "-scratch" if run.from_scratch else ""
    folder = work / f"{run.folder}-{run.contestant}{scratch}-{run.learning_rate:g}-{run.epochs:g}-{run.seed}"
    command = [*run.command(model=model, clue=str(clue)), "--no_baselines", "--output_dir", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    main = [sys.executable, "-c", "from flash.cli import main; main()"]
    subprocess.run([*main, *command[1:]], env=environment, check=True, stdout=subprocess.DEVNULL)
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    (path,) = folder.glob("runs/*/metrics.json")
    of_run = json.loads(path.read_text(encoding="utf-8"))
    if not keep:
        shutil.rmtree(folder)
    return {
        "run": run.to_dict(),
        "metric": metrics["metric"],
        "scores": {split: of_run[split] for split in ("dev", "test") if split in of_run},
        "rows": {split: facts["rows"] for split, facts in metrics["data"].items() if split in ("train", "dev", "test")},
        **{name: of_run[name] for name in ("parameters", "steps", "best_step", "seconds")},
        "machine": machine(),
    }


def score_baselines(run: Run, *, clue: Path) -> dict[str, Any]:
    """Score what needs no model on the same rows; a record as that of `finetune`, with scores by baseline."""
    with tempfile.TemporaryDirectory() as scratch:
        args = FinetuningArguments(
            task=run.task,
            model=BASELINES,
            data_dir=str(clue / run.folder),
            output_dir=scratch,
            max_train_rows=run.max_train_rows,
            seed=run.seed,
        )
        data = load_data(args)
    return {
        "run": run.to_dict(),
        "metric": data.problem.task.metric,
        "baselines": baselines(data.problem, data.train.examples, data.dev.examples, data.scored_test),
        "rows": {"train": len(data.train.examples), "dev": len(data.dev.examples)},
        "machine": machine(),
    }


def read_records(results: Path) -> dict[Run, dict[str, Any]]:
    """Read the records of finished runs."""
    return read_run_records(results, Run.from_dict)
