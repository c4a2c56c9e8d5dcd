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

Once ``flash`` is imported, ``AutoConfig``, ``AutoTokenizer`` and ``AutoModel*`` know the models.
"""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from flash.models.registration import FAMILIES, own_class, register_when_imported

if TYPE_CHECKING:
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

register_when_imported()


def __getattr__(name: str) -> Any:
    """Import a configuration or model when it is first asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    family = max((family for family in FAMILIES if name.startswith(family)), key=len)
    globals()[name] = own_class(family, name.removeprefix(family))
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
