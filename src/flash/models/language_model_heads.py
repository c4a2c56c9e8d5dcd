"""Heads that score the vocabulary, one implementation for all architectures."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast, MaskedLMOutput
from transformers.utils.generic import can_return_tuple

from flash.errors import InputError
from flash.layers.norms import build_norm
from flash.models.inputs import count_positions
from flash.models.losses import class_ids, class_loss, pick_scored


class MaskedLMHead(nn.Module):
    """Score the vocabulary: dense, activation, norm, decoder.

    The decoder's weight is tied to the word embeddings and its bias to ``bias``, as in the published checkpoints; with
    ``tie_word_embeddings=False`` the decoder owns both and ``bias`` does not exist, so that every parameter trains.
    """

    def __init__(
        self,
        hidden_size: int,
        vocab_size: int,
        *,
        activation: str,
        norm_type: str,
        eps: float,
        tied: bool,
    ) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.activation = ACT2FN[activation]
        self.norm = build_norm(norm_type, hidden_size, eps)
        self.decoder = nn.Linear(hidden_size, vocab_size)
        if tied:
            self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Map ``(..., hidden_size)`` to logits ``(..., vocab_size)``."""
        return self.decoder(self.norm(self.activation(self.dense(hidden_states))))


class PlainLMHead(nn.Module):
    """Score the vocabulary by inner products alone; the decoder is tied to the word embeddings."""

    def __init__(self, hidden_size: int, vocab_size: int) -> None:
        super().__init__()
        self.decoder = nn.Linear(hidden_size, vocab_size, bias=False)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Map ``(..., hidden_size)`` to logits ``(..., vocab_size)``."""
        return self.decoder(hidden_states)


class LanguageModelMixin:
    """The decoder of either language model, tied to the word embeddings unless a checkpoint has another."""

    config: Any
    lm_head: Any
    base_model: Any
    training: bool

    def tie_weights(self, missing_keys: set[str] | None = None, recompute_mapping: bool = True) -> None:
        """Tie the decoder to the word embeddings, as ``PreTrainedModel.tie_weights`` does.

        A checkpoint whose decoder differs from its embeddings keeps both, also when a later call, such as that of
        ``resize_token_embeddings``, would tie them.
        """
        super().tie_weights(missing_keys=missing_keys, recompute_mapping=recompute_mapping)  # type: ignore[misc]
        if missing_keys is not None and self.config.tie_word_embeddings:
            # the instance hides the mapping of its class
            vars(self)["_tied_weights_keys"] = dict(self.all_tied_weights_keys)  # type: ignore[attr-defined]

    def get_output_embeddings(self) -> nn.Linear:
        """Return the decoder."""
        return self.lm_head.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replace the decoder, and the bias tied to it."""
        self.lm_head.decoder = new_embeddings
        if hasattr(self.lm_head, "bias"):
            self.lm_head.bias = new_embeddings.bias

    def token_labels(self, labels: Tensor, hidden_states: Tensor) -> Tensor:
        """Check the labels of hidden states ``(batch_size, sequence_length, hidden_size)``; bring them beside these."""
        vocab_size = self.lm_head.decoder.out_features
        labels = class_ids(labels, hidden_states.shape[:2], vocab_size, what="tokens of the vocabulary")
        return labels.to(hidden_states.device)


class MaskedLMMixin(LanguageModelMixin):
    """Forward pass of a masked language model."""

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        scored_logits_only: bool | int | None = None,
        **kwargs: Any,
    ) -> MaskedLMOutput:
        """Score the vocabulary at each position; with labels, also compute the loss.

        Args:
            input_ids: As for the model without a head, like the next four.
            attention_mask: 1 where a token is real.
            token_type_ids: Segment of each token.
            position_ids: Position of each token.
            inputs_embeds: Word embeddings in place of ``input_ids``.
            labels: True ids of shape ``(batch_size, sequence_length)`` where scored, -100 elsewhere. A batch in which
                nothing is scored has the loss 0.
            scored_logits_only: Return logits ``(number of labels other than -100, vocab_size)``, in the order of the
                labels, and never compute the others, 85 % of the head's work. A number: so many logits, those of the
                labels first, which keeps shapes fixed for ``torch.compile``; an error where more are scored. Default:
                True while training with labels outside ``torch.compile``; False otherwise, when logits are
                ``(batch_size, sequence_length, vocab_size)``.
            **kwargs: Options of the model without a head, and ``num_items_in_batch``, the number of labels that the
                loss is averaged over (exact under gradient accumulation).
        """
        if scored_logits_only is None:
            scored_logits_only = self.training and labels is not None and not torch.compiler.is_compiling()
        if scored_logits_only is not False and labels is None:
            raise InputError("scored_logits_only needs labels: they say which positions are scored")
        num_items_in_batch = kwargs.pop("num_items_in_batch", None)
        outputs = self.base_model(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            **kwargs | {"return_dict": True},
        )
        hidden_states = outputs.last_hidden_state
        if labels is not None:
            labels = self.token_labels(labels, hidden_states)
            if scored_logits_only is not False:
                # True is an int as well
                picked = pick_scored(labels, None if scored_logits_only is True else scored_logits_only)
                hidden_states, labels = hidden_states.flatten(0, 1)[picked], labels.flatten()[picked]
        logits = self.lm_head(hidden_states)
        loss = None
        if labels is not None:
            loss = class_loss(logits, labels, num_items_in_batch)
        return MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class CausalLMMixin(LanguageModelMixin):
    """Forward pass of a causal language model, which ``generate`` drives."""

    @property
    def loss_type(self) -> str:
        """Say that labels are shifted, which ``Trainer`` asks to count those that are scored."""
        return "ForCausalLM"

    @loss_type.setter
    def loss_type(self, value: str | None) -> None:
        # transformers derives one from the name of the class, which in a subclass may be any
        pass

    def _prepare_position_ids_for_generation(self, inputs_tensor: Tensor, model_kwargs: dict[str, Any]) -> Tensor:
        # transformers counts real tokens; here padding inside a text keeps its place, as in every forward pass
        mask = model_kwargs.get("attention_mask")
        if mask is None:
            return super()._prepare_position_ids_for_generation(inputs_tensor, model_kwargs)  # type: ignore[misc]
        return count_positions(mask.bool(), None, tuple(mask.shape), mask.device)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        past_key_values: Cache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Score the token after each position; with labels, also compute the loss.

        Args:
            input_ids: As for the model without a head, like the next four.
            attention_mask: 1 where a token is real.
            token_type_ids: Segment of each token.
            position_ids: Position of each token.
            inputs_embeds: Word embeddings in place of ``input_ids``.
            past_key_values: Cache that an earlier call returned; ``input_ids`` then are the tokens behind it.
            labels: Usually ``input_ids``, -100 where not scored; position ``t`` is scored on label ``t + 1``. In packed
                rows (``seq_idx``) the first token of each sequence should be -100: what stands before it is another.
            use_cache: Return the cache in ``past_key_values``. Default: ``config.use_cache`` in evaluation mode without
                labels.
            logits_to_keep: Compute the logits of this many last positions only, or of the positions in this tensor;
                0 for all.
            **kwargs: Options of the model without a head, and ``num_items_in_batch``.
        """
        num_items_in_batch = kwargs.pop("num_items_in_batch", None)
        if labels is not None:
            if not isinstance(logits_to_keep, int) or logits_to_keep:
                raise InputError("logits_to_keep leaves out logits that labels need: give one of them")
            # what is scored is not continued, unless asked for
            use_cache = past_key_values is not None if use_cache is None else use_cache
        outputs = self.base_model(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            past_key_values=past_key_values,
            use_cache=use_cache,
            **kwargs | {"return_dict": True},
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, kept])
        loss = None
        if labels is not None:
            labels = self.token_labels(labels, outputs.last_hidden_state)
            loss = class_loss(logits[:, :-1], labels[:, 1:], num_items_in_batch)  # nothing predicts the first token
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def masked_lm_head(config: PreTrainedConfig) -> MaskedLMHead:
    """Build the head of ``FLASHQuadForMaskedLM`` and ``FLASHForMaskedLM``."""
    if config.causal:
        raise InputError(
            "a masked language model sees both sides of a mask: it needs causal=False; "
            "for causal=True there is the class ...ForCausalLM"
        )
    return MaskedLMHead(
        config.hidden_size,
        config.vocab_size,
        activation=config.hidden_act,
        norm_type=config.norm_type,
        eps=config.layer_norm_eps,
        tied=config.tie_word_embeddings,
    )


def causal(config: PreTrainedConfig) -> PreTrainedConfig:
    """Return a configuration with ``causal=True``; the given one stays as it is."""
    if config.causal:
        return config
    config = copy.deepcopy(config)
    config.causal = True
    config.check_settings()
    return config
