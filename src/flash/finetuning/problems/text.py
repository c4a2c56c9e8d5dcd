"""Classes and values of texts and pairs of texts."""

from collections.abc import Collection, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerFast

from flash.errors import InputError
from flash.finetuning.problems.problem import (
    NOT_SCORED,
    Answers,
    Encoded,
    Features,
    Problem,
    all_answered,
    log_softmax,
    tokenize,
)
from flash.tasks.examples import TextExample
from flash.tasks.metrics import classification_scores, regression_scores


class _TextProblem(Problem):
    auto_class: ClassVar[Any] = AutoModelForSequenceClassification
    pipeline: ClassVar[str | None] = "text-classification"

    def encode(
        self,
        examples: Sequence[TextExample],
        tokenizer: PreTrainedTokenizerFast,
        max_length: int,
        *,
        training: bool = False,
    ) -> Encoded:
        """Tokenize the texts."""
        pairs = None
        if examples and examples[0].pair is not None:
            pairs = [example.pair or "" for example in examples]
        rows, lengths = tokenize(tokenizer, [example.text for example in examples], pairs, max_length)
        if all_answered(examples, [example.label for example in examples]):
            for row, example in zip(rows, examples, strict=True):
                row["labels"] = self.target(example)
        return Encoded(examples, Features(rows), lengths, cut=sum(length > max_length for length in lengths))

    def target(self, example: TextExample) -> int | float:
        """Return what the head is trained towards."""
        raise NotImplementedError


class ClassificationProblem(_TextProblem):
    """One class of several."""

    def head_labels(self) -> tuple[str, ...]:
        """Return the classes."""
        return self.labels

    def config_settings(self) -> dict[str, Any]:
        """Say that one class holds."""
        return {"problem_type": "single_label_classification"}

    def target(self, example: TextExample) -> int:
        """Return the class's id."""
        return self.labels.index(str(example.label))

    def loss(self, logits: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """Weigh the classes, where they have weights."""
        weight = None
        if self.class_weights is not None:
            weight = torch.tensor(self.class_weights, device=logits.device, dtype=torch.float32)
        return torch.nn.functional.cross_entropy(
            logits.float(), inputs["labels"], weight, reduction="sum", label_smoothing=self.label_smoothing
        )

    def answers(self, logits: np.ndarray, encoded: Encoded) -> Answers:
        """Take the most probable class."""
        log_probabilities = log_softmax(logits)
        best = log_probabilities.argmax(axis=-1)
        return Answers(
            [self.labels[index] for index in best],
            [float(np.exp(row[index])) for row, index in zip(log_probabilities, best, strict=True)],
        )

    def scores(self, predictions: Sequence[str], examples: Sequence[TextExample]) -> dict[str, float]:
        """Return accuracy and macro F1."""
        return classification_scores(predictions, [str(example.label) for example in examples])

    def mistakes(self, logits: np.ndarray, answers: Answers, encoded: Encoded) -> list[float]:
        """Return the losses."""
        log_probabilities = log_softmax(logits)
        targets = [self.target(example) for example in encoded.examples]
        return [-float(row[target]) for row, target in zip(log_probabilities, targets, strict=True)]


class RegressionProblem(_TextProblem):
    """A number.

    It is learned as its distance from the mean in units of the spread, which a head can reach in a short training
    whatever the unit; the model that is saved gives the number itself. The head computes in float32: bfloat16 has 8
    digits, and years would come in steps of 8.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._mean, self._spread = 0.0, 1.0

    def config_settings(self) -> dict[str, Any]:
        """Say that the one output is a value."""
        return {"problem_type": "regression", "num_labels": 1}

    def prepare(self, model: PreTrainedModel) -> None:
        """Let the last map of the head compute in float32."""
        _, head = _value_head(model)
        head.__class__ = _FullPrecisionLinear

    @torch.no_grad()
    def start_head(self, model: PreTrainedModel, new_parameters: Collection[str], training: Encoded) -> None:
        """Take mean and spread of the values; a head that is not new is brought to these units."""
        name, head = _value_head(model)
        values = np.array([row["labels"] for row in training.features.rows], dtype=np.float64)
        # without a bias there is nothing that the mean could go into
        self._mean = 0.0 if head.bias is None else float(values.mean())
        self._spread = float(np.sqrt(np.mean((values - self._mean) ** 2))) or 1.0
        if f"{name}.weight" not in new_parameters:
            head.weight.div_(self._spread)
            if head.bias is not None:
                head.bias.sub_(self._mean).div_(self._spread)

    @torch.no_grad()
    def finish_head(self, model: PreTrainedModel) -> None:
        """Bring the head back to the unit of the values."""
        _, head = _value_head(model)
        head.weight.mul_(self._spread)
        if head.bias is not None:
            head.bias.mul_(self._spread).add_(self._mean)
        self._mean, self._spread = 0.0, 1.0

    def loss(self, logits: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """Square the distances, in units of the spread."""
        right = (inputs["labels"].double() - self._mean) / self._spread
        return torch.nn.functional.mse_loss(logits.float().reshape(-1), right.float(), reduction="sum")

    def target(self, example: TextExample) -> float:
        """Return the value, or the next one to -100.

        The stock Trainer would leave -100 out of the number of labels that a loss is averaged over.
        """
        value = _value(example)
        return value if value != NOT_SCORED else float(np.nextafter(np.float32(value), np.float32(0)))

    def answers(self, logits: np.ndarray, encoded: Encoded) -> Answers:
        """Return the values."""
        values = logits.reshape(-1).astype(np.float64) * self._spread + self._mean
        return Answers([float(value) for value in values], [None] * len(encoded.examples))

    def scores(self, predictions: Sequence[float], examples: Sequence[TextExample]) -> dict[str, float]:
        """Return the correlations, and the share of the variance that is explained."""
        return regression_scores(predictions, [_value(example) for example in examples])

    def mistakes(self, logits: np.ndarray, answers: Answers, encoded: Encoded) -> list[float]:
        """Return the squared differences."""
        pairs = zip(answers.predictions, encoded.examples, strict=True)
        return [(value - _value(example)) ** 2 for value, example in pairs]


def _value(example: TextExample) -> float:
    assert example.label is not None
    return float(example.label)


class _FullPrecisionLinear(torch.nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.float()
        with torch.autocast(x.device.type, enabled=False):
            return torch.nn.functional.linear(x.float(), self.weight.float(), bias)


def _value_head(model: PreTrainedModel) -> tuple[str, torch.nn.Linear]:
    """Find the map to the one output of a model with a head for values."""
    of_encoder = f"{model.base_model_prefix}."
    found = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module.out_features == 1 and not name.startswith(of_encoder)
    ]
    if not found:
        raise InputError(
            f"a {model.config.model_type} model has no linear map to one value as its head; take a model of another "
            "architecture for tasks of values"
        )
    return found[-1]
