"""The model that a pretraining run begins with: a new one of a named architecture, or one that was trained before."""

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from flash.errors import InputError
from flash.models.configuration_flash import FLASHConfig
from flash.models.configuration_flash_quad import FLASHQuadConfig
from flash.models.language_model_heads import MaskedLMMixin
from flash.models.loading import load_masked_lm
from flash.models.modeling_flash import FLASHForMaskedLM
from flash.models.modeling_flash_quad import FLASHQuadForMaskedLM
from flash.ops.backends import check_backend_name
from flash.training.arguments import PretrainingArguments
from flash.training.recipes import load_recipe

# --model_name -> configuration and model
ARCHITECTURES = {
    "flashquad": (FLASHQuadConfig, FLASHQuadForMaskedLM),
    "flash": (FLASHConfig, FLASHForMaskedLM),
}


def new_model(args: PretrainingArguments, tokenizer: PreTrainedTokenizerBase, tokenizer_name: str) -> PreTrainedModel:
    """Build a new masked language model with an embedding for each token.

    Raises:
        InputError: Settings that no model can have.
    """
    config_class, model_class = ARCHITECTURES[args.model_name]
    given = args.config_settings()
    settings = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    settings |= load_recipe("small")["config"] if given is None else given
    settings.setdefault("max_position_embeddings", args.max_seq_length)
    preset = settings.pop("preset", None)
    unknown = sorted(set(settings) - set(config_class.__dataclass_fields__) - {"s"})
    if unknown:
        raise InputError(f"--config: {unknown[0]!r} is no setting of {config_class.__name__}")
    try:
        config = config_class(**settings) if preset is None else config_class.preset(preset, **settings)
    except (StrictDataclassError, TypeError, ValueError) as error:
        raise InputError(f"--config: {' '.join(str(error).split())}") from error
    model = model_class(config)
    if len(tokenizer) > model.config.vocab_size:
        raise InputError(
            f"--config vocab_size={model.config.vocab_size}: the tokenizer {tokenizer_name} has {len(tokenizer)} "
            "tokens; leave vocab_size out to have an embedding for each"
        )
    return model


def load_initial_model(args: PretrainingArguments, name: str) -> PreTrainedModel:
    """Load the masked language model that the run goes on from.

    Raises:
        InputError: No such model, none of this library's, or settings that it brings itself.
    """
    given = dict(args.config_settings() or {})
    backend = given.pop("attention_backend", "auto")  # the one setting that a folder does not bring
    if given:
        raise InputError(
            f"--config is for a new model; --init_model brings its own settings, all but attention_backend: leave "
            f"{', '.join(given)} out, or --init_model"
        )
    check_backend_name(backend, flag=f"--config attention_backend={backend}")
    model = load_masked_lm(name, flag="--init_model").float()  # steps are too small for half-precision weights
    if not isinstance(model, MaskedLMMixin):
        raise InputError(
            f"--init_model {name} is a {type(model).__name__}; only FLASH-Quad, FLASH and GAU-alpha models are "
            "trained here"
        )
    model.config.attention_backend = backend
    return model
