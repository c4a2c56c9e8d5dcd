"""The stock Trainer with a task's own loss and with learning rates that fall towards the embeddings."""

import re
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import EvalPrediction, PreTrainedModel, Trainer
from transformers.trainer_pt_utils import get_length_grouped_indices

from flash.finetuning.problems.problem import NOT_SCORED, Encoded, Features, Problem
from flash.training.optimizers import stock_optimizer
from flash.training.weight_decay import decayed_parameter_names

# what only the task's own loss looks at
OWN_INPUTS = ("labels", "is_candidate")
_LAYER = re.compile(r"\.(?:layers?|h|block)\.(\d+)\.")


class TaskTrainer(Trainer):
    """Train and score a model on a task.

    Args:
        problem: The task's kind, which may have a loss of its own.
        encoded: What is validated on.
        layer_decay: Factor on the learning rate from a layer to the one below it.
        new_parameters: Names of parameters that begin untrained, wherever they are; they learn at the head's rate.
    """

    def __init__(
        self,
        *args: Any,
        problem: Problem,
        encoded: Encoded | None = None,
        layer_decay: float = 1.0,
        new_parameters: Collection[str] = (),
        **kwargs: Any,
    ) -> None:
        self._problem = problem
        self._layer_decay = layer_decay
        self._new_parameters = new_parameters
        if encoded is not None:
            order = longest_first(encoded.features)
            kwargs["eval_dataset"] = Features([encoded.features.rows[index] for index in order])
            kwargs["compute_metrics"] = lambda prediction: self._scores(prediction, encoded, order)
        super().__init__(*args, preprocess_logits_for_metrics=self._kept, **kwargs)
        if problem.has_own_loss:
            # so that the stock Trainer counts the labels of all batches of a step
            self.model_accepts_loss_kwargs = True

    def _kept(self, outputs: Any, labels: Any) -> Any:
        return self._problem.reduce_logits(of_head(outputs, self._problem.outputs))

    def _scores(self, prediction: EvalPrediction, encoded: Encoded, order: list[int]) -> dict[str, float]:
        answers = self._problem.answers(put_back(prediction.predictions, order), encoded)
        return self._problem.scores(answers.predictions, encoded.examples)

    def logits_of(self, encoded: Encoded) -> Any:
        """Run the model over all features, those of like length together; arrays, in the order of the features."""
        order = longest_first(encoded.features)
        labels = self._problem.label_names()
        rows = [
            {name: value for name, value in encoded.features.rows[index].items() if name not in labels}
            for index in order
        ]
        metrics, self.compute_metrics = self.compute_metrics, None  # type: ignore[has-type]
        try:
            return put_back(self.predict(Features(rows)).predictions, order)
        finally:
            self.compute_metrics = metrics

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Take the task's own loss where it has one, averaged as the stock Trainer averages the model's."""
        if not self._problem.has_own_loss:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        outputs = model(**{name: value for name, value in inputs.items() if name not in OWN_INPUTS})
        loss = self._problem.loss(outputs.logits, inputs)
        if num_items_in_batch is None:
            num_items_in_batch = (inputs["labels"] != NOT_SCORED).sum()
        loss = loss / torch.as_tensor(num_items_in_batch).clamp(min=1)  # a batch may have nothing that is scored
        return (loss, {"loss": loss, "logits": outputs.logits}) if return_outputs else loss

    def prediction_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Give a model that is not asked for its loss only what it knows."""
        if "labels" not in inputs:
            inputs = {name: value for name, value in inputs.items() if name not in OWN_INPUTS}
        return super().prediction_step(model, inputs, *args, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler | None:
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        rows = (self.train_dataset if train_dataset is None else train_dataset).rows
        return GroupedByLength(
            [token_count(row["input_ids"]) for row in rows],
            batch_size=self.args.train_batch_size * self.args.gradient_accumulation_steps,
            seed=self.args.seed if self.args.data_seed is None else self.args.data_seed,
        )

    def _get_eval_sampler(self, eval_dataset: torch.utils.data.Dataset) -> torch.utils.data.Sampler:
        # as they are, in order of length: the stock Trainer would draw another order, and answers must find their texts
        return torch.utils.data.SequentialSampler(eval_dataset)  # type: ignore[arg-type]

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make the stock optimizer over groups of one depth and one weight decay each."""
        if self.optimizer is None:  # type: ignore[has-type]
            trained = self.model if model is None else model
            make, settings = stock_optimizer(self, trained)
            self.optimizer = make(self._groups(trained), **settings)
        return self.optimizer

    def _groups(self, model: nn.Module) -> list[dict[str, Any]]:
        decayed = decayed_parameter_names(model)
        layers = layer_count(self.model)
        groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                is_new = name in self._new_parameters
                depth = layers + 1 if is_new else depth_of(name, layers, self.model.base_model_prefix)
                groups.setdefault((depth, name in decayed), []).append(parameter)
        return [
            {
                "params": parameters,
                "lr": self.args.learning_rate * self._layer_decay ** (layers + 1 - depth),
                "weight_decay": self.args.weight_decay if is_decayed else 0.0,
            }
            for (depth, is_decayed), parameters in sorted(groups.items(), key=lambda group: group[0], reverse=True)
        ]


class GroupedByLength(torch.utils.data.Sampler):
    """Rows of like length together; the order of an epoch follows from seed and epoch, also when it is resumed.

    Args:
        lengths: Tokens of each row.
        batch_size: Rows of a step.
        seed: Of the order.
    """

    def __init__(self, lengths: list[int], *, batch_size: int, seed: int) -> None:
        self._lengths = lengths
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Take the order of an epoch; accelerate calls this at the beginning of each."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Count the rows."""
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        """Yield indices of rows."""
        generator = torch.Generator().manual_seed(self._seed + 1_000_003 * self._epoch)
        return iter(get_length_grouped_indices(self._lengths, self._batch_size, generator=generator))


def of_head(outputs: Any, count: int) -> Any:
    """Leave out what a model puts out besides: hidden states, attentions, what an encoder hands its decoder."""
    if not isinstance(outputs, tuple):
        return outputs
    return outputs[0] if count == 1 else outputs[:count]


def longest_first(features: Features) -> list[int]:
    """Order features by length, so that batches hold little padding; a batch that does not fit shows at once."""
    counts = [token_count(row["input_ids"]) for row in features.rows]
    return sorted(range(len(counts)), key=lambda index: -counts[index])


def put_back(logits: Any, order: list[int]) -> Any:
    """Put logits, an array or a tuple of them, into the order that was there before."""
    if isinstance(logits, tuple):
        return tuple(put_back(each, order) for each in logits)
    return logits[np.argsort(order)]


def token_count(input_ids: list[Any]) -> int:
    """Count the tokens of a row; of one with several candidates as if all were padded to the longest."""
    if input_ids and isinstance(input_ids[0], list):
        return len(input_ids) * max(map(len, input_ids))
    return len(input_ids)


def layer_count(model: PreTrainedModel) -> int:
    """Count the layers, by the highest number in the names of parameters."""
    numbers = [int(found[1]) for name, _ in model.named_parameters() if (found := _LAYER.search(name))]
    return max(numbers, default=-1) + 1


def depth_of(name: str, layers: int, base_model_prefix: str) -> int:
    """Tell a parameter's depth by its name: 0 in the embeddings, 1 in the first layer, ``layers + 1`` in the head."""
    if found := _LAYER.search(name):
        return int(found[1]) + 1
    if not name.startswith(f"{base_model_prefix}."):
        return layers + 1
    return 0 if "embed" in name else layers
