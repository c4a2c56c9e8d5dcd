"""What the configurations of all architectures share."""

import math
from typing import Any, Literal, Self

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from flash.errors import InputError
from flash.models.hub_code import HubCodeConfigMixin
from flash.models.registration import register_models

PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")


@strict
class BaseConfiguration(HubCodeConfigMixin, PreTrainedConfig):
    """Checks of single settings, and the refusal of another architecture's folder."""

    # of a run, not of the weights: it is not saved with them
    attention_backend: Literal["auto", "reference", "blocked", "fused", "materialized"] = "auto"

    def __post_init__(self, **kwargs: Any) -> None:
        register_models()
        super().__post_init__(**kwargs)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over what was pickled; the first configuration of a process may come so."""
        register_models()
        self.__dict__.update(state)

    def to_dict(self) -> dict[str, Any]:
        """Return what ``PreTrainedConfig.to_dict`` does, without what is of one run only."""
        held = super().to_dict()
        held.pop("attention_backend", None)
        return held

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Self:
        """Build a configuration as ``PreTrainedConfig.from_dict`` does, from a dictionary of this architecture."""
        held = config_dict.get("model_type", cls.model_type)
        if held != cls.model_type:
            raise InputError(
                f"the folder holds a model of type {held!r}, not {cls.model_type!r}: its weights would not be used. "
                "Load it with the class of its type, or with AutoConfig and AutoModel..., which find it"
            )
        made = super().from_dict(config_dict, **kwargs)
        # what was given over the dictionary was set one by one, past the checks of the constructor
        (made[0] if isinstance(made, tuple) else made).check_settings()
        return made

    def check_at_least_one(self, *names: str) -> None:
        """Refuse sizes below 1."""
        for name in names:
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")

    def check_probability(self, *names: str) -> None:
        """Refuse what is no probability of dropout; None passes."""
        for name in names:
            value = getattr(self, name)
            if value is not None and not 0.0 <= value < 1.0:
                raise InputError(f"{name} must be at least 0 and below 1, got {value}")

    def check_settings(self) -> None:
        """Refuse values that no model can have; call it after a setting was changed."""
        self.check_at_least_one("vocab_size", "hidden_size", "num_hidden_layers", "type_vocab_size")
        self.check_probability("classifier_dropout")
        if not 0.0 <= self.initializer_range < math.inf:
            raise InputError(f"initializer_range must not be negative, got {self.initializer_range}")
        if not 0.0 < self.layer_norm_eps < math.inf:
            raise InputError(
                f"layer_norm_eps must be above 0, got {self.layer_norm_eps}: the norm of zeros would be 0 / 0"
            )
        if self.problem_type not in (None, *PROBLEM_TYPES):
            raise InputError(f"problem_type must be one of {', '.join(PROBLEM_TYPES)}, got {self.problem_type!r}")
        from transformers.activations import ACT2FN  # not at the top, see flash.models.registration

        if self.hidden_act not in ACT2FN:
            raise InputError(f"hidden_act must be one of {', '.join(sorted(ACT2FN))}, got {self.hidden_act!r}")
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            raise InputError(
                f"pad_token_id must be below vocab_size ({self.vocab_size}) and not negative, got "
                f"{self.pad_token_id}; None means that there is no padding token"
            )


def own_settings(config_class: type[PreTrainedConfig]) -> list[str]:
    """List the settings that an architecture adds to those of every ``PreTrainedConfig``."""
    ours = [cls for cls in reversed(config_class.__mro__) if issubclass(cls, BaseConfiguration)]
    fields = config_class.__dataclass_fields__
    return list(dict.fromkeys(name for cls in ours for name in vars(cls).get("__annotations__", {}) if name in fields))
