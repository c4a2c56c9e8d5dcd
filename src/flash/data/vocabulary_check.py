"""Whether a tokenizer's ids mean to a model what they meant when it was trained."""

import logging

from transformers import PreTrainedTokenizerBase
from transformers.utils import has_file

from flash.corpus.tokenizer_loading import load_tokenizer
from flash.errors import InputError

logger = logging.getLogger(__name__)


def check_vocabulary(
    tokenizer: PreTrainedTokenizerBase, tokenizer_name: str, *, model_name: str, vocab_size: int
) -> None:
    """Refuse a tokenizer with ids that the model has no embedding for, or other tokens than the model's own has.

    Args:
        tokenizer: The tokenizer to be used with the model.
        tokenizer_name: Hub id, folder or file it was loaded from.
        model_name: Hub id or folder of the model; the tokenizer saved there, if any, is compared.
        vocab_size: Number of the model's embeddings; there may be more of them than tokens.

    Raises:
        InputError: More tokens than embeddings, or another vocabulary than the one saved with the model.
    """
    if len(tokenizer) > vocab_size:
        raise InputError(
            f"the tokenizer {tokenizer_name} has {len(tokenizer)} tokens but the model {model_name} only {vocab_size} "
            "embeddings; pass the tokenizer that the model was trained with"
        )
    if tokenizer_name == model_name:
        return
    saved = _saved_tokenizer(model_name)
    if saved is not None and saved.get_vocab() != tokenizer.get_vocab():
        raise InputError(
            f"the tokenizer {tokenizer_name} ({len(tokenizer)} tokens) has another vocabulary than the one saved with "
            f"the model {model_name} ({len(saved)} tokens), so its ids would mean other tokens; leave it out, or pass "
            "the tokenizer that the model was trained with"
        )


def _saved_tokenizer(model_name: str) -> PreTrainedTokenizerBase | None:
    if not any(has_file(model_name, file) for file in ("tokenizer.json", "vocab.txt")):
        return None
    try:
        return load_tokenizer(model_name)
    except InputError as error:
        # naming another tokenizer is the way out of just this, so it must stay open
        logger.warning("the vocabulary is not compared with that of the model: %s", error)
        return None
