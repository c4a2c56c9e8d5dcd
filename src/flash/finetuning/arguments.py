"""What fine-tuning is told: the task, the model, and any flag of transformers' Trainer."""

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from flash.errors import InputError
from flash.ops.backends import BACKENDS
from flash.tasks.loading import find_file
from flash.tasks.task import Task, load_task
from flash.training.arguments import HIGHEST_SEED

# Flags of the Trainer that a study cannot heed: the one value it works with, and why.
_NOT_TAKEN: dict[str, tuple[Any, str]] = {
    "load_best_model_at_end": (True, "the best checkpoint on the dev file is what a study keeps"),
    "greater_is_better": (None, "it follows from --metric"),
    "metric_for_best_model": (None, "name the task's metric with --metric"),
    "save_only_model": (False, "a run that was stopped could not be gone on with"),
    "resume_from_checkpoint": (None, "the same command goes on with a study by itself"),
    "prediction_loss_only": (False, "a validation scores the answers"),
    "batch_eval_metrics": (False, "the answers are scored together"),
    "eval_do_concat_batches": (True, "the answers are scored together"),
    "eval_on_start": (False, "a checkpoint is saved at each validation, from the first epoch on"),
    "eval_delay": (0, "a checkpoint is saved at each validation, from the first epoch on"),
    "dataloader_drop_last": (False, "every row of the dev file is scored"),
    "label_names": (None, "--label_column names the column of what is to be found"),
}
# label smoothing needs one right class of several
_SMOOTHED_KINDS = ("classification", "entities")

logger = logging.getLogger(__name__)


@dataclass
class FinetuningArguments(TrainingArguments):
    """Settings of fine-tuning; every field of ``TrainingArguments`` is one too."""

    task: str = field(default="", metadata={"help": "Name of a task, or a YAML file that describes one."})
    model: str = field(default="", metadata={"help": "Folder or hub id of the checkpoint to start from."})
    data_dir: str | None = field(
        default=None, metadata={"help": "Folder with train, dev and, if there is one, test (.json, .csv, ...)."}
    )
    train_file: str | None = field(default=None, metadata={"help": "File to train on, over data_dir's."})
    dev_file: str | None = field(default=None, metadata={"help": "File to choose the best checkpoint on."})
    test_file: str | None = field(default=None, metadata={"help": "File to predict, and to score if it has labels."})
    text_columns: str | None = field(
        default=None, metadata={"help": "Columns of the texts: text or sentence1,sentence2."}
    )
    label_column: str | None = field(default=None, metadata={"help": "Column of what is to be found."})
    metric: str | None = field(default=None, metadata={"help": "Metric that decides which checkpoint is best."})
    max_seq_length: int | None = field(default=None, metadata={"help": "Most tokens of an input. Default: the task's."})
    from_scratch: bool = field(default=False, metadata={"help": "Start from new weights, with the model's settings."})
    max_train_rows: int | None = field(default=None, metadata={"help": "Train on so many rows, drawn by --seed."})
    seeds: int = field(default=1, metadata={"help": "Runs, with --seed and the numbers after it."})
    learning_rates: list[float] | None = field(
        default=None, metadata={"help": "Learning rates to try; the best on the dev file is kept."}
    )
    classifier_pooling: str | None = field(
        default=None,
        metadata={
            "help": "What a classifier of texts reads: cls, mean (of all tokens) or, of this package's models, "
            "cls_plus_mean. Default: as the model's config.json says.",
            "choices": ["cls", "mean", "cls_plus_mean"],
        },
    )
    attention_backend: str | None = field(
        default=None,
        metadata={
            "help": "Implementation of the attention, of this package's models. Default: auto.",
            "choices": list(BACKENDS),
        },
    )
    layer_decay: float = field(
        default=1.0, metadata={"help": "Factor on the learning rate from each layer to the one below it."}
    )
    class_weights: str = field(
        default="none",
        metadata={
            "help": "none, or balanced: classes weigh the more the rarer they are.",
            "choices": ["none", "balanced"],
        },
    )
    patience: int | None = field(
        default=None, metadata={"help": "Stop after so many validations without a better score."}
    )
    baselines: bool = field(default=True, metadata={"help": "Compute the baselines to compare with."})
    overwrite_output_dir: bool = field(
        default=False, metadata={"help": "Start anew in an output_dir that holds another study."}
    )

    # over the defaults of TrainingArguments
    output_dir: str = field(default="./flashquad-finetuned", metadata={"help": "Folder of the study."})
    learning_rate: float | None = field(
        default=None, metadata={"help": "Highest learning rate; by default one for the size of the model."}
    )
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Rows in a batch on each device."})
    per_device_eval_batch_size: int = field(default=128, metadata={"help": "Rows in a batch of validation."})
    num_train_epochs: float = field(default=3.0, metadata={"help": "Times that the training file is gone through."})
    warmup_steps: float = field(default=0.1, metadata={"help": "Steps of warm-up; below 1, a share of all steps."})
    weight_decay: float = field(default=0.01, metadata={"help": "Of matrices and embeddings."})
    seed: int = field(default=2022, metadata={"help": "Of order, dropout and the new head."})
    logging_steps: float = field(
        default=0.05, metadata={"help": "Steps between two points of the training loss; below 1, a share of all steps."}
    )
    eval_strategy: str = field(default="epoch", metadata={"help": "When to validate: epoch or steps."})
    save_strategy: str | None = field(
        default=None, metadata={"help": "As --eval_strategy: a checkpoint is saved at each validation."}
    )
    save_steps: float | None = field(
        default=None, metadata={"help": "As --eval_steps: a checkpoint is saved at each validation."}
    )
    save_total_limit: int | None = field(
        default=1, metadata={"help": "Checkpoints of a run under way, the best one besides; a finished run has none."}
    )
    load_best_model_at_end: bool = field(default=True, metadata={"help": "Always: the best checkpoint is kept."})
    train_sampling_strategy: str = field(
        default="group_by_length", metadata={"help": "group_by_length (less padding) or random."}
    )
    report_to: None | str | list[str] = field(default="none", metadata={"help": "Where to log besides."})  # noqa: RUF036

    def __post_init__(self) -> None:
        """Check what transformers does not, and set what follows from the rest."""
        if not self.task:
            raise InputError("--task is needed: a name such as tnews, or a YAML file (see docs/finetuning.md)")
        if not self.model:
            raise InputError(
                "--model is needed: a checkpoint's folder or hub id, or tiny-zh, which comes with the package"
            )
        if Path(self.output_dir).is_file():
            raise InputError(f"--output_dir {self.output_dir} is a file; name a folder")
        if Path(self.output_dir).exists() and Path(self.output_dir).resolve() == Path(self.model).resolve():
            raise InputError(
                f"--output_dir {self.output_dir}: the model that is trained there would take the place of --model; "
                "name another folder"
            )
        if self.seeds < 1:
            raise InputError(f"--seeds must be at least 1, got {self.seeds}")
        if not 0 <= self.seed <= HIGHEST_SEED - self.seeds + 1:
            raise InputError(
                f"--seed must lie between 0 and {HIGHEST_SEED:,}, and those after it too, got {self.seed}; take "
                "another, such as 2022"
            )
        if not 0 < self.layer_decay <= 1:
            raise InputError(f"--layer_decay must lie between 0 and 1, got {self.layer_decay}; try 0.9")
        if self.patience is not None and self.patience < 1:
            raise InputError(f"--patience must be at least 1, got {self.patience}")
        if self.max_train_rows is not None and self.max_train_rows < 2:
            raise InputError(f"--max_train_rows must be at least 2, got {self.max_train_rows}")
        if self.max_seq_length is not None and self.max_seq_length < 3:
            raise InputError(f"--max_seq_length must be at least 3, got {self.max_seq_length}: [CLS], one token, [SEP]")
        for name in ("per_device_train_batch_size", "per_device_eval_batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.num_train_epochs < math.inf and self.max_steps <= 0:
            raise InputError(f"--num_train_epochs must be a number above 0, got {self.num_train_epochs}")
        given = [] if self.learning_rate is None else [self.learning_rate]
        for rate in [*given, *(self.learning_rates or [])]:
            if not 0 < rate < 1:
                raise InputError(f"a learning rate must lie between 0 and 1, got {rate}; pass one such as 3e-4")
        if self.eval_strategy not in ("epoch", "steps"):
            raise InputError(
                f"--eval_strategy must be epoch or steps, got {self.eval_strategy}: the best checkpoint is kept"
            )
        every = self.eval_steps  # type: ignore[has-type]
        if every is not None and self.eval_strategy != "steps":
            raise InputError(f"--eval_steps {every:g} is heeded with --eval_strategy steps; pass that too")
        if self.save_total_limit is not None and self.save_total_limit < 1:
            raise InputError(f"--save_total_limit must be at least 1, got {self.save_total_limit}: the last checkpoint")
        for name, (needed, why) in _NOT_TAKEN.items():
            if getattr(self, name) != needed:
                raise InputError(f"--{name} {getattr(self, name)} is not taken: {why}; leave it out")
        task = self.read_task()
        if self.label_smoothing_factor and (task.kind not in _SMOOTHED_KINDS or self.class_weights != "none"):
            what = f"task {task.name} has none" if task.kind not in _SMOOTHED_KINDS else "these have --class_weights"
            raise InputError(f"--label_smoothing_factor is for classes without weights; {what}")
        if task.kind == "regression" and (self.bf16_full_eval or self.fp16_full_eval):
            raise InputError(
                "--bf16_full_eval and --fp16_full_eval round the values that a model gives; leave them out (--bf16 "
                "does not round them)"
            )
        self._save_at_validations()
        self.restore_callback_states_from_checkpoint = True  # how long no score was better, and the time taken
        self.metric_for_best_model = task.metric
        self.greater_is_better = True
        if not torch.accelerator.is_available():
            self.use_cpu = True
        super().__post_init__()
        if self.n_gpu > 1:
            # the stock Trainer would take nn.DataParallel, and batches of so many times the rows
            logger.info("one of %d GPUs is used; CUDA_VISIBLE_DEVICES says which", self.n_gpu)
            self._n_gpu = 1

    def _save_at_validations(self) -> None:
        """Save a checkpoint at each validation: the best one must be there to be kept."""
        self.eval_steps = self.eval_steps or self.logging_steps  # type: ignore[has-type]
        for name, follows in (("save_strategy", "eval_strategy"), ("save_steps", "eval_steps")):
            given, needed = getattr(self, name), getattr(self, follows)
            if given not in (None, needed):
                raise InputError(
                    f"--{name} {given} is not taken: a checkpoint is saved at each validation, so that the best one "
                    f"can be kept; pass --{follows} {given} or leave it out"
                )
            setattr(self, name, needed)

    def read_task(self) -> Task:
        """Find the task and put the columns in that were named."""
        changes: dict[str, Any] = {}
        if self.text_columns is not None:
            changes["texts"] = tuple(name.strip() for name in self.text_columns.split(","))
        if self.label_column is not None:
            changes["label"] = self.label_column
        if self.metric is not None:
            changes["metric"] = self.metric
        if self.max_seq_length is not None:
            changes["max_length"] = self.max_seq_length
        return load_task(self.task, **changes)

    def file(self, name: str) -> Path | None:
        """Name the file of ``train``, ``dev`` or ``test``; None where there is none.

        Raises:
            InputError: The file, or one that must be there, is missing.
        """
        named = getattr(self, f"{name}_file")
        if named is not None:
            return Path(named)
        if self.data_dir is not None:
            if not Path(self.data_dir).is_dir():
                raise InputError(f"--data_dir {self.data_dir}: no such folder")
            found = find_file(Path(self.data_dir), name)
            if found is not None:
                return found
        if name == "test":
            return None
        where = "no --data_dir was given" if self.data_dir is None else f"{self.data_dir} has no {name}.json, .csv, ..."
        raise InputError(f"--{name}_file is needed: {where}")
