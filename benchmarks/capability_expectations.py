"""How a check of a capability says what came of it: expectations of tensors, and the exceptions behind them."""

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from capability_subjects import answer

FLOAT32 = 1e-5  # the same sums in another order, activations of size 1 to 10
HALF = 0.05  # relative error of a model of two layers in bfloat16 (8 eps is 0.06) or float16


class NotApplicable(Exception):  # noqa: N818 - it is no error
    """The class has no such thing; the message says why."""


class WrongResultError(AssertionError):
    """It ran, and the result is wrong; the message says what is."""


def run(model: PreTrainedModel, **inputs: Any) -> Tensor:
    """Run the model without gradients and take its answer."""
    with torch.inference_mode():
        return answer(model(**inputs))


def expect(condition: bool | Tensor, otherwise: str) -> None:
    """Raise ``WrongResultError`` unless ``condition`` holds."""
    if not condition:
        raise WrongResultError(otherwise)


def expect_same(actual: Tensor, expected: Tensor, what: str) -> None:
    """Expect the same numbers bit for bit."""
    expect(torch.equal(actual, expected), f"{what}: not the same bit for bit")


def expect_close(actual: Tensor, expected: Tensor, what: str) -> None:
    """Expect the same shape, and the same numbers up to the order of sums."""
    same = actual.shape == expected.shape and torch.allclose(actual, expected, rtol=FLOAT32, atol=FLOAT32)
    expect(same, f"{what}: not the same to {FLOAT32:g}")


def expect_changed(actual: Tensor, other: Tensor, by: str) -> None:
    """Expect numbers that differ by more than rounding."""
    expect(not torch.allclose(actual, other, rtol=1e-3, atol=1e-3), f"{by}: no effect")
