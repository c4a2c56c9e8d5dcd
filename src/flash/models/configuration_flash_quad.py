"""Configuration of FLASH-Quad."""

from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

from flash.errors import InputError

# The earlier code read its Toeplitz weights up to this many positions and the rotary product above.
LONGEST_TOEPLITZ_BIAS = 512


@strict
class FLASHQuadConfig(PreTrainedConfig):
    r"""Settings of a FLASH-Quad encoder (arXiv 2202.10447).

    Every name of the earlier repository is accepted with its meaning (``s`` is ``query_key_dim``), and a missing
    newer one means the earlier behaviour, so an old ``config.json`` still describes an old model. The settings that
    train well are in the recipes (``flash/recipes/``): ``initialization="fan_in"``, ``score_scale="inverse_sqrt_dim"``,
    ``attention_norm=True``, ``final_norm=True``, ``token_shift=0.25``.

    Args:
        vocab_size: Number of token ids.
        hidden_size: Model width ``d``.
        num_hidden_layers: Number of gated attention units; two cost as many parameters as one Transformer layer.
        max_position_embeddings: Longest length ``L`` of training. Longer inputs work: the sinusoid and the rotary
            angles are computed for any position, distances of ``L`` and more take the bias of distance ``L - 1``.
        type_vocab_size: Number of token types (segments).
        initializer_range: Standard deviation of the normal initialisation, where ``initialization`` is ``normal``.
        layer_norm_eps: Added to the mean square (or variance) in every norm.
        pad_token_id: Tokens of this id are ignored where no ``attention_mask`` is given; None for no padding token.
        expansion_factor: ``e / d``, the gate and value width over the model width.
        query_key_dim: Query and key width ``s``, even.
        norm_type: ``scale_norm``, ``layer_norm`` or ``rms_norm``, for the norms over the model width.
        dropout: Probability of dropout after the embeddings.
        hidden_act: Activation of the unit's input projection and of the masked-language-model head.
        classifier_dropout: Probability of dropout before a classifier; None takes ``dropout``.
        gradient_checkpointing: Recompute activations in the backward pass.
        tie_word_embeddings: Use the word embeddings as the decoder of the masked-language-model head.
        initialization: ``normal`` draws every weight from N(0, ``initializer_range``^2), as the earlier code;
            ``fan_in`` draws matrices from N(0, 1 / fan-in) and starts gains at 1, offsets and biases at 0.
        score_scale: ``inverse_length`` weighs by ``relu(q.k / L + bias)^2``, as the earlier code;
            ``inverse_sqrt_dim`` by ``relu(q.k / sqrt(s) + bias)^2 / L``.
        attention_norm: Divide the attention output ``A v`` by its root mean square before the gate.
        final_norm: Normalise the output of the last layer.
        token_shift: Share of the channels that a unit reads from the token before, and as many from the one after.
        relative_bias: ``toeplitz`` or ``rotary_product``; None means what the earlier code did: ``toeplitz`` up to
            512 ``max_position_embeddings``, ``rotary_product`` above.
    """

    model_type = "flash_quad"
    attribute_map: ClassVar[dict[str, str]] = {"s": "query_key_dim"}

    vocab_size: int = 12000
    hidden_size: int = 768
    num_hidden_layers: int = 24
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-5
    pad_token_id: int | None = 0
    expansion_factor: int | float = 2
    query_key_dim: int = 128
    norm_type: Literal["scale_norm", "layer_norm", "rms_norm"] = "scale_norm"
    dropout: float | int = 0.0
    hidden_act: str = "silu"
    classifier_dropout: float | int | None = 0.1
    gradient_checkpointing: bool = False
    tie_word_embeddings: bool = True
    initialization: Literal["normal", "fan_in"] = "normal"
    score_scale: Literal["inverse_length", "inverse_sqrt_dim"] = "inverse_length"
    attention_norm: bool = False
    final_norm: bool = False
    token_shift: float | int = 0.0
    relative_bias: Literal["toeplitz", "rotary_product"] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Resolve what depends on other fields and refuse values that no model can have."""
        super().__post_init__(**kwargs)
        if self.relative_bias is None:
            short = self.max_position_embeddings <= LONGEST_TOEPLITZ_BIAS
            self.relative_bias = "toeplitz" if short else "rotary_product"
        for name in (
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "max_position_embeddings",
            "type_vocab_size",
            "query_key_dim",
        ):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.hidden_size % 2:
            raise InputError(
                f"hidden_size must be even, got {self.hidden_size}: the sinusoid has a sine and a cosine half"
            )
        if self.query_key_dim % 2:
            raise InputError(
                f"query_key_dim (s) must be even, got {self.query_key_dim}: rotary embedding turns pairs of entries"
            )
        if self.hidden_act not in ACT2FN:
            raise InputError(f"hidden_act must be one of {', '.join(sorted(ACT2FN))}, got {self.hidden_act!r}")
        for name in ("initializer_range", "layer_norm_eps"):
            if not getattr(self, name) >= 0.0:
                raise InputError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.intermediate_size < 1:
            raise InputError(
                f"expansion_factor must give a width of at least 1, got {self.expansion_factor} of {self.hidden_size}"
            )
        for name in ("dropout", "classifier_dropout"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value < 1.0:
                raise InputError(f"{name} must be at least 0 and below 1, got {value}")
        if not 0.0 <= self.token_shift <= 0.5:
            raise InputError(
                f"token_shift must lie between 0 and 0.5, got {self.token_shift}: it counts for each of two neighbours"
            )
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            raise InputError(
                f"pad_token_id must be below vocab_size ({self.vocab_size}) and not negative, got {self.pad_token_id}; "
                "None means that there is no padding token"
            )

    @property
    def intermediate_size(self) -> int:
        """Gate and value width ``e``."""
        return int(self.hidden_size * self.expansion_factor)
