"""The settings of a configuration: which there are, and values that no model can have, refused by name."""

from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

from flash.errors import InputError


def check_at_least_one(config: PreTrainedConfig, *names: str) -> None:
    """Refuse sizes below 1."""
    for name in names:
        if getattr(config, name) < 1:
            raise InputError(f"{name} must be at least 1, got {getattr(config, name)}")


def check_probability(config: PreTrainedConfig, *names: str) -> None:
    """Refuse what is no probability of dropout; None passes."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0.0 <= value < 1.0:
            raise InputError(f"{name} must be at least 0 and below 1, got {value}")


def check_activation(name: str) -> None:
    """Refuse an activation that transformers does not know."""
    if name not in ACT2FN:
        raise InputError(f"hidden_act must be one of {', '.join(sorted(ACT2FN))}, got {name!r}")


def check_pad_token(config: PreTrainedConfig) -> None:
    """Refuse a padding token outside the vocabulary; None passes."""
    if config.pad_token_id is not None and not 0 <= config.pad_token_id < config.vocab_size:
        raise InputError(
            f"pad_token_id must be below vocab_size ({config.vocab_size}) and not negative, got "
            f"{config.pad_token_id}; None means that there is no padding token"
        )


def own_settings(config_class: type[PreTrainedConfig]) -> list[str]:
    """List the settings that an architecture adds to those of every ``PreTrainedConfig``."""
    owners = [cls for cls in reversed(config_class.__mro__) if cls is not PreTrainedConfig]
    ours = [cls for cls in owners if issubclass(cls, PreTrainedConfig)]
    fields = config_class.__dataclass_fields__
    return list(dict.fromkeys(name for cls in ours for name in vars(cls).get("__annotations__", {}) if name in fields))
