"""Make the models known to ``AutoConfig``, ``AutoModel*`` and ``AutoTokenizer``."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertTokenizerFast,
)

from flash.models.configuration_flash_quad import FLASHQuadConfig
from flash.models.legacy_checkpoints import register_legacy_names
from flash.models.modeling_flash_quad import (
    FLASHQuadForMaskedLM,
    FLASHQuadForSequenceClassification,
    FLASHQuadModel,
)


def register_auto_classes() -> None:
    """Register configurations, models, tokenizers and the parameter names of earlier checkpoints."""
    AutoConfig.register(FLASHQuadConfig.model_type, FLASHQuadConfig)
    AutoModel.register(FLASHQuadConfig, FLASHQuadModel)
    AutoModelForMaskedLM.register(FLASHQuadConfig, FLASHQuadForMaskedLM)
    AutoModelForSequenceClassification.register(FLASHQuadConfig, FLASHQuadForSequenceClassification)
    # published folders hold a BERT vocabulary and often no tokenizer class
    AutoTokenizer.register(FLASHQuadConfig, fast_tokenizer_class=BertTokenizerFast)
    register_legacy_names(FLASHQuadConfig.model_type)
