"""Configuration of GAU-alpha."""

from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict

from flash.errors import InputError
from flash.models.base_configuration import BaseConfiguration


@strict
class GAUAlphaConfig(BaseConfiguration):
    """Settings of a GAU-alpha encoder, as ``junnyu/chinese_GAU-alpha-char_L-24_H-768`` names them.

    The model is J. Su et al., "GAU-alpha: GAU-based Transformers for NLP", 2022 (https://kexue.fm/archives/9052): the
    gated attention unit with a softmax, no biases, and a norm without parameters behind each residual.

    Args:
        vocab_size: Number of token ids.
        hidden_size: Model width ``d``.
        intermediate_size: Gate and value width ``e``.
        num_hidden_layers: Number of gated attention units.
        max_position_embeddings: Length at which the entropy-scaled softmax is a plain one; longer inputs work.
        type_vocab_size: Number of token types (segments).
        initializer_range: Standard deviation of the initialisation.
        attention_key_size: Query and key width ``s``, even.
        layer_norm_eps: Added to the mean square in every norm.
        pad_token_id: Tokens of this id are ignored where no ``attention_mask`` is given.
        hidden_dropout_prob: Dropout after the embeddings and on each layer's branch.
        attention_probs_dropout_prob: Dropout on the attention weights.
        hidden_act: Activation of the unit's input projection.
        classifier_dropout: Dropout before a classifier; None takes ``hidden_dropout_prob``.
        classifier_pooling: See ``FLASHQuadConfig``.
        use_bias: Published models have none, and so has this one; only False is accepted.
        normalization: ``softmax_plus`` scales scores by ``log n / log max_position_embeddings``; ``softmax``;
            ``squared_relu`` weighs by ``relu(score)^2 / n``.
        attention_scale: Divide scores by ``sqrt(s)``; only True is accepted.
        embedding_size: Width of the embeddings; only ``hidden_size`` is accepted.
        gradient_checkpointing: Recompute activations in the backward pass.
        tie_word_embeddings: Use the word embeddings as the decoder of the masked-language-model head.
    """

    model_type = "gau_alpha"
    attribute_map: ClassVar[dict[str, str]] = {"query_key_dim": "attention_key_size"}

    vocab_size: int = 12000
    hidden_size: int = 768
    intermediate_size: int = 1536
    num_hidden_layers: int = 24
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    attention_key_size: int = 128
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    hidden_act: str = "swish"
    classifier_dropout: float | int | None = 0.1
    classifier_pooling: Literal["cls", "mean", "cls_plus_mean"] = "cls"
    use_bias: bool = False
    normalization: Literal["softmax_plus", "softmax", "squared_relu"] = "softmax_plus"
    attention_scale: bool = True
    embedding_size: int | None = None
    gradient_checkpointing: bool = False
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        self.check_settings()

    def check_settings(self) -> None:
        """Refuse values that no model can have, and those of variants that were never published."""
        super().check_settings()
        self.check_at_least_one("intermediate_size", "attention_key_size")
        self.check_probability("hidden_dropout_prob", "attention_probs_dropout_prob")
        if self.max_position_embeddings < 2:
            raise InputError(
                f"max_position_embeddings must be at least 2, got {self.max_position_embeddings}: scores are divided "
                "by its logarithm"
            )
        if self.attention_key_size % 2:
            raise InputError(
                f"attention_key_size must be even, got {self.attention_key_size}: rotary embedding turns pairs"
            )
        for name, published in (("use_bias", False), ("attention_scale", True)):
            if getattr(self, name) is not published:
                raise InputError(f"{name} must be {published}, as in every published GAU-alpha model")
        if self.embedding_size not in (None, self.hidden_size):
            raise InputError(
                f"embedding_size must equal hidden_size ({self.hidden_size}), got {self.embedding_size}: nothing maps "
                "one to the other"
            )
