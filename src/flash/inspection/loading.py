"""A masked language model of this package with its tokenizer, or a refusal in one line."""

from __future__ import annotations

import copy

import torch
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from flash.corpus.tokenizer_loading import load_tokenizer
from flash.data.vocabulary_check import check_vocabulary
from flash.errors import InputError
from flash.models.encoder import GatedPreTrainedModel
from flash.models.loading import load_masked_lm


def load_model_and_tokenizer(
    name: str, *, tokenizer: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Load a model in evaluation mode and float32, and its tokenizer.

    Args:
        name: Hub id or folder of a FLASH-Quad, FLASH or GAU-alpha masked language model.
        tokenizer: Another tokenizer: hub id, folder or vocab.txt.

    Raises:
        InputError: No such model, one of another kind, or a tokenizer that does not match it.
    """
    try:
        model = load_masked_lm(name)
    except InputError as error:
        # a configuration that was found and refused; may it be that of the other kind of language model?
        refused = isinstance(error.__cause__, InputError)
        if refused and PreTrainedConfig.get_config_dict(name)[0].get("causal"):
            raise InputError(
                f"{name} is a causal language model; inspect scores masked tokens: name a masked language model "
                "(FLASHQuadForMaskedLM, FLASHForMaskedLM, GAUAlphaForMaskedLM)"
            ) from error
        raise
    if not isinstance(model, GatedPreTrainedModel):
        raise InputError(
            f"{name} is a {type(model).__name__}, whose layers are no gated attention units: name a FLASH-Quad, FLASH "
            "or GAU-alpha masked language model"
        )
    loaded = load_tokenizer(tokenizer or name)
    check_vocabulary(loaded, tokenizer or name, model_name=name, vocab_size=model.config.vocab_size)
    return model.float(), loaded


def untrained_like(model: PreTrainedModel, *, seed: int) -> PreTrainedModel:
    """Build a freshly initialised model of the same class, configuration and device, in evaluation mode and float32."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(model)(copy.deepcopy(model.config))
    return fresh.float().to(model.device).eval()
