"""Fill the masks of a sentence."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase

from flash.corpus.tokenizer_loading import load_tokenizer
from flash.errors import InputError


@dataclass
class Candidate:
    """A token for a mask, with its probability."""

    token: str
    probability: float


@dataclass
class FilledSentence:
    """A sentence with the candidates of each of its masks, best first."""

    text: str
    pieces: list[str]  # the text before, between and after the masks
    masks: list[list[Candidate]]

    def in_brackets(self) -> str:
        """Write the candidates into the sentence: ``今天的天[气+0.9948||空+0.0011]很好``."""
        shown = [self.pieces[0]]
        for candidates, piece in zip(self.masks, self.pieces[1:], strict=True):
            shown.append("[" + "||".join(f"{c.token}+{c.probability:.4f}" for c in candidates) + "]")
            shown.append(piece)
        return "".join(shown)


class MaskFiller:
    """A masked language model with its tokenizer.

    Args:
        model: Hub id or folder of a model with its tokenizer.
        tokenizer: Another tokenizer: hub id, folder or vocab.txt.

    Raises:
        InputError: No such model, or a tokenizer that does not match it.
    """

    def __init__(self, model: str, *, tokenizer: str | None = None) -> None:
        self.model: PreTrainedModel = _load_model(model)
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(tokenizer or model)
        if len(self.tokenizer) > self.model.config.vocab_size:
            raise InputError(
                f"the tokenizer {tokenizer or model} has {len(self.tokenizer)} tokens but the model {model} only "
                f"{self.model.config.vocab_size} embeddings; pass the tokenizer that the model was trained with"
            )

    @torch.inference_mode()
    def fill(self, text: str, *, top_k: int = 5) -> FilledSentence:
        """Rank the tokens for each [MASK] of one sentence, as ``pipeline("fill-mask")`` does.

        Args:
            text: A sentence with one or more masks, written as the tokenizer's mask token.
            top_k: Number of candidates a mask.

        Raises:
            InputError: No mask in the text, or ``top_k`` below 1 or above the vocabulary.
        """
        mask_token = self.tokenizer.mask_token
        pieces = text.split(mask_token)
        if len(pieces) == 1:
            raise InputError(f"no {mask_token} in {text!r}; write {mask_token} where a token is to be filled in")
        if not 1 <= top_k <= self.model.config.vocab_size:
            raise InputError(
                f"top_k must lie between 1 and the vocabulary's {self.model.config.vocab_size}, got {top_k}"
            )
        inputs = self.tokenizer(text, return_tensors="pt", return_token_type_ids=False)
        masked = inputs["input_ids"] == self.tokenizer.mask_token_id
        logits = self.model(**inputs).logits[masked]  # (masks, vocab_size)
        top = logits.float().softmax(dim=-1).topk(top_k)
        masks = [
            [
                Candidate(token, probability)
                for token, probability in zip(self.tokenizer.convert_ids_to_tokens(ids), probabilities, strict=True)
            ]
            for ids, probabilities in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        ]
        return FilledSentence(text=text, pieces=pieces, masks=masks)


def _load_model(name: str) -> PreTrainedModel:
    try:
        model = AutoModelForMaskedLM.from_pretrained(name)
    except (OSError, ValueError, SafetensorError) as error:
        # transformers explains at length; the first sentence says what is wrong
        reason = " ".join(str(error).split()).split(". ")[0]
        if not Path(name).exists():
            reason = f"there is no such folder here, and the Hugging Face hub gave none ({reason})"
        raise InputError(f"cannot load a masked language model from {name}: {reason}") from error
    return model.eval()
