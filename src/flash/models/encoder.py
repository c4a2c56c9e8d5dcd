"""The encoder that all architectures share: embeddings, layers, checks, saving, initialisation."""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from flash.errors import InputError
from flash.layers.gated_unit import GatedUnit, TokenContext
from flash.models.cache import prepare_cache
from flash.models.execution import Execution, plan_execution
from flash.models.hub_code import HubCodeModelMixin
from flash.models.initialization import initialize
from flash.models.inputs import (
    check_input_ids,
    check_inputs_embeds,
    check_positions,
    check_token_types,
    count_positions,
    number_segments,
    real_tokens,
    segments_of_positions,
)
from flash.ops.rotary import rotary_angles
from flash.ops.sequences import Sequences


class GatedPreTrainedModel(HubCodeModelMixin, PreTrainedModel):
    """What the models of all architectures share: initialisation, names on disk, recorded outputs."""

    supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = ["EncoderEmbeddings", "FLASHQuadLayer", "FLASHLayer", "GAUAlphaLayer"]
    _can_record_outputs: ClassVar[dict[str, type]] = {"hidden_states": GatedUnit, "attentions": GatedUnit}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Set every parameter of ``module``; see ``initialization`` in the configuration and docs/maths.md."""
        initialize(module, self.config)

    def save_pretrained(
        self, save_directory: Any, *args: Any, save_original_format: bool = False, **kwargs: Any
    ) -> None:
        """Save as ``PreTrainedModel.save_pretrained`` does, under the present parameter names.

        ``save_original_format=True`` writes the names of the checkpoints published earlier instead.
        """
        self.name_in_configuration()
        super().save_pretrained(save_directory, *args, save_original_format=save_original_format, **kwargs)


class EncoderEmbeddings(nn.Module):
    """Sum the word, token-type and position embeddings; then norm and dropout."""

    def __init__(
        self, config: PreTrainedConfig, *, norm: nn.Module, dropout: float, position_embeddings: nn.Module | None
    ) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.position_embeddings = position_embeddings
        self.norm = norm
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs_embeds: Tensor, token_type_ids: Tensor, position_ids: Tensor) -> Tensor:
        """Return ``(batch_size, sequence_length, hidden_size)``."""
        embeddings = inputs_embeds + self.token_type_embeddings(token_type_ids)
        if self.position_embeddings is not None:
            embeddings = embeddings + self.position_embeddings(position_ids)
        return self.dropout(self.norm(embeddings))


class GatedEncoder(GatedPreTrainedModel):
    """Embeddings and layers; a subclass says what its layers are and what they know about the tokens."""

    embeddings: EncoderEmbeddings
    layers: nn.ModuleList
    final_norm: nn.Module
    # settings that not every architecture has
    causal = False
    rotates = True

    @abstractmethod
    def make_context(self, common: TokenContext, shape: tuple[int, int], cache: Cache | None) -> TokenContext:
        """Add to the context what the attention of this architecture needs.

        Args:
            common: Positions and masks of the new tokens; the mask is not None where there is a cache.
            shape: ``(batch_size, sequence_length)`` of the new tokens.
            cache: What was seen before; its layers are this model's.
        """

    def empty_cache_layers(self) -> list:
        """Make one empty cache layer for each layer of a causal model."""
        raise NotImplementedError

    def continued_positions(self, cache: Cache, mask: Tensor) -> Tensor:
        """Number new tokens, ``(batch_size, sequence_length)``, from the first real one that the cache has seen."""
        raise NotImplementedError

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the word embeddings."""
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the word embeddings."""
        self.embeddings.word_embeddings = value

    @can_return_tuple
    @merge_with_config_defaults
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        seq_idx: Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Encode a batch.

        Args:
            input_ids: Token ids of shape ``(batch_size, sequence_length)``; or give ``inputs_embeds``.
            attention_mask: 1 (or True) where a token is real, shape ``(batch_size, sequence_length)``, behind a cache
                ``(batch_size, cached + sequence_length)``. Default: where ``input_ids`` is not ``pad_token_id``;
                everywhere in a causal model. Padding, left or right, changes no real token's output; what stands at
                padding has no meaning (0 where the layers did not see it).
            token_type_ids: Segment of each token, default 0.
            position_ids: Position of each token in the sinusoid. Default: counted from the first real token. The
                attention itself sees distances only. Where positions begin anew, without ``attention_mask`` and
                outside of a graph, another sequence begins, as ``seq_idx`` would say.
            inputs_embeds: Word embeddings of shape ``(batch_size, sequence_length, hidden_size)``.
            seq_idx: Number of the sequence that a token belongs to, ``(batch_size, sequence_length)``, where rows are
                packed; a sequence is a run of equal numbers. Sequences do not see each other, and each has the outputs
                it has alone. (The name is that of ``DataCollatorWithFlattening(return_seq_idx=True)``.) In the
                reference backend of FLASH each begins a chunk, so sequences much shorter than one waste most of theirs;
                it cannot be compiled.
            past_key_values: Cache of the tokens before, of a causal model; a ``DynamicCache``.
            use_cache: Return a cache. Default: ``config.use_cache`` in a causal model in evaluation mode. Packed rows
                have none.
            **kwargs: ``output_hidden_states``, ``output_attentions``, ``return_dict`` as everywhere in transformers.
                An attention is ``(batch_size, sequence_length, sequence_length)``, there is one head; of FLASH
                ``(batch_size, chunks, chunk_size, chunk_size)``, in chunks counted from the first real token.
        """
        if torch.jit.is_tracing():
            # what is padding, and how long texts are, would be written into the graph as it is in the example
            raise InputError("torch.jit.trace would keep the padding of its example for all batches; use torch.export")
        if (input_ids is None) == (inputs_embeds is None):
            raise InputError("give exactly one of input_ids and inputs_embeds")
        if input_ids is not None:
            check_input_ids(input_ids, self.embeddings.word_embeddings.num_embeddings)
            inputs_embeds = self.embeddings.word_embeddings(input_ids)
        assert inputs_embeds is not None
        check_inputs_embeds(inputs_embeds, self.config.hidden_size)
        batch_size, length = inputs_embeds.shape[:2]
        shape = (batch_size, length)
        if position_ids is not None:
            check_positions(position_ids, shape)
            position_ids = position_ids.expand(shape)  # one row may stand for all
        if seq_idx is not None:
            if past_key_values is not None:
                raise InputError("seq_idx packs whole sequences, which past_key_values cannot continue: leave out one")
            seq_idx = number_segments(seq_idx, shape).to(inputs_embeds.device)
        elif past_key_values is None:
            seq_idx = segments_of_positions(position_ids, attention_mask)
        if seq_idx is not None:
            use_cache = False
        cache = self._cache(past_key_values, use_cache, batch_size)
        past_length = 0 if cache is None else cache.get_seq_length()
        device = inputs_embeds.device
        mask = real_tokens(
            input_ids,
            attention_mask,
            shape=shape,
            past_length=past_length,
            # a causal model may generate the padding token, and must see then what it has written
            pad_token_id=None if self.causal else self.config.pad_token_id,
        )
        if mask is not None:
            mask = mask.to(device)
        elif cache is not None:
            mask = torch.ones(shape, dtype=torch.bool, device=device)
        if position_ids is None:
            if cache is not None and mask is not None and past_length:
                position_ids = self.continued_positions(cache, mask)
            else:
                position_ids = count_positions(mask, seq_idx, shape, device)
        if token_type_ids is None:
            token_type_ids = torch.zeros(shape, dtype=torch.long, device=device)
        else:
            check_token_types(token_type_ids, shape, self.config.type_vocab_size)

        plan = Execution("reference", mask)
        if cache is None:
            plan = plan_execution(
                self.config.attention_backend,
                self.layers[0],  # type: ignore[arg-type]
                mask=mask,
                segments=seq_idx,
                shape=shape,
                device=device,
                dtype=inputs_embeds.dtype,
                weights_wanted=bool(kwargs.get("output_attentions", self.config.output_attentions)),
            )
        if plan.packing is not None:
            inputs_embeds, token_type_ids, position_ids = map(
                plan.packing.pack, (inputs_embeds, token_type_ids, position_ids)
            )
        common = self._common_context(plan, seq_idx, inputs_embeds, past_length)
        outputs = self.encode(
            self.embeddings(inputs_embeds, token_type_ids, position_ids),
            self.make_context(common, shape, cache),
            cache,
            **kwargs | {"return_dict": True},
        )
        if cache is not None:
            self.count_cached(cache, length)
        if plan.packing is not None:
            outputs.last_hidden_state = plan.packing.unpack(outputs.last_hidden_state)
            if outputs.hidden_states is not None:
                # those that were not asked for are None
                outputs.hidden_states = tuple(x if x is None else plan.packing.unpack(x) for x in outputs.hidden_states)
        return outputs

    @capture_outputs
    def encode(
        self, hidden_states: Tensor, context: TokenContext, cache: Cache | None, **kwargs: Any
    ) -> BaseModelOutputWithPast:
        """Run the layers on embeddings ``(batch_size, sequence_length, hidden_size)``, or ``(1, tokens, hidden_size)``.

        Args:
            context: What the layers know about the tokens.
            cache: What was seen before.
            **kwargs: ``output_hidden_states`` and ``output_attentions``.
        """
        states = [None] * len(self.layers) if cache is None else [self.layer_state(layer) for layer in cache.layers]
        for layer, state in zip(self.layers, states, strict=True):
            hidden_states, _ = layer(hidden_states, context, state)
        return BaseModelOutputWithPast(last_hidden_state=self.final_norm(hidden_states), past_key_values=cache)

    def _common_context(
        self, plan: Execution, segments: Tensor | None, inputs_embeds: Tensor, past_length: int
    ) -> TokenContext:
        """Describe the tokens as the layers are to see them."""
        batch_size, length = inputs_embeds.shape[:2]
        device, sequences = inputs_embeds.device, None
        if plan.packing is not None:
            sequences = plan.packing.sequences
            segments = sequences.numbers()[None]
            length = sequences.longest
        elif plan.backend != "reference":
            sequences = Sequences.rows(batch_size, length, device)
        rotary = None
        if self.rotates:
            rotary = rotary_angles(
                length, self.config.query_key_dim, start=past_length, device=device, dtype=inputs_embeds.dtype
            )
            if plan.packing is not None:
                positions = plan.packing.sequences.positions()
                rotary = (rotary[0][positions], rotary[1][positions])
        return TokenContext(rotary, plan.mask, segments, sequences, plan.backend, device)

    @staticmethod
    def layer_state(cache_layer: Any) -> Any:
        """Return the state that a layer of the model reads and writes."""
        return cache_layer

    def count_cached(self, cache: Cache, length: int) -> None:
        """Tell the cache that ``length`` tokens were added, where it cannot see that itself."""

    def _cache(self, cache: Cache | None, use_cache: bool | None, batch_size: int) -> Cache | None:
        if not self.causal:
            if cache is not None:
                raise InputError("past_key_values needs a causal model (causal=True): this one sees both sides")
            return None
        if self.gradient_checkpointing and self.training:
            if cache is not None:
                raise InputError(
                    "past_key_values cannot be used while gradient checkpointing recomputes layers: call model.eval() "
                    "first, or generate with use_cache=False"
                )
            return None
        if cache is None and (self.training or not use_cache):
            return None
        return prepare_cache(cache, self.empty_cache_layers(), batch_size)
