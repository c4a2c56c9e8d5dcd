"""FLASH models: mixed chunk attention behind the interface of transformers."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import GenerationMixin
from transformers.cache_utils import Cache
from transformers.modeling_layers import GradientCheckpointingLayer

from flash.errors import InputError
from flash.layers.gated_unit import TokenContext
from flash.layers.mixed_chunk_state import MixedChunkState
from flash.layers.mixed_chunk_unit import ChunkContext, MixedChunkUnit
from flash.models.cache import MixedChunkCacheLayer
from flash.models.configuration_flash import FLASHConfig
from flash.models.encoder import GatedEncoder, GatedPreTrainedModel
from flash.models.gated_models import embeddings_of, final_norm_of, unit_arguments
from flash.models.inputs import count_positions
from flash.models.language_model_heads import CausalLMMixin, MaskedLMMixin, PlainLMHead, causal, masked_lm_head
from flash.models.task_heads import (
    MultipleChoiceMixin,
    QuestionAnsweringMixin,
    SequenceClassificationMixin,
    TokenClassificationMixin,
    classification_head,
)
from flash.ops.chunk_layout import leading_padding, left_aligned_layout, packed_layout


class FLASHLayer(GradientCheckpointingLayer, MixedChunkUnit):
    """A mixed chunk unit with the settings of a configuration."""

    def __init__(self, config: FLASHConfig) -> None:
        constant = config.linear_divisor == "constant"
        super().__init__(
            chunk_size=config.chunk_size,
            linear_divisor=float(config.max_position_embeddings) if constant else None,
            **unit_arguments(config, copies=4),
        )


class FLASHPreTrainedModel(GatedPreTrainedModel):
    """What all FLASH models share."""

    config_class = FLASHConfig
    base_model_prefix = "flash"


class FLASHModel(FLASHPreTrainedModel, GatedEncoder):
    """FLASH without a head."""

    def __init__(self, config: FLASHConfig) -> None:
        super().__init__(config)
        self.causal, self.rotates = config.causal, config.rotary
        self.embeddings = embeddings_of(config)
        self.layers = nn.ModuleList([FLASHLayer(config) for _ in range(config.num_hidden_layers)])
        self.final_norm = final_norm_of(config)
        self.gradient_checkpointing = False
        self.post_init()

    def make_context(self, common: TokenContext, shape: tuple[int, int], cache: Cache | None) -> ChunkContext:
        """Lay the tokens out in chunks that begin with the first real token of a sequence."""
        if common.backend != "reference":
            assert common.sequences is not None
            return ChunkContext(**vars(common), chunks=common.sequences.cut(self.config.chunk_size))
        layout, plan = None, None
        if cache is not None:
            plan = cache.layers[0].state.continuation(common.mask)
        elif common.segments is not None:
            if torch.compiler.is_compiling():
                raise InputError(
                    "seq_idx of a FLASH model cannot be traced: the number of chunks depends on its values"
                )
            layout = packed_layout(common.segments, common.mask, self.config.chunk_size)
        elif common.mask is not None and self._may_begin_with_padding(common.mask):
            layout = left_aligned_layout(common.mask)
        return ChunkContext(common.rotary, common.mask, common.segments, layout=layout, plan=plan)

    @staticmethod
    def _may_begin_with_padding(mask: Tensor) -> bool:
        # a graph must serve every mask; otherwise one look spares two copies of all queries, keys and values a layer
        return torch.compiler.is_compiling() or bool(leading_padding(mask).any())

    def empty_cache_layers(self) -> list[MixedChunkCacheLayer]:
        """Make one empty cache layer for each layer."""
        config = self.config
        sizes = (config.query_key_dim, config.intermediate_size, config.chunk_size)
        return [MixedChunkCacheLayer(*sizes) for _ in self.layers]

    def continued_positions(self, cache: Cache, mask: Tensor) -> Tensor:
        """Number new tokens from the first real one that the cache has seen."""
        begun = cache.layers[0].state.position[:, None]  # (b, 1)
        from_first = count_positions(mask, None, tuple(mask.shape), mask.device)
        return torch.where(begun > 0, begun + torch.arange(mask.shape[1], device=mask.device), from_first)

    @staticmethod
    def layer_state(cache_layer: Any) -> MixedChunkState:
        """Return the recurrent state that a layer of the model reads and writes."""
        return cache_layer.state

    def count_cached(self, cache: Cache, length: int) -> None:
        """Tell the cache that ``length`` tokens were added: a state knows neither padding nor position."""
        for layer in cache.layers:
            layer.length += length


class FLASHForMaskedLM(MaskedLMMixin, FLASHPreTrainedModel):
    """FLASH with a masked-language-model head."""

    _tied_weights_keys: ClassVar[dict[str, str]] = {
        "lm_head.decoder.weight": "flash.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    }

    def __init__(self, config: FLASHConfig) -> None:
        super().__init__(config)
        self.flash = FLASHModel(config)
        self.lm_head = masked_lm_head(config)
        self.post_init()


class FLASHForCausalLM(CausalLMMixin, FLASHPreTrainedModel, GenerationMixin):
    """Causal FLASH that predicts the next token; its recurrent state does not grow with the context."""

    _tied_weights_keys: ClassVar[dict[str, str]] = {"lm_head.decoder.weight": "flash.embeddings.word_embeddings.weight"}

    def __init__(self, config: FLASHConfig) -> None:
        config = causal(config)
        super().__init__(config)
        self.flash = FLASHModel(config)
        self.lm_head = PlainLMHead(config.hidden_size, config.vocab_size)
        self.post_init()


class FLASHForSequenceClassification(SequenceClassificationMixin, FLASHPreTrainedModel):
    """FLASH with a classifier of whole texts."""

    def __init__(self, config: FLASHConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.flash = FLASHModel(config)
        self.classifier = classification_head(config)
        self.post_init()


class FLASHForTokenClassification(TokenClassificationMixin, FLASHPreTrainedModel):
    """FLASH with a classifier of tokens."""

    def __init__(self, config: FLASHConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.flash = FLASHModel(config)
        self.classifier = classification_head(config)
        self.post_init()


class FLASHForQuestionAnswering(QuestionAnsweringMixin, FLASHPreTrainedModel):
    """FLASH with scores of the first and the last token of an answer."""

    def __init__(self, config: FLASHConfig) -> None:
        super().__init__(config)
        self.flash = FLASHModel(config)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()


class FLASHForMultipleChoice(MultipleChoiceMixin, FLASHPreTrainedModel):
    """FLASH with a score for each of several texts."""

    def __init__(self, config: FLASHConfig) -> None:
        super().__init__(config)
        self.flash = FLASHModel(config)
        self.classifier = classification_head(config, num_labels=1)
        self.post_init()
