"""What every kind of task says of itself."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from transformers import BatchEncoding, DataCollatorWithPadding, PreTrainedModel, PreTrainedTokenizerFast

from flash.tasks.examples import Example
from flash.tasks.task import Task

Collator = Any
TEXTS_AT_A_TIME = 100
NOT_SCORED = -100  # the label that losses leave out


class Features(torch.utils.data.Dataset):
    """Model inputs as a list; one of the kind that Trainer takes."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        """Count them."""
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one."""
        return self.rows[index]


@dataclass
class Encoded:
    """Examples as a model takes them.

    Args:
        examples: What was encoded.
        features: Inputs, one or several for each example.
        lengths: Tokens of each example, uncut, [CLS] and [SEP] counted.
        cut: Examples of which something was left out.
        windows: What a kind of task needs to find its way back from features to examples.
        overlapping: Entities that share characters with a longer one, and have no tags for that.
    """

    examples: Sequence[Any]
    features: Features
    lengths: list[int]
    cut: int = 0
    windows: list[Any] = field(default_factory=list)
    overlapping: int = 0


@dataclass
class Answers:
    """Predictions in the order of the examples, with their probabilities where there are any."""

    predictions: list[Any]
    confidences: list[float | None]


class Problem(ABC):
    """A kind of task.

    Args:
        task: Its facts.
        labels: Classes, in the order of their ids.
        measured: What the training examples say that answering needs to know; it is kept with the model.
    """

    auto_class: ClassVar[Any]
    pipeline: ClassVar[str | None] = None
    outputs: ClassVar[int] = 1  # of the head; what a model puts out behind them is not looked at
    reads_windows: ClassVar[bool] = False  # a long text is read in parts, not cut

    def __init__(self, task: Task, labels: tuple[str, ...] = (), measured: Mapping[str, int] | None = None) -> None:
        self.task = task
        self.labels = labels
        self.measured = dict(measured or {})
        self.class_weights: list[float] | None = None
        self.label_smoothing = 0.0

    def head_labels(self) -> tuple[str, ...]:
        """Name the outputs of the head; nothing where they have no names."""
        return ()

    def config_settings(self) -> dict[str, Any]:
        """Return what the configuration must say of the head besides its labels."""
        return {}

    @abstractmethod
    def encode(
        self, examples: Sequence[Any], tokenizer: PreTrainedTokenizerFast, max_length: int, *, training: bool = False
    ) -> Encoded:
        """Turn examples into model inputs, with labels where all of them have an answer.

        Args:
            training: The answers may be used to choose what is read, and are ``measured``; never so in validation.
        """

    def start_head(  # noqa: B027  most kinds have nothing to do here
        self, model: PreTrainedModel, new_parameters: Collection[str], training: Encoded
    ) -> None:
        """Set those new parameters of the head that the training examples tell something about.

        Args:
            new_parameters: Names of the parameters that come from no checkpoint; the others stay.
        """

    def finish_head(self, model: PreTrainedModel) -> None:  # noqa: B027
        """Undo what `start_head` did to suit training, before the model is saved."""

    def prepare(self, model: PreTrainedModel) -> None:  # noqa: B027
        """Make a model compute what this kind needs, in training and at use; its weights stay."""

    def collator(self, tokenizer: PreTrainedTokenizerFast, pad_to_multiple_of: int | None) -> Collator:
        """Return what makes a batch of features."""
        return DataCollatorWithPadding(tokenizer, pad_to_multiple_of=pad_to_multiple_of)

    def reduce_logits(self, logits: Any) -> Any:
        """Keep of a batch's logits what `answers` needs."""
        return logits

    def label_names(self) -> list[str]:
        """Name the model inputs that are labels."""
        return ["labels"]

    @property
    def has_own_loss(self) -> bool:
        """Whether `loss` is trained on, and not the model's own.

        That of most architectures is an average over the batch, whatever the Trainer says of accumulated batches.
        """
        return True

    def loss(self, logits: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """Sum the losses of a batch.

        Args:
            inputs: The batch, labels included.
        """
        raise NotImplementedError

    @abstractmethod
    def answers(self, logits: Any, encoded: Encoded) -> Answers:
        """Read the answers off the logits of all features."""

    @abstractmethod
    def scores(self, predictions: Sequence[Any], examples: Sequence[Any]) -> dict[str, float]:
        """Compare with what is right."""

    @abstractmethod
    def mistakes(self, logits: Any, answers: Answers, encoded: Encoded) -> list[float]:
        """Say how wrong each answer is: its loss, or what stands for it."""


def tokenize(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int
) -> tuple[list[dict[str, Any]], list[int]]:
    """Encode texts or pairs, cut to ``max_length`` at the longer one's end.

    Returns:
        The inputs, and the number of tokens that there would be uncut.
    """
    rows: list[dict[str, Any]] = []
    for some in slices(len(texts)):
        settings = {} if pairs is None else {"text_pair": list(pairs[some])}
        cut = tokenizer(list(texts[some]), **settings, truncation="longest_first", max_length=max_length)
        rows += rows_of(cut)
    return rows, token_counts(tokenizer, texts, pairs)


def token_counts(
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    add_special_tokens: bool = True,
) -> list[int]:
    """Count the tokens of texts or pairs, uncut."""
    counts: list[int] = []
    for some in slices(len(texts)):
        batch = tokenizer(
            list(texts[some]),
            None if pairs is None else list(pairs[some]),
            add_special_tokens=add_special_tokens,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        counts += [len(ids) for ids in batch["input_ids"]]
    return counts


def rows_of(batch: BatchEncoding) -> list[dict[str, Any]]:
    """Take a batch of lists apart."""
    names = list(batch.keys())
    return [dict(zip(names, values, strict=True)) for values in zip(*(batch[name] for name in names), strict=True)]


def slices(count: int) -> Iterator[slice]:
    """Take ``count`` texts some at a time: what a tokenizer returns holds all of every text, cut or not."""
    return (slice(start, start + TEXTS_AT_A_TIME) for start in range(0, count, TEXTS_AT_A_TIME))


def all_answered(examples: Sequence[Example], answers: Sequence[object]) -> bool:
    """Say whether every example has an answer, so that there is a loss."""
    return bool(examples) and all(answer is not None for answer in answers)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return log probabilities over the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
