"""From a configuration of FLASH-Quad or FLASH to the parts of its model."""

from typing import Any

from torch import nn
from transformers.activations import ACT2FN

from flash.layers.norms import build_norm
from flash.layers.offset_scale import OffsetScale
from flash.layers.positions import BucketedBias, RotaryProductBias, ScaledSinusoid, ToeplitzBias
from flash.models.configuration_gated import GatedAttentionConfig
from flash.models.encoder import EncoderEmbeddings
from flash.ops.quadratic_attention import Weighting


def norm_of(config: GatedAttentionConfig) -> nn.Module:
    """Build a norm over the model width."""
    return build_norm(config.norm_type, config.hidden_size, config.layer_norm_eps)


def embeddings_of(config: GatedAttentionConfig) -> EncoderEmbeddings:
    """Build the embeddings."""
    return EncoderEmbeddings(
        config,
        norm=norm_of(config),
        dropout=config.dropout,
        position_embeddings=ScaledSinusoid(config.hidden_size) if config.scaled_sinusoid else None,
    )


def relative_bias_of(config: GatedAttentionConfig) -> nn.Module | None:
    """Build the relative bias of one layer."""
    if config.relative_bias == "toeplitz":
        return ToeplitzBias(config.score_length)
    if config.relative_bias == "rotary_product":
        return RotaryProductBias(config.query_key_dim)
    if config.relative_bias == "bucketed":
        return BucketedBias(
            config.relative_bias_buckets, max_distance=config.relative_bias_max_distance, causal=config.causal
        )
    return None


def activation_of(name: str) -> nn.Module:
    """Build an activation by the name that transformers has for it."""
    # of the same function transformers has a class of its own, which the units do not know
    return nn.SiLU() if name in ("silu", "swish") else ACT2FN[name]


def unit_arguments(config: GatedAttentionConfig, *, copies: int) -> dict[str, Any]:
    """Return the arguments of ``flash.layers.gated_unit.GatedUnit`` for one layer."""
    return {
        "dim": config.hidden_size,
        "inner_dim": config.intermediate_size,
        "query_key_dim": config.query_key_dim,
        "norm": norm_of(config),
        "copies": OffsetScale(copies, config.query_key_dim),
        "weighting": Weighting(
            function=config.attention_function,
            score_scale=config.score_scale,
            score_divisor=config.score_divisor,
            longest=config.score_length,
            dim=config.query_key_dim,
        ),
        "activation": activation_of(config.hidden_act),
        "relative_bias": relative_bias_of(config),
        "norm_position": config.norm_position,
        "attention_norm_eps": attention_norm_eps_of(config) if config.attention_norm else None,
        "shift_channels": int(config.token_shift * config.hidden_size),
        "causal": config.causal,
    }


def attention_norm_eps_of(config: GatedAttentionConfig) -> float:
    """Return what is added to the mean square of the attention output."""
    return config.layer_norm_eps if config.attention_norm_eps is None else config.attention_norm_eps


def final_norm_of(config: GatedAttentionConfig) -> nn.Module:
    """Build what follows the last layer."""
    return norm_of(config) if config.final_norm else nn.Identity()
