"""Classes and values of texts and pairs of texts."""

from collections.abc import Collection, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerFast

from flash.finetuning.problems.problem import Answers, Encoded, Features, Problem, all_answered, log_softmax, tokenize
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

    @property
    def has_own_loss(self) -> bool:
        """Whether the classes have weights."""
        return self.class_weights is not None

    def loss(self, logits: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """Weigh the classes."""
        weight = torch.tensor(self.class_weights, device=logits.device, dtype=torch.float32)
        return torch.nn.functional.cross_entropy(logits.float(), inputs["labels"], weight, reduction="sum")

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
    """A number."""

    def config_settings(self) -> dict[str, Any]:
        """Say that the one output is a value."""
        return {"problem_type": "regression", "num_labels": 1}

    def start_head(self, model: PreTrainedModel, new_parameters: Collection[str], training: Encoded) -> None:
        """Let a new head begin with the mean value, which its bias would take most of a short training to reach."""
        mean = float(np.mean([row["labels"] for row in training.features.rows]))
        for name, parameter in model.named_parameters():
            if name in new_parameters and name.endswith(".bias") and parameter.shape == (1,):
                torch.nn.init.constant_(parameter, mean)

    def target(self, example: TextExample) -> float:
        """Return the value."""
        assert example.label is not None
        return float(example.label)

    def answers(self, logits: np.ndarray, encoded: Encoded) -> Answers:
        """Return the values."""
        return Answers([float(value) for value in logits.reshape(-1)], [None] * len(encoded.examples))

    def scores(self, predictions: Sequence[float], examples: Sequence[TextExample]) -> dict[str, float]:
        """Return the correlations."""
        return regression_scores(predictions, [self.target(example) for example in examples])

    def mistakes(self, logits: np.ndarray, answers: Answers, encoded: Encoded) -> list[float]:
        """Return the squared differences."""
        pairs = zip(answers.predictions, encoded.examples, strict=True)
        return [(value - self.target(example)) ** 2 for value, example in pairs]
