"""One training run of a study: what it is told, how it is trained, what is kept of it."""

import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from flash.corpus.tokenizer_loading import load_tokenizer
from flash.data.collator import WholeWordMaskCollator
from flash.data.manifest import check_tokenizer, read_manifest
from flash.data.pretraining_dataset import PretrainingDataset, load_prepared_folder, tokenize_dataset
from flash.training.arguments import PretrainingArguments
from flash.training.trainer import MaskedLMTrainer, MaskEpochCallback

from contestants import CONTESTANTS, SIZES
from harness import machine
from run_records import read_run_records

TOKENS_A_STEP = 2048  # padding included
CURVE_POINTS = 8
CURVE_TOKENS = 20_000  # of the validation text, for the points before the last
VALIDATION_SEED = 1
STEPS_BEFORE_THE_CLOCK = 3  # compilation, where there is one


def as_pairs(settings: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Write a mapping as pairs in the order of their names, so that equal ones are equal and hashable."""
    return tuple(sorted(settings.items()))


@dataclass(frozen=True)
class Run:
    """Everything that decides the outcome of a run, but for the text.

    Args:
        contestant: Key of ``CONTESTANTS``.
        size: Key of ``SIZES``.
        learning_rate: Highest learning rate.
        seed: Of weights, order and masks; equal seeds see equal batches.
        steps: Optimizer steps of about ``TOKENS_A_STEP`` tokens.
        length: Most tokens in a row.
        settings: Settings of the model over the contestant's, ``((name, value), ...)``.
        training: Arguments of the Trainer over the study's, likewise.
        evaluate_at: Other lengths to measure the trained model at.
    """

    contestant: str
    size: str
    learning_rate: float
    seed: int
    steps: int
    length: int = 128
    settings: tuple[tuple[str, Any], ...] = ()
    training: tuple[tuple[str, Any], ...] = ()
    evaluate_at: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the run as JSON holds it."""
        return asdict(self) | {"settings": dict(self.settings), "training": dict(self.training)}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "Run":
        """Read what ``to_dict`` returned."""
        pairs = {name: as_pairs(values[name]) for name in ("settings", "training")}
        return Run(**values | pairs | {"evaluate_at": tuple(values["evaluate_at"])})


@dataclass
class Texts:
    """Prepared folders and their tokenizer.

    Args:
        test: Of text that no setting was chosen by; None to measure on the validation text alone.
    """

    train: str
    validation: str
    tokenizer: PreTrainedTokenizerBase
    test: str | None = None

    @staticmethod
    def load(train: str, validation: str, test: str | None = None) -> "Texts":
        """Take the tokenizer that the training folder was prepared with.

        Raises:
            InputError: Not such folders, or they were prepared with different tokenizers.
        """
        measured_on = (validation,) if test is None else (validation, test)
        for folder in (train, *measured_on):
            load_prepared_folder(folder)
        tokenizer = load_tokenizer(f"{train}/tokenizer")
        for folder in measured_on:
            manifest = read_manifest(folder)
            if manifest is not None:
                check_tokenizer(manifest, folder, tokenizer)
        return Texts(train, validation, tokenizer, test)

    def rows(self, folder: str, length: int) -> PretrainingDataset:
        """Tokenize a folder, or find it in the cache."""
        return PretrainingDataset(self.tokenized(folder, length))

    def tokenized(self, folder: str, length: int) -> datasets.Dataset:
        """Return the same as columns; ``row`` is that of the folder."""
        return tokenize_dataset(
            load_prepared_folder(folder), folder=folder, tokenizer=self.tokenizer, max_length=length
        )


def build_model(run: Run, vocab_size: int) -> PreTrainedModel:
    """Build the model of a run, from its seed."""
    contestant = CONTESTANTS[run.contestant]
    set_seed(run.seed)
    settings = contestant.settings | dict(run.settings)
    return contestant.build(vocab_size=vocab_size, size=SIZES[run.size], length=run.length, **settings)


def train(run: Run, texts: Texts, *, keep_in: Path | None = None, compiled: bool = False) -> dict[str, Any]:
    """Train a model and measure it.

    Args:
        keep_in: Save the model below this folder.
        compiled: Train it through ``torch.compile``: the same losses to 1e-3, other seconds.

    Returns:
        The record of the run: its arguments, parameters, tokens, seconds of the process, loss and accuracy over the
        whole validation text, the curve, the losses at other lengths, and those of the test text where there is one.
    """
    datasets.disable_progress_bars()
    model = build_model(run, len(texts.tokenizer))
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(run, texts, model, folder, compiled=compiled)
        curve = _Curve(trainer)
        trainer.add_callback(curve)
        trainer.train()
    whole: dict[str, Any] = _measure(trainer, texts.rows(texts.validation, run.length))
    if texts.test is not None:
        whole["test"] = _measure(trainer, texts.rows(texts.test, run.length))
    record = {
        "run": run.to_dict(),
        "parameters": model.num_parameters(),
        "tokens": trainer.tokens_seen,
        "seconds": round(curve.training_seconds(), 1),
        **whole,
        "curve": curve.points,
        "lengths": {length: _at_length(trainer, texts, length) for length in run.evaluate_at},
        "compiled": compiled,
        "machine": machine(),
    }
    if keep_in is not None:
        trainer.save_model(str(keep_in / model_folder(run)))
    return record


def model_folder(run: Run) -> str:
    """Name the folder of a run's model: another one for each run, but for the lengths that it is measured at."""
    changes = [f"{name}={value}" for name, value in (*run.settings, *run.training)]
    return "-".join(
        [
            run.contestant,
            run.size,
            str(run.length),
            f"{run.learning_rate:g}",
            str(run.seed),
            f"{run.steps}steps",
            *changes,
        ]
    )


def _trainer(run: Run, texts: Texts, model: PreTrainedModel, folder: str, *, compiled: bool) -> MaskedLMTrainer:
    every = max(run.steps // CURVE_POINTS, 1)
    settings = {
        "per_device_train_batch_size": TOKENS_A_STEP // run.length,
        "per_device_eval_batch_size": max(4 * TOKENS_A_STEP // run.length, 1),
        "learning_rate": run.learning_rate,
        "max_steps": run.steps,
        "warmup_steps": round(0.06 * run.steps),
        "lr_scheduler_type": "linear",
        "weight_decay": 0.01,
        "adam_beta2": 0.98,
        "max_grad_norm": 1.0,
        "bf16": True,
        "seed": run.seed,
        "muon": CONTESTANTS[run.contestant].muon,
        "torch_compile": compiled,
        "mlm_probability": 0.3,
    }
    args = PretrainingArguments(
        **settings | dict(run.training),
        output_dir=folder,
        report_to=[],
        save_strategy="no",
        eval_strategy="steps",
        eval_steps=every,
        logging_steps=every,
        disable_tqdm=True,
    )
    train_rows = texts.rows(texts.train, run.length)
    validation_rows = texts.rows(texts.validation, run.length)
    curve_rows = min(CURVE_TOKENS // run.length, len(validation_rows))
    collator = WholeWordMaskCollator(texts.tokenizer, mask_probability=args.mlm_probability, seed=run.seed)
    trainer = _StudyTrainer(
        model=model,
        args=args,
        train_dataset=train_rows,
        eval_dataset=torch.utils.data.Subset(validation_rows, range(curve_rows)),
        processing_class=texts.tokenizer,
        data_collator=collator,
    )
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    trainer.add_callback(MaskEpochCallback(train_rows))
    return trainer


class _StudyTrainer(MaskedLMTrainer):
    """Validates everybody on the same masks, 15 % of the words, whatever the seed and share of training."""

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Mask alike, whatever the seed of training."""
        training_collator = self.data_collator
        self.data_collator = WholeWordMaskCollator(self.processing_class, seed=VALIDATION_SEED)
        self._eval_dataloaders: dict = {}
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.data_collator = training_collator


class _Curve(TrainerCallback):
    """Collects validation losses with the tokens and the processor time of training so far, less its first steps."""

    def __init__(self, trainer: MaskedLMTrainer) -> None:
        self._trainer = trainer
        self._begun: float | None = None
        self._evaluating = 0.0
        self._stopped = 0.0
        self.points: list[dict[str, float]] = []
        evaluate = trainer.evaluate

        def without_counting(*args: Any, **kwargs: Any) -> Any:
            self._stopped = time.process_time()
            metrics = evaluate(*args, **kwargs)
            self._evaluating += time.process_time() - self._stopped
            return metrics

        trainer.evaluate = without_counting  # type: ignore[method-assign]

    def training_seconds(self) -> float:
        """Return seconds of the process at work so far, without validation."""
        return self.points[-1]["seconds"] if self.points else 0.0

    def _seconds(self) -> float:
        # asked within a validation, which does not count either
        return 0.0 if self._begun is None else round(self._stopped - self._begun - self._evaluating, 1)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        if state.global_step == STEPS_BEFORE_THE_CLOCK:
            self._begun, self._evaluating = time.process_time(), 0.0

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **kwargs: Any) -> None:
        """Add a point."""
        if self.points and self.points[-1]["step"] == state.global_step:
            return  # the validation after training
        logged = [entry for entry in state.log_history if "loss" in entry]
        self.points.append(
            {
                "step": state.global_step,
                "tokens": self._trainer.tokens_seen,
                "seconds": self._seconds(),
                "training_loss": round(logged[-1]["loss"], 4),
                "loss": round(metrics["eval_loss"], 4),
                "accuracy": round(metrics["eval_mlm_acc"], 4),
            }
        )


def _at_length(trainer: MaskedLMTrainer, texts: Texts, length: int) -> dict[str, float]:
    trainer.args.per_device_eval_batch_size = max(4 * TOKENS_A_STEP // length, 1)
    return _measure(trainer, texts.rows(texts.validation, length))


def _measure(trainer: MaskedLMTrainer, rows: PretrainingDataset) -> dict[str, float]:
    metrics = trainer.evaluate(rows)
    return {"loss": metrics["eval_loss"], "accuracy": metrics["eval_mlm_acc"]}


def read_records(results: Path) -> dict[Run, dict[str, Any]]:
    """Read the records of finished runs; one measured at other lengths too serves where that is not asked for."""
    records = read_run_records(results, Run.from_dict)
    return {replace(run, evaluate_at=()): record for run, record in records.items()} | records
