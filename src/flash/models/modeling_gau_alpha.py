"""GAU-alpha models (https://kexue.fm/archives/9052) behind the interface of transformers."""

from typing import ClassVar

from torch import nn
from transformers.cache_utils import Cache
from transformers.modeling_layers import GradientCheckpointingLayer

from flash.layers.gated_attention_unit import GatedAttentionUnit, QuadraticContext
from flash.layers.gated_unit import TokenContext
from flash.layers.norms import RMSNorm
from flash.layers.offset_scale import QueryKeyScale
from flash.models.configuration_gau_alpha import GAUAlphaConfig
from flash.models.encoder import EncoderEmbeddings, GatedEncoder, GatedPreTrainedModel
from flash.models.gated_models import activation_of
from flash.models.language_model_heads import MaskedLMMixin, PlainLMHead
from flash.models.task_heads import (
    MultipleChoiceMixin,
    QuestionAnsweringMixin,
    SequenceClassificationMixin,
    TokenClassificationMixin,
    classification_head,
)
from flash.ops.quadratic_attention import Weighting
from flash.ops.visibility import visible_pairs

# normalization of the configuration -> attention function and divisor
WEIGHTINGS = {
    "softmax_plus": ("entropy_softmax", "constant"),
    "softmax": ("softmax", "constant"),
    "squared_relu": ("squared_relu", "true_length"),
}


def _norm(config: GAUAlphaConfig) -> RMSNorm:
    return RMSNorm(config.hidden_size, eps=config.layer_norm_eps, elementwise_affine=False)


class GAUAlphaLayer(GradientCheckpointingLayer, GatedAttentionUnit):
    """A gated attention unit as GAU-alpha has it: softmax, no biases, norm behind the residual."""

    def __init__(self, config: GAUAlphaConfig) -> None:
        function, divisor = WEIGHTINGS[config.normalization]
        super().__init__(
            dim=config.hidden_size,
            inner_dim=config.intermediate_size,
            query_key_dim=config.attention_key_size,
            norm=_norm(config),
            copies=QueryKeyScale(config.attention_key_size),
            weighting=Weighting(
                function=function,
                score_scale="inverse_sqrt_dim",
                score_divisor=divisor,
                longest=config.max_position_embeddings,
                dim=config.attention_key_size,
            ),
            activation=activation_of(config.hidden_act),
            norm_position="post",
            use_bias=False,
            attention_dropout=config.attention_probs_dropout_prob,
            hidden_dropout=config.hidden_dropout_prob,
        )


class GAUAlphaPreTrainedModel(GatedPreTrainedModel):
    """What all GAU-alpha models share."""

    config_class = GAUAlphaConfig
    base_model_prefix = "gau_alpha"


class GAUAlphaModel(GAUAlphaPreTrainedModel, GatedEncoder):
    """GAU-alpha without a head."""

    def __init__(self, config: GAUAlphaConfig) -> None:
        super().__init__(config)
        self.embeddings = EncoderEmbeddings(
            config, norm=_norm(config), dropout=config.hidden_dropout_prob, position_embeddings=None
        )
        self.layers = nn.ModuleList([GAUAlphaLayer(config) for _ in range(config.num_hidden_layers)])
        self.final_norm = nn.Identity()
        self.gradient_checkpointing = False
        self.post_init()

    def make_context(self, common: TokenContext, shape: tuple[int, int], cache: Cache | None) -> QuadraticContext:
        """Mark which pairs of tokens count."""
        if common.backend != "reference":
            return QuadraticContext(**vars(common))
        pairs = visible_pairs(
            shape[1],
            shape[1],
            device=common.device,
            query_mask=common.mask,
            key_mask=common.mask,
            segments=common.segments,
        )
        return QuadraticContext(common.rotary, common.mask, common.segments, pairs=pairs)


class GAUAlphaForMaskedLM(MaskedLMMixin, GAUAlphaPreTrainedModel):
    """GAU-alpha with its masked-language-model head, the word embeddings alone."""

    _tied_weights_keys: ClassVar[dict[str, str]] = {
        "lm_head.decoder.weight": "gau_alpha.embeddings.word_embeddings.weight"
    }

    def __init__(self, config: GAUAlphaConfig) -> None:
        super().__init__(config)
        self.gau_alpha = GAUAlphaModel(config)
        self.lm_head = PlainLMHead(config.hidden_size, config.vocab_size)
        self.post_init()


class GAUAlphaForSequenceClassification(SequenceClassificationMixin, GAUAlphaPreTrainedModel):
    """GAU-alpha with a classifier of whole texts."""

    def __init__(self, config: GAUAlphaConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.gau_alpha = GAUAlphaModel(config)
        self.classifier = classification_head(config)
        self.post_init()


class GAUAlphaForTokenClassification(TokenClassificationMixin, GAUAlphaPreTrainedModel):
    """GAU-alpha with a classifier of tokens."""

    def __init__(self, config: GAUAlphaConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.gau_alpha = GAUAlphaModel(config)
        self.classifier = classification_head(config)
        self.post_init()


class GAUAlphaForQuestionAnswering(QuestionAnsweringMixin, GAUAlphaPreTrainedModel):
    """GAU-alpha with scores of the first and the last token of an answer."""

    def __init__(self, config: GAUAlphaConfig) -> None:
        super().__init__(config)
        self.gau_alpha = GAUAlphaModel(config)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()


class GAUAlphaForMultipleChoice(MultipleChoiceMixin, GAUAlphaPreTrainedModel):
    """GAU-alpha with a score for each of several texts."""

    def __init__(self, config: GAUAlphaConfig) -> None:
        super().__init__(config)
        self.gau_alpha = GAUAlphaModel(config)
        self.classifier = classification_head(config, num_labels=1)
        self.post_init()
