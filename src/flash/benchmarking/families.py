"""The families of models that are compared, each as a function from size and length to a masked language model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from transformers import BertConfig, BertForMaskedLM, ModernBertConfig, ModernBertForMaskedLM, PreTrainedModel

from flash.benchmarking.sizes import VOCABULARY, Size
from flash.models.configuration_flash import FLASHConfig
from flash.models.configuration_flash_quad import FLASHQuadConfig
from flash.models.modeling_flash import FLASHForMaskedLM
from flash.models.modeling_flash_quad import FLASHQuadForMaskedLM
from flash.models.presets import RECOMMENDED

MOST_DIFFERENCE = 0.03
# tables whose rows are looked up by position: as long as the input, and no arithmetic
POSITION_TABLES = ("relative_bias.weight", "position_embeddings.weight")
# Full batches: no model is told to look for padding. The other names ask for ids that the vocabulary does not have.
_NO_SPECIAL_IDS = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"))
_WIDTH_STEP = 64  # widths that are no multiple of it would cost a peer speed on a GPU


@dataclass(frozen=True)
class Family:
    """An architecture with its settings.

    Args:
        title: Name in figures.
        build: Makes a model from ``size`` and ``length`` and, of a gated one, ``backend``; of a Transformer, ``inner``,
            the width of its MLP.
        gated: Made of gated attention units, whose operations have backends.
        full_logits: Trained with logits at all positions, scored or not.
        dtypes: In which it can be run.
    """

    title: str
    build: Callable[..., PreTrainedModel]
    gated: bool
    full_logits: bool = False
    dtypes: tuple[str, ...] = ("fp32", "bf16")


def build_flash_quad(size: Size, length: int, backend: str | None) -> PreTrainedModel:
    """Build the recommended FLASH-Quad, with a learned bias for each distance at every length."""
    return FLASHQuadForMaskedLM(FLASHQuadConfig(**RECOMMENDED, **_gated(size, length, backend)))


def build_flash(size: Size, length: int, backend: str | None) -> PreTrainedModel:
    """Build the recommended FLASH, with chunks of 256."""
    return FLASHForMaskedLM(FLASHConfig(**RECOMMENDED, **_gated(size, length, backend)))


def build_earlier(size: Size, length: int, backend: str | None) -> PreTrainedModel:
    """Build FLASH-Quad as the earlier repository did: the plain constructor, all weights held at once."""
    settings = _gated(size, length, "reference") | {"relative_bias": None}
    return FLASHQuadForMaskedLM(FLASHQuadConfig(**settings))


def build_bert(size: Size, length: int, inner: int) -> PreTrainedModel:
    """Build BERT of transformers with PyTorch's fused attention; without dropout, which would keep it from that."""
    return BertForMaskedLM(
        BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=size.width,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            intermediate_size=inner,
            max_position_embeddings=length,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            attn_implementation="sdpa",
            **_NO_SPECIAL_IDS,
        )
    )


def build_modernbert(size: Size, length: int, inner: int, *, every: int = 1) -> PreTrainedModel:
    """Build ModernBERT of transformers with PyTorch's fused attention and logits at scored positions only.

    Args:
        every: Layers from one that sees the whole text to the next; those between see 128 tokens.
    """
    return ModernBertForMaskedLM(
        ModernBertConfig(
            vocab_size=VOCABULARY,
            hidden_size=size.width,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            intermediate_size=inner,
            max_position_embeddings=length,
            global_attn_every_n_layers=every,
            sparse_prediction=True,
            attn_implementation="sdpa",
            cls_token_id=None,
            sep_token_id=None,
            **_NO_SPECIAL_IDS,
        )
    )


def build_modernbert_local(size: Size, length: int, inner: int) -> PreTrainedModel:
    """Build ModernBERT as published: every third layer sees the whole text."""
    return build_modernbert(size, length, inner, every=3)


FAMILIES = {
    "flash-quad": Family("FLASH-Quad", build_flash_quad, gated=True),
    "flash": Family("FLASH", build_flash, gated=True),
    "earlier": Family("earlier code", build_earlier, gated=True, full_logits=True, dtypes=("fp32",)),
    "modernbert": Family("Transformer++ (ModernBERT, all layers global)", build_modernbert, gated=False),
    "modernbert-local": Family("ModernBERT as published", build_modernbert_local, gated=False),
    "bert": Family("BERT", build_bert, gated=False, full_logits=True),
}


def build(family: str, size: Size, length: int, backend: str | None = None) -> PreTrainedModel:
    """Build a model of a family, a Transformer with the MLP that makes it equal in parameters to FLASH-Quad."""
    one = FAMILIES[family]
    return one.build(size, length, backend) if one.gated else one.build(size, length, matched_width(family, size))


def count_parameters(model: PreTrainedModel) -> int:
    """Count the parameters that do not grow with the length: all but `POSITION_TABLES`, tied ones once."""
    return sum(p.numel() for name, p in model.named_parameters() if not name.endswith(POSITION_TABLES))


@cache
def equal_parameters(family: str, size: Size) -> tuple[int, int]:
    """Count the parameters of a family and of FLASH-Quad, and see to it that they agree.

    Returns:
        Both counts, see `count_parameters`.
    """
    with torch.device("meta"):
        own, target = (count_parameters(build(name, size, length=512)) for name in (family, "flash-quad"))
    assert abs(own / target - 1) <= MOST_DIFFERENCE, f"{family} has {own:,} parameters, FLASH-Quad {target:,}"
    return own, target


@cache
def matched_width(family: str, size: Size) -> int:
    """Find the width of a Transformer's MLP, a multiple of 64, that comes next to FLASH-Quad in parameters."""
    one = FAMILIES[family]
    with torch.device("meta"):
        target = count_parameters(build("flash-quad", size, length=512))
        narrow, wider = (count_parameters(one.build(size, 512, inner)) for inner in (_WIDTH_STEP, 2 * _WIDTH_STEP))
    return _WIDTH_STEP * (1 + round((target - narrow) / (wider - narrow)))


def _gated(size: Size, length: int, backend: str | None) -> dict[str, Any]:
    settings = {
        "vocab_size": VOCABULARY,
        "hidden_size": size.width,
        "num_hidden_layers": size.units,
        "query_key_dim": size.query_key_dim,
        "max_position_embeddings": length,
        "relative_bias": "toeplitz",
        **_NO_SPECIAL_IDS,
    }
    return settings if backend is None else settings | {"attention_backend": backend}
