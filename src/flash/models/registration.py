"""Make the models known to ``AutoConfig``, ``AutoModel*`` and ``AutoTokenizer``, none before it can be of use.

Who prepares text, or asks for ``--help``, needs no model, and importing them all takes seconds and 400 MB a process.
So the configurations are registered when ``AutoConfig`` is imported, and the models with the first configuration: the
other Auto classes find nothing without one.
"""

import sys
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

# Beginning of the names of an architecture's classes -> its model type, which ends the names of its modules.
FAMILIES = {"FLASHQuad": "flash_quad", "FLASH": "flash", "GAUAlpha": "gau_alpha"}
# Auto class -> end of the name of the model that it builds.
AUTO_CLASSES = {
    "AutoModel": "Model",
    "AutoModelForMaskedLM": "ForMaskedLM",
    "AutoModelForCausalLM": "ForCausalLM",
    "AutoModelForSequenceClassification": "ForSequenceClassification",
    "AutoModelForTokenClassification": "ForTokenClassification",
    "AutoModelForQuestionAnswering": "ForQuestionAnswering",
    "AutoModelForMultipleChoice": "ForMultipleChoice",
}


_AUTO_CONFIG_MODULE = "transformers.models.auto.configuration_auto"


def own_class(family: str, ending: str) -> Any:
    """Import a configuration or model by the two parts of its name; None if there is no such class."""
    kind = "configuration" if ending == "Config" else "modeling"
    return getattr(import_module(f"flash.models.{kind}_{FAMILIES[family]}"), family + ending, None)


def register_when_imported() -> None:
    """Register the configurations as soon as ``AutoConfig`` is imported; now, if it is already."""
    if _AUTO_CONFIG_MODULE in sys.modules:
        _register_configurations()
    else:
        sys.meta_path.insert(0, _AutoConfigFinder())


def _register_configurations() -> None:
    auto = sys.modules[_AUTO_CONFIG_MODULE]
    for family, model_type in FAMILIES.items():
        # may run within another import of transformers: what these modules import of it goes no further than this
        auto.AutoConfig.register(model_type, own_class(family, "Config"))


@cache
def register_models() -> None:
    """Register models, tokenizers and the parameter names of earlier checkpoints; every configuration asks for it."""
    import transformers

    from flash.models.legacy_checkpoints import register_legacy_names

    for family, model_type in FAMILIES.items():
        config = own_class(family, "Config")
        for auto_class, ending in AUTO_CLASSES.items():
            model = own_class(family, ending)
            if model is not None:  # GAU-alpha is an encoder: it has no causal language model
                getattr(transformers, auto_class).register(config, model)
        # published folders hold a BERT vocabulary and often no tokenizer class
        transformers.AutoTokenizer.register(config, fast_tokenizer_class=transformers.BertTokenizerFast)
        register_legacy_names(model_type)


class _AutoConfigFinder:
    """Finds the module of ``AutoConfig`` as Python does, and registers the configurations once it is imported."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return where that module is; None leaves all others to the finders behind this one."""
        spec = PathFinder.find_spec(name, path, target) if name == _AUTO_CONFIG_MODULE else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            _register_configurations()

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec
