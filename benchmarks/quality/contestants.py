"""Who is compared: each contestant as a function from a size to a model, with the optimizer that it is trained by."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from surgery import CHANGES, FIRST_WEIGHTS
from transformers import PreTrainedModel

from flash import FLASHConfig, FLASHForMaskedLM, FLASHQuadConfig, FLASHQuadForMaskedLM

from baselines import build_bert, build_transformer


@dataclass(frozen=True)
class Size:
    """A width and depth; one Transformer layer has the parameters of two gated attention units.

    Args:
        width: Model width d.
        units: Gated attention units; half as many Transformer layers.
        gated_inner: Width of the Transformer's gated MLP that makes the parameters equal.
        plain_inner: Width of BERT's MLP that does so.
        head_dim: Width of a Transformer's head.
    """

    width: int
    units: int
    gated_inner: int
    plain_inner: int
    head_dim: int


SIZES = {
    "3M": Size(width=160, units=8, gated_inner=472, plain_inner=688, head_dim=32),
    "11M": Size(width=320, units=12, gated_inner=904, plain_inner=1344, head_dim=64),
    "23M": Size(width=512, units=12, gated_inner=1416, plain_inner=2112, head_dim=64),
}


@dataclass(frozen=True)
class Contestant:
    """A model family with its settings.

    Args:
        title: Name in tables and figures.
        build: Makes the model from ``vocab_size``, ``size``, ``length`` and single settings over its own.
        muon: Train the matrices with Muon, the rest with AdamW.
    """

    title: str
    build: Callable[..., PreTrainedModel]
    muon: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


def flash_quad(vocab_size: int, size: Size, length: int, **settings: Any) -> PreTrainedModel:
    """Build the recommended FLASH-Quad, or a variant: by settings, or by what ``surgery.CHANGES`` names."""
    changes = {name: settings.pop(name) for name in list(settings) if name in CHANGES}
    # with the constant that all records have; presets scale it with the length since
    sizes = _sizes(vocab_size, size, length) | {"query_key_dim": 64, "attention_norm_eps": None}
    if changes.keys() - FIRST_WEIGHTS:
        # they change what only the reference shows
        settings["attention_backend"] = "reference"
    model = FLASHQuadForMaskedLM(FLASHQuadConfig.preset("tiny", **sizes | settings))
    for name, value in changes.items():
        CHANGES[name](model, value)
    return model


def flash(vocab_size: int, size: Size, length: int, **settings: Any) -> PreTrainedModel:
    """Build the recommended FLASH, with chunks of 256 or, at short lengths, a quarter of the length."""
    sizes = _sizes(vocab_size, size, length) | {"query_key_dim": 64, "chunk_size": min(256, max(length // 4, 16))}
    return FLASHForMaskedLM(FLASHConfig.preset("tiny", **sizes | settings))


def earlier(vocab_size: int, size: Size, length: int, **settings: Any) -> PreTrainedModel:
    """Build FLASH-Quad as the earlier repository did: the plain constructor."""
    sizes = _sizes(vocab_size, size, length) | {"query_key_dim": 64}
    return FLASHQuadForMaskedLM(FLASHQuadConfig(**sizes | settings))


def transformer(vocab_size: int, size: Size, length: int, **settings: Any) -> PreTrainedModel:
    """Build Transformer++."""
    return build_transformer(**_transformer_sizes(vocab_size, size, length), inner=size.gated_inner, **settings)


def bert(vocab_size: int, size: Size, length: int) -> PreTrainedModel:
    """Build BERT."""
    return build_bert(**_transformer_sizes(vocab_size, size, length), inner=size.plain_inner)


OUR_TRICKS = {"token_shift": 0.25, "fan_in": True, "scale_norm": True}

CONTESTANTS = {
    "flash-quad": Contestant("FLASH-Quad", flash_quad, muon=True),
    "flash": Contestant("FLASH", flash, muon=True),
    "earlier": Contestant("FLASH-Quad, earlier recipe", earlier),
    "transformer": Contestant("Transformer++ as published", transformer),
    "transformer-tricks": Contestant("Transformer++ with our tricks", transformer, muon=True, settings=OUR_TRICKS),
    "transformer-own-init": Contestant(
        "Transformer++ with our tricks, its own initialisation",
        transformer,
        muon=True,
        settings=OUR_TRICKS | {"fan_in": False},
    ),
    "flash-quad-adamw": Contestant("FLASH-Quad, AdamW", flash_quad),
    "transformer-muon": Contestant("Transformer++ as published, Muon", transformer, muon=True),
    "bert": Contestant("BERT", bert),
}


def _sizes(vocab_size: int, size: Size, length: int) -> dict[str, Any]:
    return {
        "vocab_size": vocab_size,
        "hidden_size": size.width,
        "num_hidden_layers": size.units,
        "max_position_embeddings": length,
    }


def _transformer_sizes(vocab_size: int, size: Size, length: int) -> dict[str, Any]:
    return {
        "vocab_size": vocab_size,
        "width": size.width,
        "layers": size.units // 2,
        "length": length,
        "head_dim": size.head_dim,
    }
