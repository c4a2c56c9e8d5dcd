"""flashquad: Gated Attention Unit Transformers (FLASH-Quad and FLASH, arXiv 2202.10447) for PyTorch and Hugging Face.

The map of the package, from text to answers:

    corpus     raw text -> blocks -> words -> dataset with whole-word references
    data       dataset -> masked batches
    ops        the mathematics, functions of tensors
    layers     modules that own the parameters
    models     configurations and models of transformers
    training   recipe -> checkpoint
    inference  checkpoint -> answers
    inspection checkpoint -> what its layers do
    cli        the command ``flashquad``

Importing ``flash`` registers the models with ``AutoConfig`` and ``AutoModel*``.
"""

from importlib.metadata import version

from flash.models.configuration_flash import FLASHConfig
from flash.models.configuration_flash_quad import FLASHQuadConfig
from flash.models.configuration_gau_alpha import GAUAlphaConfig
from flash.models.modeling_flash import (
    FLASHForCausalLM,
    FLASHForMaskedLM,
    FLASHForMultipleChoice,
    FLASHForQuestionAnswering,
    FLASHForSequenceClassification,
    FLASHForTokenClassification,
    FLASHModel,
)
from flash.models.modeling_flash_quad import (
    FLASHQuadForCausalLM,
    FLASHQuadForMaskedLM,
    FLASHQuadForMultipleChoice,
    FLASHQuadForQuestionAnswering,
    FLASHQuadForSequenceClassification,
    FLASHQuadForTokenClassification,
    FLASHQuadModel,
)
from flash.models.modeling_gau_alpha import (
    GAUAlphaForMaskedLM,
    GAUAlphaForMultipleChoice,
    GAUAlphaForQuestionAnswering,
    GAUAlphaForSequenceClassification,
    GAUAlphaForTokenClassification,
    GAUAlphaModel,
)
from flash.models.registration import register_auto_classes

__version__ = version("flashquad")

__all__ = [
    "FLASHConfig",
    "FLASHForCausalLM",
    "FLASHForMaskedLM",
    "FLASHForMultipleChoice",
    "FLASHForQuestionAnswering",
    "FLASHForSequenceClassification",
    "FLASHForTokenClassification",
    "FLASHModel",
    "FLASHQuadConfig",
    "FLASHQuadForCausalLM",
    "FLASHQuadForMaskedLM",
    "FLASHQuadForMultipleChoice",
    "FLASHQuadForQuestionAnswering",
    "FLASHQuadForSequenceClassification",
    "FLASHQuadForTokenClassification",
    "FLASHQuadModel",
    "GAUAlphaConfig",
    "GAUAlphaForMaskedLM",
    "GAUAlphaForMultipleChoice",
    "GAUAlphaForQuestionAnswering",
    "GAUAlphaForSequenceClassification",
    "GAUAlphaForTokenClassification",
    "GAUAlphaModel",
]

register_auto_classes()
