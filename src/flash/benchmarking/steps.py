"""What is measured: one training step, or one forward pass, of a contestant on a batch of random tokens."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from flash.benchmarking.contestants import Contestant
from flash.benchmarking.sizes import VOCABULARY, Size
from flash.models.losses import NOT_SCORED

Mode = Literal["training", "inference"]
SCORED_SHARE = 0.15

Step = Callable[[], object]


@dataclass(frozen=True)
class Shape:
    """Rows of a batch and their length in tokens."""

    rows: int
    length: int

    @property
    def tokens(self) -> int:
        """Tokens of a batch."""
        return self.rows * self.length

    @property
    def scored(self) -> int:
        """Positions with labels, the same number in every row."""
        return self.rows * max(1, round(SCORED_SHARE * self.length))


def batch_shape(tokens: int, length: int) -> Shape:
    """Keep the tokens of a batch constant over lengths; a length above them makes one row."""
    return Shape(max(1, tokens // length), length)


def random_batch(shape: Shape, device: torch.device, *, seed: int = 0) -> dict[str, Tensor]:
    """Draw tokens, and labels at 15 % of the positions of each row."""
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(5, VOCABULARY, (shape.rows, shape.length), generator=generator)
    order = torch.rand(shape.rows, shape.length, generator=generator).argsort(dim=1)
    labels = torch.where(order < shape.scored // shape.rows, input_ids, NOT_SCORED)
    return {"input_ids": input_ids.to(device), "labels": labels.to(device)}


def make_step(
    contestant: Contestant,
    size: Size,
    mode: Mode,
    batch: dict[str, Tensor],
    *,
    length: int,
    device: torch.device,
) -> Step:
    """Build the model and return a function that does one step.

    Training is forward with loss, backward, fused AdamW; inference the forward pass without head, without gradients.

    Args:
        batch: Inputs of the model; ``labels`` are used in training only.
        length: Longest input.
    """
    torch.manual_seed(0)
    with device:
        model = contestant.build(size, length)
    # inputs of the step are of one shape
    run: Any = torch.compile(_called(model, mode), dynamic=False) if contestant.compiled else _called(model, mode)
    if mode == "inference":
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        model.eval()

        @torch.no_grad()
        def infer() -> object:
            with _precision(contestant, device):
                return run(**inputs)

        return infer

    if contestant.kind.gated:
        run = partial(run, scored_logits_only=not contestant.all_logits)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def train() -> None:
        with _precision(contestant, device):
            loss = run(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return train


def _called(model: PreTrainedModel, mode: Mode) -> PreTrainedModel:
    return model if mode == "training" else model.base_model


def _precision(contestant: Contestant, device: torch.device) -> AbstractContextManager:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=contestant.dtype == "bf16")
