"""One training: a learning rate and a seed, from a checkpoint to the best model of the run."""

import copy
import logging
import math
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import (
    EarlyStoppingCallback,
    PreTrainedTokenizerFast,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import ExportableState, PrinterCallback, ProgressCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from flash.finetuning.arguments import FinetuningArguments
from flash.finetuning.data import TaskData
from flash.finetuning.json_files import read_json, write_json
from flash.finetuning.models import TaskModel, load_task_model
from flash.finetuning.problems.problem import Encoded, Problem
from flash.finetuning.trainer import TaskTrainer
from flash.models.checkpoint_folders import checkpoints_newest_first
from flash.training.checkpoints import last_whole_checkpoint, saying_how_to_go_on

METRICS, MODEL = "metrics.json", "model"

logger = logging.getLogger(__name__)


@dataclass
class Run:
    """What a study varies, and where its files are."""

    learning_rate: float
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """Tell runs apart."""
        return f"lr {self.learning_rate!r}, seed {self.seed}"


def train_run(
    run: Run, args: FinetuningArguments, data: TaskData, encoded: dict[str, Encoded], tokenizer: PreTrainedTokenizerFast
) -> dict[str, Any]:
    """Train, keep the best checkpoint, score it; a finished run is read again, a stopped one gone on with.

    Returns:
        What is in the run's ``metrics.json``.
    """
    done = run.folder / METRICS
    if done.is_file():
        logger.info("%s: finished before, read from %s", run.name, done)
        return read_json(done, "delete it, and the run is done again")
    set_seed(run.seed)
    loaded = load_task_model(
        args.model,
        data.problem,
        data.label_names,
        max_length=data.problem.task.max_length,
        from_scratch=args.from_scratch,
        classifier_pooling=args.classifier_pooling,
        attention_backend=args.attention_backend,
    )
    data.problem.start_head(loaded.model, loaded.new_parameters, encoded["train"])
    settings = copy.copy(args)
    settings.learning_rate, settings.seed, settings.output_dir = run.learning_rate, run.seed, str(run.folder)
    trainer = task_trainer(loaded, settings, data.problem, encoded, tokenizer)
    trainer.add_callback(_Progress(run.name, data.problem.task.metric))
    if args.patience is not None:
        trainer.add_callback(EarlyStoppingCallback(args.patience))
    checkpoint = last_whole_checkpoint(run.folder) if run.folder.is_dir() else None
    if checkpoint is not None:
        logger.info("%s: resume from %s", run.name, checkpoint)
        _count_as(checkpoint, settings)
    trainer.add_callback(_Clock())
    if checkpoint is None or (seconds := _take_what_was_stopped_early(trainer, checkpoint, args.patience)) is None:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        callbacks = trainer.callback_handler.callbacks  # a resumed run has put others in the place of those given
        seconds = next(found.seconds for found in callbacks if isinstance(found, _Clock))
    data.problem.finish_head(loaded.model)
    record = {
        "learning_rate": run.learning_rate,
        "seed": run.seed,
        "seconds": round(seconds, 1),
        "steps": trainer.state.global_step,
        "best_step": trainer.state.best_global_step,
        "parameters": loaded.model.num_parameters(),
        "dev": _scores_at(trainer.state, trainer.state.best_global_step),
        "curve": [entry for entry in trainer.state.log_history if "eval_loss" in entry or "loss" in entry],
    }
    if math.isnan(record["dev"][data.problem.task.metric]):
        logger.warning("%s: no score is a number, so the training went astray; try a lower rate", run.name)
    with saying_how_to_go_on(run.folder):  # before anything is computed with it, which may be in another precision
        trainer.save_model(str(run.folder / MODEL))
        tokenizer.save_pretrained(run.folder / MODEL)
    if rows := data.scored_rows:
        answers = data.problem.answers(trainer.logits_of(encoded["test"]), encoded["test"])
        record["test"] = data.problem.scores([answers.predictions[row] for row in rows], data.scored_test)
    write_json(done, record)
    for left in checkpoints_newest_first(run.folder):
        shutil.rmtree(left)
    return record


def _take_what_was_stopped_early(trainer: TaskTrainer, checkpoint: Path, patience: int | None) -> float | None:
    """Load the best model of a run whose patience was at its end before it was killed; it would train on.

    Returns:
        The seconds that it took; None of a run that is not at its end, with which nothing is done.
    """
    state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
    waited = _kept_of(state, EarlyStoppingCallback, "attributes").get("early_stopping_patience_counter", 0)
    best = checkpoint.parent / f"{PREFIX_CHECKPOINT_DIR}-{state.best_global_step}"
    if patience is None or waited < patience or not best.is_dir():
        return None
    logger.info("%s: it was stopped early before, at step %d", checkpoint.parent, state.global_step)
    state.best_model_checkpoint = str(best)
    trainer.state = state
    trainer._load_best_model()
    return float(_kept_of(state, _Clock, "args")["before"])


def _kept_of(state: TrainerState, callback: type, what: str) -> dict[str, Any]:
    kept = state.stateful_callbacks.get(callback.__name__, {})
    return (kept[-1] if isinstance(kept, list) else kept).get(what, {})


def _count_as(checkpoint: Path, args: TrainingArguments) -> None:
    """Take the steps that shares of a run came to before: transformers would call 2 and 0.05 a change of settings."""
    state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
    for name in ("logging_steps", "eval_steps", "save_steps"):
        if getattr(args, name) is not None:
            setattr(args, name, getattr(state, name))


def task_trainer(
    loaded: TaskModel,
    args: TrainingArguments,
    problem: Problem,
    encoded: dict[str, Encoded],
    tokenizer: PreTrainedTokenizerFast,
) -> TaskTrainer:
    """Build the Trainer of a task; without ``train`` among ``encoded`` one that only scores."""
    problem.label_smoothing = args.label_smoothing_factor
    problem.prepare(loaded.model)
    trainer = TaskTrainer(
        model=loaded.model,
        args=args,
        train_dataset=encoded["train"].features if "train" in encoded else None,
        processing_class=tokenizer,
        data_collator=problem.collator(tokenizer, 8 if args.bf16 or args.fp16 else None),
        problem=problem,
        encoded=encoded.get("dev"),
        layer_decay=getattr(args, "layer_decay", 1.0),
        new_parameters=loaded.new_parameters,
    )
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    return trainer


def _scores_at(state: TrainerState, step: int | None) -> dict[str, float]:
    """Find what was measured at the step of the best checkpoint, which is the model now.

    None was best where no score is a number: then the model is the last one.
    """
    measured = [entry for entry in state.log_history if "eval_loss" in entry]
    logged = next((entry for entry in measured if entry["step"] == step), measured[-1])
    kept = {name.removeprefix("eval_"): value for name, value in logged.items() if name.startswith("eval_")}
    return {name: value for name, value in kept.items() if not name.endswith(("runtime", "_per_second"))}


class _Clock(TrainerCallback, ExportableState):
    """Seconds of training, of all sessions of a run; what was lost between a checkpoint and a stop is not counted.

    Args:
        before: Seconds of the sessions before this one.
    """

    def __init__(self, before: float = 0.0) -> None:
        self._before = before
        self._started: float | None = None

    @property
    def seconds(self) -> float:
        """Return the time up to now."""
        return self._before + (0.0 if self._started is None else time.monotonic() - self._started)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start it."""
        self._started = time.monotonic()

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"args": {"before": self.seconds}, "attributes": {}}


class _Progress(TrainerCallback):
    """A bar where standard error is a terminal, and a line at each validation."""

    def __init__(self, name: str, metric: str) -> None:
        self._name, self._metric = name, metric
        self._bar: tqdm | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar."""
        shown = sys.stderr.isatty() and not args.disable_tqdm and state.is_world_process_zero
        self._bar = tqdm(
            total=state.max_steps, initial=state.global_step, unit="step", desc=self._name, disable=not shown
        )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Move it."""
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Print the scores."""
        if self._bar is None or not metrics or not state.is_world_process_zero:
            return
        loss = f"  loss {metrics['eval_loss']:.4f}" if "eval_loss" in metrics else ""
        tqdm.write(
            f"{self._name}: epoch {state.epoch:.2f}{loss}  {self._metric} {metrics[f'eval_{self._metric}']:.4f}",
            file=sys.stderr,
        )

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar; what is validated afterwards is told elsewhere."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
