"""The stock Trainer with what masked-language-model pretraining adds: live accuracy and exact averages."""

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, EvalLoopOutput

from flash.data.rows import NumberedRows
from flash.data.stream_order import StreamOrder
from flash.data.token_dataset import TokenDataset
from flash.data.whole_word_mask import WholeWordMasker
from flash.models.losses import NOT_SCORED, pick_scored
from flash.training.checkpoints import saying_how_to_go_on
from flash.training.muon import MuonWithAdamW, hidden_matrices
from flash.training.optimizers import stock_optimizer
from flash.training.weight_decay import decayed_parameter_names

# what is summed over micro-batches: loss over scored tokens, right predictions, scored tokens, real tokens
LOSS, CORRECT, SCORED, TOKENS = range(4)


class MaskEpochCallback(TrainerCallback):
    """Has the training rows draw new masks in each epoch, and the same ones when an epoch is resumed."""

    def __init__(self, rows: NumberedRows) -> None:
        self._rows = rows

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tell the rows the epoch."""
        self._rows.use_masks_of_epoch(int(state.epoch or 0))


class MaskedLMTrainer(Trainer):
    """Log ``loss`` and ``mlm_acc`` as averages over the scored tokens since the last log.

    The sums run over accumulation steps and ranks, and go into checkpoints, so a resumed run logs what an
    uninterrupted one does. Validation reports the loss in nats a token, the accuracy and the perplexity, each over
    all scored tokens of the split.

    Args:
        masker: Masks the batches on their device, where the collator has left that to it; None where it has not.
    """

    STATE_KEY = "MaskedLMTrainer"

    def __init__(self, *args: Any, masker: WholeWordMasker | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._masker = masker
        self._stream_order: StreamOrder | None = None
        self._train_sums = torch.zeros(4, dtype=torch.float64)
        self._eval_sums = torch.zeros(4, dtype=torch.float64)
        self.tokens_seen = 0
        self._clock: float | None = None  # start of the interval that tokens/s is measured over
        self._tokens_before_clock = 0.0  # those that a checkpoint brought along

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        """Go through streamed rows in an order in which each worker of a loader reads every block once."""
        rows = self.train_dataset if train_dataset is None else train_dataset
        if not (isinstance(rows, TokenDataset) and rows.is_streamed):
            return super()._get_train_sampler(train_dataset)
        self._stream_order = StreamOrder(
            rows,
            batch_size=self.args.train_batch_size,
            lanes=self._loader_workers,
            buffer_rows=self.args.stream_buffer_rows,
            seed=self.args.seed,
        )
        rows.keep_blocks(self._stream_order.blocks_in_use(self._loader_workers))
        return self._stream_order

    @property
    def _loader_workers(self) -> int:
        return self.args.world_size * max(1, self.args.dataloader_num_workers)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Compute the loss as the stock Trainer does, and add to the sums."""
        if self._clock is None:
            self._clock = time.monotonic()
        averaged_over = None
        if num_items_in_batch is not None:
            num_items_in_batch = torch.as_tensor(num_items_in_batch).clamp(min=1)  # nothing may be scored: no 0 / 0
            # the stock Trainer multiplies the loss by the number of ranks, because their gradients are averaged
            ranks = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
            averaged_over = num_items_in_batch / ranks
        # said, because a compiled model computes all logits unless told not to
        count = getattr(self.args, "scored_positions", None)
        if count is not None:
            count = min(count, inputs["labels"].numel())  # the last batch of an epoch may have fewer positions
        inputs = inputs | {"scored_logits_only": True if count is None else count}
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch)
        sums = _batch_sums(inputs, outputs, averaged_over, count)
        self._train_sums = self._train_sums.to(sums.device) + sums
        return (loss, outputs) if return_outputs else loss

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, Tensor | int | None]:
        """Fetch the batches of a step; none if all steps are done, as in a finished run that is started again.

        The stock Trainer looks at the number of steps only after one more.
        """
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return [], None
        if self._masker is not None:
            epoch_iterator = map(self._masker, epoch_iterator)  # before the scored tokens are counted
        return super().get_batch_samples(epoch_iterator, num_batches, device)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Replace the mean of batch means with the mean over scored tokens, and add the accuracy."""
        is_last = "train_runtime" in logs
        if "loss" in logs or is_last:
            loss, correct, scored, tokens = self._over_ranks(self._train_sums)
            self._train_sums = torch.zeros_like(self._train_sums)
            self.tokens_seen += int(tokens)
        if "loss" in logs:
            now = time.monotonic()
            timed = tokens - self._tokens_before_clock
            logs["tokens_per_second"] = timed / max(now - (self._clock or now), 1e-9)
            self._clock, self._tokens_before_clock = now, 0.0
            if scored:
                logs["loss"] = loss / scored
                logs["mlm_acc"] = correct / scored
        super().log(logs, start_time)

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Score one validation batch; logits are never kept."""
        inputs = self._prepare_inputs(inputs)
        if self._masker is not None:
            inputs = self._masker(inputs)
        inputs["labels"][self._own_rows(len(inputs["labels"])) :] = -100
        with torch.no_grad(), self.compute_loss_context_manager():
            outputs = model(**inputs, scored_logits_only=True)
        sums = _batch_sums(inputs, outputs, None)
        self._eval_sums = self._eval_sums.to(sums.device) + sums
        return outputs.loss.detach(), None, None

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> EvalLoopOutput:
        """Report loss, accuracy and perplexity over all scored tokens of the split."""
        self._eval_sums = torch.zeros_like(self._eval_sums)
        started = time.monotonic()
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        loss, correct, scored, _ = self._over_ranks(self._eval_sums)
        if scored:
            output.metrics[f"{metric_key_prefix}_loss"] = loss / scored
            output.metrics[f"{metric_key_prefix}_mlm_acc"] = correct / scored
            output.metrics[f"{metric_key_prefix}_perplexity"] = math.exp(min(loss / scored, 700.0))
        if self._clock is not None:
            self._clock += time.monotonic() - started  # validation is not training time
        return output

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make the optimizer that the arguments name, unless one was given."""
        if self.optimizer is None:  # type: ignore[has-type]
            trained = self.model if model is None else model
            if getattr(self.args, "muon", False):
                self.optimizer = self._muon_with_adamw(trained)
            else:
                stock_optimizer(self, trained)  # says what is not installed
        return super().create_optimizer(model)

    def _muon_with_adamw(self, model: nn.Module) -> MuonWithAdamW:
        for_muon, decayed = hidden_matrices(self.model), set(self.get_decay_parameter_names(model))
        parts: tuple[list[nn.Parameter], ...] = ([], [], [])
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parts[0 if name in for_muon else 1 if name in decayed else 2].append(parameter)
        return MuonWithAdamW(
            *parts,
            lr=self.args.learning_rate,
            muon_lr=self.args.muon_learning_rate,
            weight_decay=self.args.weight_decay,
            betas=(self.args.adam_beta1, self.args.adam_beta2),
            eps=self.args.adam_epsilon,
        )

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Decay matrices only: not gains, offsets, norms and biases, whatever their names."""
        return decayed_parameter_names(model)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        # sums since the last log belong to the checkpoint: without them a resumed run logs a partial average
        sums = self._over_ranks(self._train_sums)
        self.state.stateful_callbacks[self.STATE_KEY] = {
            "sums": sums,
            "tokens_seen": self.tokens_seen,
            "muon": getattr(self.args, "muon", False),
            "lanes": None if self._stream_order is None else self._stream_order.lanes,
        }
        with saying_how_to_go_on(Path(self.args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"):
            super()._save_checkpoint(model, trial)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        saved = self.state.stateful_callbacks.get(self.STATE_KEY) if checkpoint is not None else None
        if saved is not None:
            self.tokens_seen = saved["tokens_seen"]
            self._tokens_before_clock = saved["sums"][-1]
            if self._stream_order is not None and saved.get("lanes"):
                # the order of the run that is gone on with, whatever the number of workers is now
                self._stream_order.lanes = saved["lanes"]
                self.train_dataset.keep_blocks(self._stream_order.blocks_in_use(self._loader_workers))
            if self.is_world_process_zero():  # they are sums over all ranks
                self._train_sums = torch.tensor(saved["sums"], dtype=torch.float64)

    def _own_rows(self, rows: int) -> int:
        """Count the rows of a validation batch that are this rank's; accelerate fills the last ones up with repeats."""
        loader = self.accelerator.gradient_state
        if not loader.end_of_dataloader or loader.remainder <= 0:
            return rows
        return min(max(loader.remainder - self.args.process_index * self.args.eval_batch_size, 0), rows)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        # tied weights are saved once, so they are missing from every checkpoint and yet loaded
        tied = self.model.all_tied_weights_keys
        load_result.missing_keys[:] = [key for key in load_result.missing_keys if key not in tied]
        super()._issue_warnings_after_load(load_result)

    def _over_ranks(self, sums: Tensor) -> list[float]:
        return self.accelerator.reduce(sums.to(self.args.device), reduction="sum").tolist()


def _batch_sums(
    inputs: dict[str, Any], outputs: Any, num_items_in_batch: Tensor | int | None, count: int | None = None
) -> Tensor:
    """Sum loss, right predictions, scored tokens and real tokens of one batch, on its device, without waiting."""
    labels = inputs["labels"]
    labels = labels.flatten()[pick_scored(labels, count)]  # as the logits were picked
    scored = (labels != NOT_SCORED).sum()
    correct = (outputs.logits.argmax(dim=-1) == labels).sum()
    averaged_over = scored if num_items_in_batch is None else num_items_in_batch
    loss_sum = outputs.loss.detach() * averaged_over
    tokens = inputs["attention_mask"].sum()
    return torch.stack([part.to(torch.float64) for part in (loss_sum, correct, scored, tokens)])
