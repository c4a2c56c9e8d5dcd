"""Tiny configurations, random batches and tolerances that several tests share."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import settings as hypothesis_settings
from torch import Tensor

from flash import FLASHQuadConfig

# What a missing key of a config.json means, and the settings that train well.
EARLIER: dict[str, Any] = {}
CURED: dict[str, Any] = {
    "initialization": "fan_in",
    "score_scale": "inverse_sqrt_dim",
    "attention_norm": True,
    "final_norm": True,
    "token_shift": 0.25,
}
for_each_setting = pytest.mark.parametrize("settings", [EARLIER, CURED], ids=["earlier", "cured"])

# The same sums in another order: a few hundred roundings of 1e-16, amplified by the layers.
FLOAT64 = {"rtol": 1e-9, "atol": 1e-11}
# The same for float32 (roundings of 6e-8), for activations of size 1 to 10 behind two layers.
FLOAT32 = {"rtol": 1e-5, "atol": 1e-5}
EXACT = {"rtol": 0.0, "atol": 0.0}

few_examples = hypothesis_settings(max_examples=15, deadline=None, derandomize=True)

VOCABULARY = 20


def tiny_config(**changes: Any) -> FLASHQuadConfig:
    """Two layers of width 16, with every setting of the earlier code unless changed."""
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "max_position_embeddings": 16,
        "query_key_dim": 8,
    }
    return FLASHQuadConfig(**(sizes | changes))


def random_tokens(*shape: int, seed: int = 0) -> Tensor:
    """Token ids of which none is the padding token 0."""
    return torch.randint(1, VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers, the same for the same seed."""
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def relative_error(actual: Tensor, exact: Tensor) -> float:
    """The length of the error over the length of the float64 result."""
    return ((actual.double() - exact).norm() / exact.norm()).item()


@contextmanager
def transformers_warnings() -> Iterator[list[str]]:
    """Collect what transformers logs as a warning or worse; its loggers do not propagate to pytest's ``caplog``."""
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
