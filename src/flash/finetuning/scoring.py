"""A fine-tuned folder on another file, or on texts: scores and predictions."""

import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from flash.errors import InputError
from flash.finetuning.models import load_task_model, load_task_tokenizer
from flash.finetuning.problems.problem import Answers, Encoded, Problem
from flash.finetuning.run import task_trainer
from flash.finetuning.task_file import read_task_file
from flash.tasks.examples import EntityExample, Example, TextExample
from flash.tasks.loading import load_split, placeholder_of
from flash.tasks.submission import submission_name, submission_obstacle, write_predictions, write_submission

logger = logging.getLogger(__name__)


@dataclass
class Finetuned:
    """A fine-tuned model with its task.

    Args:
        folder: What `finetune` wrote.
        batch_size: Rows of a batch.
        bf16: Compute in bfloat16.
        attention_backend: Implementation of the attention, of this package's models; None is ``auto``.
    """

    folder: Path
    batch_size: int = 64
    bf16: bool = False
    attention_backend: str | None = None

    def __post_init__(self) -> None:
        """Load it.

        Raises:
            InputError: The folder is not one of a fine-tuned model, or its model has no such backend.
        """
        self.problem: Problem
        self.problem, self.label_names = read_task_file(self.folder)
        self.tokenizer = load_task_tokenizer(str(self.folder))
        outputs = len(self.problem.head_labels())
        config = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        known = len(config.get("id2label") or {})
        if outputs and known and known != outputs:
            raise InputError(
                f"{self.folder}: the model has {known} labels, its task.json {outputs}; name a folder whose files "
                "belong together"
            )
        self.loaded = load_task_model(
            str(self.folder),
            self.problem,
            self.label_names,
            max_length=self.problem.task.max_length,
            attention_backend=self.attention_backend,
        )
        if self.loaded.new_parameters:
            raise InputError(
                f"{self.folder}: the head is missing or for other labels than those of its task.json "
                f"({min(self.loaded.new_parameters)}); name a folder whose files belong together"
            )

    def answer(self, examples: Sequence[Any]) -> tuple[Answers, Any, Encoded]:
        """Answer examples; their own answers are not looked at."""
        encoded = self.problem.encode(examples, self.tokenizer, self.problem.task.max_length)
        with tempfile.TemporaryDirectory() as scratch:
            settings = TrainingArguments(
                output_dir=scratch,
                per_device_eval_batch_size=self.batch_size,
                bf16=self.bf16,
                report_to=[],
                disable_tqdm=True,
                use_cpu=not torch.accelerator.is_available(),
            )
            trainer = task_trainer(self.loaded, settings, self.problem, {}, self.tokenizer)
            logits = trainer.logits_of(encoded)
        return self.problem.answers(logits, encoded), logits, encoded

    def evaluate(self, file: Path) -> dict[str, Any]:
        """Score a labelled file.

        Raises:
            InputError: It is not one of the task, or has a class that the model does not know in most rows.
        """
        split = load_split(file, self.problem.task, labels=self.problem.labels)
        if (placeholder := placeholder_of(split.examples)) is not None:
            logger.warning("%s: the answer is %r in all rows: is it a placeholder?", file, placeholder)
        answers, _, encoded = self.answer(split.examples)
        scores = self.problem.scores(answers.predictions, split.examples)
        return {
            "task": self.problem.task.name,
            "file": str(file),
            "rows": len(split.examples),
            "left_out": dict(split.left_out),
            "cut": encoded.cut,
        } | scores

    def predict_file(self, file: Path, output: Path, *, submission: bool = False) -> Path:
        """Write predictions for a file, labelled or not.

        Args:
            output: File to write, or a folder for a file of the name that CLUE asks for.
            submission: Write the form that CLUE takes.

        Returns:
            The file that was written.
        """
        task = self.problem.task
        if submission and task.submission is None:
            raise InputError(f"task {task.name} is none that CLUE takes submissions for; leave out --submission")
        split = load_split(file, task, labels=self.problem.labels, need_answers=False)
        if submission and (obstacle := submission_obstacle(task, split)) is not None:
            raise InputError(f"{file}: {obstacle}; mend the file, or leave out --submission")
        if output.is_dir():
            output = output / (submission_name(task, split.examples) if submission else "predictions.jsonl")
        if output.resolve() == file.resolve():
            raise InputError(f"--output {output} would overwrite the texts; name another file")
        output.parent.mkdir(parents=True, exist_ok=True)
        answers, _, _ = self.answer(split.examples)
        if submission:
            write_submission(output, task, split.examples, answers.predictions)
        else:
            write_predictions(output, split.examples, answers.predictions, answers.confidences)
        return output

    def predict_texts(self, texts: Sequence[str]) -> list[tuple[Any, float | None]]:
        """Answer texts; for tasks on pairs, the two are divided by a tab.

        Returns:
            The prediction of each, with readable class names, and its probability.
        """
        task = self.problem.task
        if task.kind not in ("classification", "regression", "entities"):
            raise InputError(f"task {task.name} needs more than a text; pass a file with --input")
        answers, _, _ = self.answer([self._example(text, number) for number, text in enumerate(texts)])
        shown = [
            self.label_names.get(prediction, prediction) if isinstance(prediction, str) else prediction
            for prediction in answers.predictions
        ]
        return list(zip(shown, answers.confidences, strict=True))

    def _example(self, text: str, number: int) -> Example:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(f"text {number + 1} is not UTF-8: {text[:40]!r}; write it as UTF-8") from error
        if self.problem.task.kind == "entities":
            return EntityExample(number, text, None)
        if len(self.problem.task.texts) == 1:
            return TextExample(number, text, None, None)
        first, tab, second = text.partition("\t")
        if not tab:
            raise InputError(
                f"task {self.problem.task.name} is on pairs: write the two texts with a tab between, got {text!r}"
            )
        return TextExample(number, first, second, None)
