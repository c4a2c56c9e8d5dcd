"""FLASH-Quad models: quadratic gated attention units behind the interface of transformers."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers import GenerationMixin
from transformers.cache_utils import Cache
from transformers.modeling_layers import GradientCheckpointingLayer

from flash.layers.gated_attention_unit import GatedAttentionUnit, QuadraticContext
from flash.layers.gated_unit import TokenContext
from flash.models.cache import KeyValueCacheLayer
from flash.models.configuration_flash_quad import FLASHQuadConfig
from flash.models.encoder import GatedEncoder, GatedPreTrainedModel
from flash.models.gated_models import embeddings_of, final_norm_of, unit_arguments
from flash.models.inputs import count_positions
from flash.models.language_model_heads import CausalLMMixin, MaskedLMMixin, PlainLMHead, causal, masked_lm_head
from flash.models.legacy_checkpoints import UNUSED_KEYS
from flash.models.task_heads import (
    MultipleChoiceMixin,
    QuestionAnsweringMixin,
    SequenceClassificationMixin,
    TokenClassificationMixin,
    classification_head,
)
from flash.ops.visibility import visible_pairs


class FLASHQuadLayer(GradientCheckpointingLayer, GatedAttentionUnit):
    """A gated attention unit with the settings of a configuration."""

    def __init__(self, config: FLASHQuadConfig) -> None:
        super().__init__(**unit_arguments(config, copies=2))


class FLASHQuadPreTrainedModel(GatedPreTrainedModel):
    """What all FLASH-Quad models share."""

    config_class = FLASHQuadConfig
    base_model_prefix = "flash_quad"
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = list(UNUSED_KEYS)


class FLASHQuadModel(FLASHQuadPreTrainedModel, GatedEncoder):
    """FLASH-Quad without a head."""

    def __init__(self, config: FLASHQuadConfig) -> None:
        super().__init__(config)
        self.causal, self.rotates = config.causal, config.rotary
        self.embeddings = embeddings_of(config)
        self.layers = nn.ModuleList([FLASHQuadLayer(config) for _ in range(config.num_hidden_layers)])
        self.final_norm = final_norm_of(config)
        self.gradient_checkpointing = False
        self.post_init()

    def make_context(self, common: TokenContext, shape: tuple[int, int], cache: Cache | None) -> QuadraticContext:
        """Mark which pairs of tokens count."""
        if common.backend != "reference":
            return QuadraticContext(**vars(common))
        mask = key_mask = common.mask
        length, past_length = shape[1], 0
        if cache is not None:
            past_length = cache.get_seq_length()
            for layer in cache.layers:
                key_mask = layer.append_mask(mask)
        pairs = visible_pairs(
            length,
            past_length + length,
            device=common.device,
            query_mask=mask,
            key_mask=key_mask,
            segments=common.segments,
            causal=self.causal,
        )
        return QuadraticContext(common.rotary, mask, common.segments, pairs=pairs)

    def empty_cache_layers(self) -> list[KeyValueCacheLayer]:
        """Make one empty cache layer for each layer."""
        config = self.config
        return [KeyValueCacheLayer(config.query_key_dim, config.intermediate_size) for _ in self.layers]

    def continued_positions(self, cache: Cache, mask: Tensor) -> Tensor:
        """Number new tokens from the first real one that the cache has seen."""
        whole = torch.cat((cache.layers[0].mask, mask), dim=1)
        return count_positions(whole, None, tuple(whole.shape), mask.device)[:, -mask.shape[1] :]


class FLASHQuadForMaskedLM(MaskedLMMixin, FLASHQuadPreTrainedModel):
    """FLASH-Quad with a masked-language-model head."""

    _tied_weights_keys: ClassVar[dict[str, str]] = {
        "lm_head.decoder.weight": "flash_quad.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    }

    def __init__(self, config: FLASHQuadConfig) -> None:
        super().__init__(config)
        self.flash_quad = FLASHQuadModel(config)
        self.lm_head = masked_lm_head(config)
        self.post_init()


class FLASHQuadForCausalLM(CausalLMMixin, FLASHQuadPreTrainedModel, GenerationMixin):
    """Causal FLASH-Quad that predicts the next token; its cache of keys and values grows with the context."""

    _tied_weights_keys: ClassVar[dict[str, str]] = {
        "lm_head.decoder.weight": "flash_quad.embeddings.word_embeddings.weight"
    }

    def __init__(self, config: FLASHQuadConfig) -> None:
        config = causal(config)
        super().__init__(config)
        self.flash_quad = FLASHQuadModel(config)
        self.lm_head = PlainLMHead(config.hidden_size, config.vocab_size)
        self.post_init()


class FLASHQuadForSequenceClassification(SequenceClassificationMixin, FLASHQuadPreTrainedModel):
    """FLASH-Quad with a classifier of whole texts."""

    def __init__(self, config: FLASHQuadConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.flash_quad = FLASHQuadModel(config)
        self.classifier = classification_head(config)
        self.post_init()


class FLASHQuadForTokenClassification(TokenClassificationMixin, FLASHQuadPreTrainedModel):
    """FLASH-Quad with a classifier of tokens."""

    def __init__(self, config: FLASHQuadConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.flash_quad = FLASHQuadModel(config)
        self.classifier = classification_head(config)
        self.post_init()


class FLASHQuadForQuestionAnswering(QuestionAnsweringMixin, FLASHQuadPreTrainedModel):
    """FLASH-Quad with scores of the first and the last token of an answer."""

    def __init__(self, config: FLASHQuadConfig) -> None:
        super().__init__(config)
        self.flash_quad = FLASHQuadModel(config)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()


class FLASHQuadForMultipleChoice(MultipleChoiceMixin, FLASHQuadPreTrainedModel):
    """FLASH-Quad with a score for each of several texts."""

    def __init__(self, config: FLASHQuadConfig) -> None:
        super().__init__(config)
        self.flash_quad = FLASHQuadModel(config)
        self.classifier = classification_head(config, num_labels=1)
        self.post_init()
