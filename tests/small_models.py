"""Tiny masked language models of every architecture, and text for them."""

import random
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from flash import (
    FLASHConfig,
    FLASHForMaskedLM,
    FLASHQuadConfig,
    FLASHQuadForMaskedLM,
    GAUAlphaConfig,
    GAUAlphaForMaskedLM,
)

from helpers import CURED
from toy_pretraining import SENTENCES, TOKENS

ARCHITECTURES = ("flash_quad", "flash", "gau_alpha")
SIZES = {"vocab_size": len(TOKENS), "hidden_size": 16, "num_hidden_layers": 2, "max_position_embeddings": 64}


def small_model(architecture: str, *, seed: int = 0, **settings: Any) -> PreTrainedModel:
    """Two layers of width 16 with random weights; FLASH has chunks of 8, so that texts have several."""
    torch.manual_seed(seed)
    if architecture == "gau_alpha":
        # at the usual 0.02, layers this narrow would change nothing
        sizes = SIZES | {"intermediate_size": 32, "attention_key_size": 8, "initializer_range": 0.3}
        return GAUAlphaForMaskedLM(GAUAlphaConfig(**(sizes | settings))).eval()
    sizes = SIZES | {"query_key_dim": 8} | CURED
    if architecture == "flash":
        return FLASHForMaskedLM(FLASHConfig(**(sizes | {"chunk_size": 8} | settings))).eval()
    return FLASHQuadForMaskedLM(FLASHQuadConfig(**(sizes | settings))).eval()


def write_text(path: Path, *, documents: int = 12, seed: int = 0) -> Path:
    """Write documents of six of the toy sentences each, separated by blank lines."""
    generator = random.Random(seed)
    path.write_text("\n\n".join("".join(generator.choices(SENTENCES, k=6)) for _ in range(documents)), encoding="utf-8")
    return path
