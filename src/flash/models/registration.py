"""Make the models known to ``AutoConfig``, ``AutoModel*`` and ``AutoTokenizer``."""

from types import ModuleType
from typing import Any

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertTokenizerFast,
)

from flash.models import modeling_flash, modeling_flash_quad, modeling_gau_alpha
from flash.models.configuration_flash import FLASHConfig
from flash.models.configuration_flash_quad import FLASHQuadConfig
from flash.models.configuration_gau_alpha import GAUAlphaConfig
from flash.models.legacy_checkpoints import register_legacy_names

# Architecture -> module of its models and beginning of their names.
FAMILIES: dict[Any, tuple[ModuleType, str]] = {
    FLASHQuadConfig: (modeling_flash_quad, "FLASHQuad"),
    FLASHConfig: (modeling_flash, "FLASH"),
    GAUAlphaConfig: (modeling_gau_alpha, "GAUAlpha"),
}
# Auto class -> end of the name of the model that it builds.
AUTO_CLASSES = {
    AutoModel: "Model",
    AutoModelForMaskedLM: "ForMaskedLM",
    AutoModelForCausalLM: "ForCausalLM",
    AutoModelForSequenceClassification: "ForSequenceClassification",
    AutoModelForTokenClassification: "ForTokenClassification",
    AutoModelForQuestionAnswering: "ForQuestionAnswering",
    AutoModelForMultipleChoice: "ForMultipleChoice",
}


def register_auto_classes() -> None:
    """Register configurations, models, tokenizers and the parameter names of earlier checkpoints."""
    for config, (module, family) in FAMILIES.items():
        AutoConfig.register(config.model_type, config)
        for auto_class, ending in AUTO_CLASSES.items():
            model = getattr(module, family + ending, None)
            if model is not None:  # GAU-alpha is an encoder: it has no causal language model
                auto_class.register(config, model)
        # published folders hold a BERT vocabulary and often no tokenizer class
        AutoTokenizer.register(config, fast_tokenizer_class=BertTokenizerFast)
        register_legacy_names(config.model_type)
