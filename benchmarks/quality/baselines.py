"""Transformers to compare with: BERT and ModernBERT of transformers, scoring masked positions only, with our tricks."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, ModernBertConfig, ModernBertForMaskedLM, PreTrainedModel
from transformers.modeling_outputs import MaskedLMOutput

from flash.layers.norms import ScaleNorm
from flash.models.losses import class_loss
from flash.ops.token_shift import shift_tokens

NOT_SCORED = -100


class _ScoredPositions:
    """Computes logits at the scored positions only, as our models do, so that times can be compared."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        num_items_in_batch: Tensor | int | None = None,
        **_: Any,
    ) -> MaskedLMOutput:
        """Return the loss and the logits ``(scored, vocab_size)``."""
        self.mask = attention_mask.bool()
        hidden_states = self.base_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        scored = labels != NOT_SCORED
        logits = self.score(hidden_states[scored])
        return MaskedLMOutput(loss=class_loss(logits, labels[scored], num_items_in_batch), logits=logits)


class Bert(_ScoredPositions, BertForMaskedLM):
    """BERT of transformers: learned positions, post-norm, GELU."""

    def score(self, hidden_states: Tensor) -> Tensor:
        """Apply the head."""
        return self.cls(hidden_states)


class TransformerPlusPlus(_ScoredPositions, ModernBertForMaskedLM):
    """ModernBERT of transformers: rotary, pre-norm, gated MLP, no biases; here with global attention everywhere."""

    def score(self, hidden_states: Tensor) -> Tensor:
        """Apply the head."""
        return self.decoder(self.head(hidden_states))


def build_bert(*, vocab_size: int, width: int, layers: int, length: int, inner: int, head_dim: int) -> PreTrainedModel:
    """Build a BERT."""
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=vocab_size,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=width // head_dim,
            intermediate_size=inner,
            max_position_embeddings=length,
            hidden_dropout_prob=0.0,  # none of the contestants has any: none sees a text twice
            attention_probs_dropout_prob=0.0,
        )
    )
    model.__class__ = Bert
    return model


def build_transformer(
    *,
    vocab_size: int,
    width: int,
    layers: int,
    length: int,
    inner: int,
    head_dim: int,
    token_shift: float = 0.0,
    fan_in: bool = False,
    attention_norm: bool = False,
    scale_norm: bool = False,
) -> PreTrainedModel:
    """Build a ModernBERT with global attention in every layer, as published or with our tricks.

    Args:
        inner: Width of the gated MLP.
        token_shift: Share of the channels that attention and MLP each read from either neighbour.
        fan_in: Draw matrices from N(0, 1 / fan-in) in place of a truncated N(0, 0.02) and its scaled outputs.
        scale_norm: Put ScaleNorm, with one gain, in the place of every LayerNorm.
        attention_norm: Normalise what the heads return, over the whole width, before the output projection.
    """
    rope = {"rope_type": "default", "rope_theta": 10000.0}
    model = ModernBertForMaskedLM(
        ModernBertConfig(
            vocab_size=vocab_size,
            hidden_size=width,
            intermediate_size=inner,
            num_hidden_layers=layers,
            num_attention_heads=width // head_dim,
            max_position_embeddings=length,
            layer_types=["full_attention"] * layers,
            rope_parameters={"full_attention": rope, "sliding_attention": rope},
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=None,
            cls_token_id=None,
            sep_token_id=None,
        )
    )
    # only now: of a class outside of transformers, transformers would draw the head's matrix by another rule
    model.__class__ = TransformerPlusPlus
    if fan_in:
        _draw_by_fan_in(model)
    if scale_norm:
        _replace_layer_norms(model)
    for layer in model.model.layers:
        if attention_norm:
            layer.attn.Wo = nn.Sequential(nn.RMSNorm(width, eps=1e-5), layer.attn.Wo)
        if token_shift:
            _read_neighbours(layer.attn_norm, model, int(token_shift * width))
            _read_neighbours(layer.mlp_norm, model, int(token_shift * width))
    return model


@torch.no_grad()
def _draw_by_fan_in(model: PreTrainedModel) -> None:
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    embeddings = model.get_input_embeddings().weight  # the decoder's too: tied
    nn.init.normal_(embeddings, std=embeddings.shape[1] ** -0.5)


def _replace_layer_norms(model: PreTrainedModel) -> None:
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.LayerNorm):
                setattr(module, name, ScaleNorm(child.eps))


def _read_neighbours(norm: nn.Module, model: PreTrainedModel, channels: int) -> None:
    norm.register_forward_hook(lambda module, inputs, normed: shift_tokens(normed, channels, model.mask))
