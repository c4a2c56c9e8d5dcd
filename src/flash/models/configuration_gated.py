"""Settings that FLASH-Quad and FLASH share."""

import math
from typing import Any, ClassVar, Literal, Self

from huggingface_hub.dataclasses import strict

from flash.errors import InputError
from flash.models.base_configuration import BaseConfiguration
from flash.models.presets import RECOMMENDED, SIZES
from flash.ops.quadratic_attention import SELF_NORMALIZED

# The earlier code read its Toeplitz weights up to this many positions and the rotary product above.
LONGEST_TOEPLITZ_BIAS = 512
# What follows from settings -> what to give in its place.
DERIVED = {
    "intermediate_size": "expansion_factor, its ratio to hidden_size",
    "score_length": "max_position_embeddings, or chunk_size in FLASH",
}


@strict
class GatedAttentionConfig(BaseConfiguration):
    """What ``FLASHQuadConfig`` and ``FLASHConfig`` have in common; see there for the meaning of each setting."""

    attribute_map: ClassVar[dict[str, str]] = {"s": "query_key_dim"}
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]

    vocab_size: int = 12000
    hidden_size: int = 768
    num_hidden_layers: int = 24
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-5
    pad_token_id: int | None = 0
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    expansion_factor: int | float = 2
    query_key_dim: int = 128
    norm_type: Literal["scale_norm", "layer_norm", "rms_norm"] = "scale_norm"
    norm_position: Literal["pre", "post"] = "pre"
    dropout: float | int = 0.0
    hidden_act: str = "silu"
    classifier_dropout: float | int | None = 0.1
    classifier_pooling: Literal["cls", "mean", "cls_plus_mean"] = "cls"
    gradient_checkpointing: bool = False
    tie_word_embeddings: bool = True
    initialization: Literal["normal", "fan_in"] = "normal"
    attention_function: Literal["squared_relu", "laplace", "softmax", "entropy_softmax"] = "squared_relu"
    score_scale: Literal["inverse_length", "inverse_sqrt_dim"] = "inverse_length"
    score_divisor: Literal["constant", "true_length", "row_sum"] = "constant"
    attention_norm: bool = False
    attention_norm_eps: float | None = None
    final_norm: bool = False
    token_shift: float | int = 0.0
    scaled_sinusoid: bool = True
    rotary: bool = True
    relative_bias: Literal["toeplitz", "rotary_product", "bucketed", "none"] | None = None
    relative_bias_buckets: int = 32
    relative_bias_max_distance: int = 128
    causal: bool = False
    use_cache: bool = True

    @classmethod
    def preset(cls, name: str, **settings: Any) -> Self:
        """Return the recommended settings for training a new model of a size.

        The plain constructor keeps the meaning of the earlier code; this is what learns well, see docs/quality.md.

        Args:
            name: ``tiny`` (12 units of width 256), ``small`` (12 of 768), ``base`` (24 of 768) or ``large`` (48 of
                1024).
            **settings: Settings over the preset's, such as ``vocab_size``.

        Raises:
            InputError: There is no such preset, or no setting of a name.
        """
        if name not in tuple(SIZES):
            raise InputError(f"no preset {name!r}; there are {', '.join(SIZES)}")
        # the constructor takes any name, as every configuration does; here a slip would train another model
        for setting in settings:
            computed = isinstance(getattr(cls, setting, None), property)
            if not (setting in cls.__dataclass_fields__ or setting in cls.attribute_map or computed):
                raise InputError(f"{setting!r} is no setting of {cls.__name__}; see its documentation for their names")
        return cls(**RECOMMENDED | SIZES[name] | settings)

    def __post_init__(self, **kwargs: Any) -> None:
        """Resolve what depends on other fields and refuse values that no model can have."""
        for name in DERIVED.keys() & kwargs.keys():
            raise InputError(f"{name} is no setting, got {kwargs[name]}: give {DERIVED[name]}")
        super().__post_init__(**kwargs)
        if self.relative_bias is None:
            short = self.score_length <= LONGEST_TOEPLITZ_BIAS
            self.relative_bias = "toeplitz" if short else "rotary_product"
        self.check_settings()

    def check_settings(self) -> None:
        """Refuse values that no model can have; call it after a setting was changed."""
        super().check_settings()
        self.check_at_least_one("max_position_embeddings", "query_key_dim")
        self.check_probability("dropout")
        if not (math.isfinite(self.expansion_factor) and self.intermediate_size >= 1):
            raise InputError(
                f"expansion_factor must give a width of at least 1, got {self.expansion_factor} of {self.hidden_size}"
            )
        if self.norm_position == "post" and self.final_norm:
            raise InputError(
                "final_norm=True has nothing to do where norm_position='post' normalises the output of every layer; "
                "set final_norm=False or norm_position='pre'"
            )
        if self.attention_norm_eps is not None and not 0.0 < self.attention_norm_eps < math.inf:
            raise InputError(f"attention_norm_eps must be above 0, got {self.attention_norm_eps}")
        self._check_positions()
        self._check_attention()

    def _check_positions(self) -> None:
        if self.scaled_sinusoid and self.hidden_size % 2:
            raise InputError(
                f"hidden_size must be even, got {self.hidden_size}: the sinusoid has a sine and a cosine half; "
                "scaled_sinusoid=False does without"
            )
        if (self.rotary or self.relative_bias == "rotary_product") and self.query_key_dim % 2:
            raise InputError(
                f"query_key_dim (s) must be even, got {self.query_key_dim}: rotary embedding turns pairs of entries"
            )
        if not 0.0 <= self.token_shift <= 0.5:
            raise InputError(
                f"token_shift must lie between 0 and 0.5, got {self.token_shift}: it counts for each of two neighbours"
            )
        if self.relative_bias == "bucketed":
            # half of the buckets a side (all for the past of a causal model), half of those for one distance each
            smallest = 2 if self.causal else 4
            if self.relative_bias_buckets < smallest or self.relative_bias_buckets % smallest:
                raise InputError(
                    f"relative_bias_buckets must be a multiple of {smallest}, got {self.relative_bias_buckets}"
                )
            exact = self.relative_bias_buckets // smallest
            if self.relative_bias_max_distance <= exact:
                raise InputError(
                    f"relative_bias_max_distance must be above {exact}, the distances that have a bucket of their own, "
                    f"got {self.relative_bias_max_distance}"
                )

    def _check_attention(self) -> None:
        if self.attention_function in SELF_NORMALIZED:
            if self.score_scale != "inverse_sqrt_dim":
                raise InputError(
                    f"attention_function={self.attention_function!r} needs score_scale='inverse_sqrt_dim', got "
                    f"{self.score_scale!r}: scores divided by the length would make every weight the same"
                )
            if self.score_divisor != "constant":
                raise InputError(
                    f"attention_function={self.attention_function!r} divides each row by its sum already; "
                    f"leave out score_divisor={self.score_divisor!r}"
                )
        if self.attention_function == "entropy_softmax" and self.score_length < 2:
            raise InputError(
                f"attention_function='entropy_softmax' divides by the logarithm of the length, got {self.score_length}"
            )

    @property
    def score_length(self) -> int:
        """Longest length that queries and keys meet at in training, the ``L`` of the formulas."""
        return self.max_position_embeddings

    @property
    def intermediate_size(self) -> int:
        """Gate and value width ``e``."""
        return int(self.hidden_size * self.expansion_factor)
