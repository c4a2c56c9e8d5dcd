"""Models with weights large enough that every term counts, and what the transcription computes for them.

A model at the earlier initialisation (all ~ 0.02) barely changes its input, so a padded token that leaks or a
wrong sign could pass a tolerance. These take the weights of ``transcription.random_checkpoint``, under a second,
independent statement of how the earlier parameter names correspond to ours.
"""

import re
from typing import Any

import torch
from torch import Tensor

from flash import FLASHQuadConfig, FLASHQuadForMaskedLM

from helpers import normal, tiny_config
from transcription import (
    apply_norm,
    embed,
    gated_attention_unit,
    layer_parameters,
    masked_lm_head,
    masked_lm_logits,
    random_checkpoint,
    relative_bias,
)

OUR_NAMES = {
    "weight": "offset_scale.gain",
    "bias": "offset_scale.offset",
    "w": "relative_bias.weight",
    "a": "relative_bias.left",
    "b": "relative_bias.right",
    "uv.weight": "in_proj.weight",
    "uv.bias": "in_proj.bias",
    "o.weight": "out_proj.weight",
    "o.bias": "out_proj.bias",
    "attention_output_norm.scale": "attention_norm.weight",
    "scaledsin_scalar": "position_embeddings.scale",
    "predictions.transform.dense.weight": "dense.weight",
    "predictions.transform.dense.bias": "dense.bias",
    "predictions.decoder.weight": "decoder.weight",
    "predictions.decoder.bias": "decoder.bias",
    "predictions.bias": "bias",
}


def our_name(earlier_name: str) -> str:
    """Translate the name of a parameter of the earlier ``FLASHQuadForMaskedLM``."""
    owner, inner = re.fullmatch(
        r"(flash_quad\.embeddings|flash_quad\.encoder\.layer\.\d+|flash_quad|cls)\.(.+)", earlier_name
    ).groups()
    owner = owner.replace("encoder.layer", "layers").replace("cls", "lm_head")
    if inner in OUR_NAMES:
        return f"{owner}.{OUR_NAMES[inner]}"
    inner = inner.removeprefix("predictions.transform.")
    return f"{owner}.{inner}".replace("LayerNorm.scala", "norm.scale").replace("LayerNorm", "norm")


def checkpoint_for(config: FLASHQuadConfig, *, seed: int = 0) -> dict[str, Tensor]:
    """A random state dict under the earlier names; what the earlier code lacked has names in the same style."""
    checkpoint = random_checkpoint(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        max_position_embeddings=config.max_position_embeddings,
        type_vocab_size=config.type_vocab_size,
        expansion_factor=config.expansion_factor,
        s=config.query_key_dim,
        norm_type=config.norm_type,
        seed=seed,
    )
    if config.score_scale == "inverse_sqrt_dim":
        # keep the scores of the size of the bias: the checkpoint counts on a division by L
        for layer in range(config.num_hidden_layers):
            for name in ("weight", "bias"):
                gamma_or_beta = checkpoint[f"flash_quad.encoder.layer.{layer}.{name}"]
                gamma_or_beta *= (config.query_key_dim**0.5 / config.max_position_embeddings) ** 0.5
    if config.attention_norm:
        for layer in range(config.num_hidden_layers):
            gain = 1 + 0.3 * normal(config.intermediate_size, seed=layer)
            checkpoint[f"flash_quad.encoder.layer.{layer}.attention_output_norm.scale"] = gain.float()
    if config.final_norm and config.norm_type == "scale_norm":
        checkpoint["flash_quad.final_LayerNorm.scala"] = torch.tensor([1.3])
    elif config.final_norm:
        weight, bias = 1 + 0.3 * normal(2, config.hidden_size)
        checkpoint |= {"flash_quad.final_LayerNorm.weight": weight.float()}
        checkpoint |= {"flash_quad.final_LayerNorm.bias": bias.float()}
    return checkpoint


def used_by(config: FLASHQuadConfig, checkpoint: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the tables of constants and the bias that ``config`` does not read."""
    idle = {"position_ids", "scaledsin_embeddings"}
    idle |= {"a", "b"} if config.relative_bias == "toeplitz" else {"w"}
    return {name: value for name, value in checkpoint.items() if name.rpartition(".")[2] not in idle}


def random_model(*, seed: int = 0, **changes: Any) -> tuple[FLASHQuadForMaskedLM, dict[str, Tensor]]:
    """A tiny model in evaluation mode and the checkpoint that its weights come from."""
    config = tiny_config(**changes)
    checkpoint = checkpoint_for(config, seed=seed)
    model = FLASHQuadForMaskedLM(config)
    model.load_state_dict({our_name(name): value for name, value in used_by(config, checkpoint).items()})
    return model.eval(), checkpoint


def transcribe(
    checkpoint: dict[str, Tensor],
    config: FLASHQuadConfig,
    input_ids: Tensor,
    *,
    attention_mask: Tensor | None = None,
    token_type_ids: Tensor | None = None,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Logits, hidden states and attentions as the transcription computes them, for any ``config``."""
    options = {"norm_type": config.norm_type, "eps": config.layer_norm_eps}
    longest, dim = config.max_position_embeddings, config.query_key_dim
    if config.score_scale == "inverse_length":  # a published model
        return masked_lm_logits(
            checkpoint,
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            max_position_embeddings=longest,
            s=dim,
            hidden_act=config.hidden_act,
            **options,
        )
    mask = input_ids != config.pad_token_id if attention_mask is None else attention_mask
    token_types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
    hidden_states = [embed(checkpoint, input_ids, token_types, **options)]
    attentions = []
    for layer in range(config.num_hidden_layers):
        parameters = layer_parameters(checkpoint, layer)
        bias = relative_bias(parameters, input_ids.shape[1], longest)
        # the transcription knows no divisor: relu(x)^2 / L = relu(x / sqrt(L))^2
        output, weights = gated_attention_unit(
            hidden_states[-1],
            parameters,
            mask=mask,
            bias=bias / longest**0.5,
            score_scale=(dim * longest) ** -0.5,
            hidden_act=config.hidden_act,
            attention_output_norm=config.attention_norm,
            token_shift_channels=int(config.token_shift * config.hidden_size),
            **options,
        )
        hidden_states.append(output)
        attentions.append(weights)
    if config.final_norm:
        hidden_states[-1] = apply_norm(hidden_states[-1], checkpoint, "flash_quad.final_LayerNorm", **options)
    logits = masked_lm_head(checkpoint, hidden_states[-1], hidden_act=config.hidden_act, **options)
    return logits, hidden_states, attentions
