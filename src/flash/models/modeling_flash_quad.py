"""FLASH-Quad models: quadratic gated attention units behind the interface of transformers."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutput, MaskedLMOutput, SequenceClassifierOutput
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from flash.errors import InputError
from flash.layers.gated_attention_unit import GatedAttentionUnit
from flash.layers.norms import ScaleNorm, build_norm
from flash.layers.offset_scale import OffsetScale
from flash.layers.positions import RotaryProductBias, ScaledSinusoid, ToeplitzBias
from flash.models.configuration_flash_quad import FLASHQuadConfig
from flash.models.legacy_checkpoints import UNUSED_KEYS
from flash.models.task_heads import ClassificationHead, MaskedLMHead
from flash.ops.rotary import rotary_angles


class FLASHQuadEmbeddings(nn.Module):
    """Sum the word, token-type and scaled sinusoid embeddings; then norm and dropout."""

    def __init__(self, config: FLASHQuadConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.position_embeddings = ScaledSinusoid(config.hidden_size)
        self.norm = build_norm(config.norm_type, config.hidden_size, config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, inputs_embeds: Tensor, token_type_ids: Tensor, position_ids: Tensor) -> Tensor:
        """Return ``(batch_size, sequence_length, hidden_size)``."""
        embeddings = inputs_embeds + self.token_type_embeddings(token_type_ids)
        embeddings = embeddings + self.position_embeddings(position_ids)
        return self.dropout(self.norm(embeddings))


class FLASHQuadLayer(GradientCheckpointingLayer, GatedAttentionUnit):
    """A gated attention unit with the settings of a configuration."""

    def __init__(self, config: FLASHQuadConfig) -> None:
        positions, dim = config.max_position_embeddings, config.query_key_dim
        inverse_length = config.score_scale == "inverse_length"
        super().__init__(
            dim=config.hidden_size,
            inner_dim=config.intermediate_size,
            query_key_dim=dim,
            relative_bias=(ToeplitzBias(positions) if config.relative_bias == "toeplitz" else RotaryProductBias(dim)),
            activation=ACT2FN[config.hidden_act],
            norm_type=config.norm_type,
            eps=config.layer_norm_eps,
            score_scale=1 / positions if inverse_length else dim**-0.5,
            score_divisor=1.0 if inverse_length else float(positions),
            attention_norm=config.attention_norm,
            shift_channels=int(config.token_shift * config.hidden_size),
        )


class FLASHQuadPreTrainedModel(PreTrainedModel):
    """What all FLASH-Quad models share: initialisation, names on disk, recorded outputs."""

    config_class = FLASHQuadConfig
    base_model_prefix = "flash_quad"
    supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = ["FLASHQuadEmbeddings", "FLASHQuadLayer"]
    _can_record_outputs: ClassVar[dict[str, type]] = {"hidden_states": FLASHQuadLayer, "attentions": FLASHQuadLayer}
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = list(UNUSED_KEYS)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Set every parameter of ``module``; see ``initialization`` in the configuration and docs/maths.md."""
        normal = self.config.initialization == "normal"
        std = self.config.initializer_range
        if isinstance(module, nn.Linear):
            init.normal_(module.weight, std=std if normal else module.in_features**-0.5)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=std if normal else module.embedding_dim**-0.5)
            if module.padding_idx is not None and not getattr(module.weight, "_is_hf_initialized", False):
                init.zeros_(module.weight[module.padding_idx])
        elif isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
            init.ones_(module.weight)
            if getattr(module, "bias", None) is not None:
                init.zeros_(module.bias)
        elif isinstance(module, ScaleNorm):
            init.ones_(module.scale)
        elif isinstance(module, ScaledSinusoid):
            init.constant_(module.scale, module.dim**-0.5)
        elif isinstance(module, OffsetScale):
            if normal:
                init.normal_(module.gain, std=std)
            else:
                init.ones_(module.gain)
            init.zeros_(module.offset)
        elif isinstance(module, ToeplitzBias):
            if normal:
                init.normal_(module.weight, std=std)
            else:
                init.zeros_(module.weight)
        elif isinstance(module, RotaryProductBias):
            # both zero would be a saddle: neither would ever get a gradient
            init.normal_(module.left, std=std)
            init.normal_(module.right, std=std)
        elif isinstance(module, MaskedLMHead) and hasattr(module, "bias"):
            init.zeros_(module.bias)

    def save_pretrained(self, *args: Any, save_original_format: bool = False, **kwargs: Any) -> None:
        """Save as ``PreTrainedModel.save_pretrained`` does, under the present parameter names.

        ``save_original_format=True`` writes the names of the earlier repository instead.
        """
        super().save_pretrained(*args, save_original_format=save_original_format, **kwargs)


class FLASHQuadModel(FLASHQuadPreTrainedModel):
    """The FLASH-Quad encoder without a head."""

    def __init__(self, config: FLASHQuadConfig) -> None:
        super().__init__(config)
        self.embeddings = FLASHQuadEmbeddings(config)
        self.layers = nn.ModuleList([FLASHQuadLayer(config) for _ in range(config.num_hidden_layers)])
        self.final_norm = (
            build_norm(config.norm_type, config.hidden_size, config.layer_norm_eps)
            if config.final_norm
            else nn.Identity()
        )
        self.gradient_checkpointing = False
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the word embeddings."""
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the word embeddings."""
        self.embeddings.word_embeddings = value

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """Encode a batch.

        Args:
            input_ids: Token ids of shape ``(batch_size, sequence_length)``; or give ``inputs_embeds``.
            attention_mask: 1 (or True) where a token is real, shape ``(batch_size, sequence_length)``. Default:
                where ``input_ids`` is not ``pad_token_id``. Padding, left or right, changes no real token's output.
            token_type_ids: Segment of each token, default 0.
            position_ids: Position of each token in the sinusoid. Default: counted from the first real token. The
                attention itself sees distances only.
            inputs_embeds: Word embeddings of shape ``(batch_size, sequence_length, hidden_size)``.
            **kwargs: ``output_hidden_states``, ``output_attentions``, ``return_dict`` as everywhere in transformers.
                An attention is ``(batch_size, sequence_length, sequence_length)``: there is one head.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise InputError("give exactly one of input_ids and inputs_embeds")
        if inputs_embeds is None:
            inputs_embeds = self.embeddings.word_embeddings(input_ids)
        batch_size, length = inputs_embeds.shape[:2]
        device = inputs_embeds.device
        if attention_mask is None and input_ids is not None and self.config.pad_token_id is not None:
            attention_mask = input_ids != self.config.pad_token_id
        if attention_mask is not None and attention_mask.shape != (batch_size, length):
            raise InputError(
                f"attention_mask must have the shape (batch_size, sequence_length) = ({batch_size}, {length}), "
                f"1 for a real token, got {tuple(attention_mask.shape)}"
            )
        mask = None if attention_mask is None else attention_mask.to(device=device, dtype=torch.bool)
        if position_ids is None:
            position_ids = torch.arange(length, device=device).expand(batch_size, length)
            if mask is not None:
                first_real = mask.int().argmax(dim=1, keepdim=True)
                position_ids = (position_ids - first_real).clamp(min=0)
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(position_ids)

        hidden_states = self.embeddings(inputs_embeds, token_type_ids, position_ids)
        cos, sin = rotary_angles(length, self.config.query_key_dim, device=device, dtype=hidden_states.dtype)
        for layer in self.layers:
            hidden_states, _ = layer(hidden_states, cos, sin, mask)
        return BaseModelOutput(last_hidden_state=self.final_norm(hidden_states))


class FLASHQuadForMaskedLM(FLASHQuadPreTrainedModel):
    """FLASH-Quad with a masked-language-model head."""

    _tied_weights_keys: ClassVar[dict[str, str]] = {
        "lm_head.decoder.weight": "flash_quad.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    }

    def __init__(self, config: FLASHQuadConfig) -> None:
        super().__init__(config)
        self.flash_quad = FLASHQuadModel(config)
        self.lm_head = MaskedLMHead(
            config.hidden_size,
            config.vocab_size,
            activation=config.hidden_act,
            norm_type=config.norm_type,
            eps=config.layer_norm_eps,
            tied=config.tie_word_embeddings,
        )
        self.post_init()

    def tie_weights(self, missing_keys: set[str] | None = None, recompute_mapping: bool = True) -> None:
        """Tie the decoder to the word embeddings, as ``PreTrainedModel.tie_weights`` does.

        A checkpoint whose decoder differs from its embeddings keeps both, also when a later call, such as that of
        ``resize_token_embeddings``, would tie them.
        """
        super().tie_weights(missing_keys=missing_keys, recompute_mapping=recompute_mapping)
        if missing_keys is not None and self.config.tie_word_embeddings:
            # the instance hides the mapping of its class
            self._tied_weights_keys = dict(self.all_tied_weights_keys)  # type: ignore[misc]

    def get_output_embeddings(self) -> nn.Linear:
        """Return the decoder."""
        return self.lm_head.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replace the decoder, and the bias tied to it."""
        self.lm_head.decoder = new_embeddings
        if hasattr(self.lm_head, "bias"):
            self.lm_head.bias = new_embeddings.bias

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        scored_logits_only: bool | None = None,
        **kwargs: Any,
    ) -> MaskedLMOutput:
        """Score the vocabulary at each position; with labels, also compute the loss.

        Args:
            input_ids: As for ``FLASHQuadModel``, like the next four.
            attention_mask: 1 where a token is real.
            token_type_ids: Segment of each token.
            position_ids: Position of each token.
            inputs_embeds: Word embeddings in place of ``input_ids``.
            labels: True ids of shape ``(batch_size, sequence_length)`` where scored, -100 elsewhere. A batch in which
                nothing is scored has the loss 0.
            scored_logits_only: Return logits ``(number of labels other than -100, vocab_size)``, in the order of the
                labels, and never compute the others, 85 % of the head's work. Default: True while training with
                labels, False otherwise, when logits are ``(batch_size, sequence_length, vocab_size)``.
            **kwargs: Options of ``FLASHQuadModel``, and ``num_items_in_batch``, the number of labels that the loss is
                averaged over (exact under gradient accumulation).
        """
        if scored_logits_only is None:
            scored_logits_only = self.training and labels is not None
        if scored_logits_only and labels is None:
            raise InputError("scored_logits_only needs labels: they say which positions are scored")
        num_items_in_batch = kwargs.pop("num_items_in_batch", None)
        outputs = self.flash_quad(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        hidden_states = outputs.last_hidden_state
        if labels is not None:
            labels = labels.to(hidden_states.device)
            scored = labels != -100
            if num_items_in_batch is None:
                num_items_in_batch = scored.sum().clamp(min=1)
            if scored_logits_only:
                hidden_states, labels = hidden_states[scored], labels[scored]
        logits = self.lm_head(hidden_states)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, self.config.vocab_size, num_items_in_batch=num_items_in_batch)
        return MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class FLASHQuadForSequenceClassification(FLASHQuadPreTrainedModel):
    """FLASH-Quad with a classifier on the first real token ([CLS])."""

    def __init__(self, config: FLASHQuadConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.flash_quad = FLASHQuadModel(config)
        dropout = config.dropout if config.classifier_dropout is None else config.classifier_dropout
        self.classifier = ClassificationHead(config.hidden_size, config.num_labels, dropout=dropout)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Score the labels of each sequence; with labels, also compute the loss of ``config.problem_type``.

        Args:
            input_ids: As for ``FLASHQuadModel``, like the next four.
            attention_mask: 1 where a token is real.
            token_type_ids: Segment of each token.
            position_ids: Position of each token.
            inputs_embeds: Word embeddings in place of ``input_ids``.
            labels: Class ids ``(batch_size,)``; values ``(batch_size,)`` or ``(batch_size, num_labels)`` to regress;
                0/1 floats ``(batch_size, num_labels)`` where several labels may hold.
            **kwargs: Options of ``FLASHQuadModel``.
        """
        outputs = self.flash_quad(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        hidden_states = outputs.last_hidden_state  # (b, n, d)
        if attention_mask is None and input_ids is not None and self.config.pad_token_id is not None:
            attention_mask = input_ids != self.config.pad_token_id
        if attention_mask is None:
            pooled = hidden_states[:, 0]
        else:
            rows = torch.arange(hidden_states.shape[0], device=hidden_states.device)
            pooled = hidden_states[rows, attention_mask.int().argmax(dim=1).to(rows.device)]
        logits = self.classifier(pooled)
        loss = None
        if labels is not None:
            loss = self.loss_function(labels, logits, self.config)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )
