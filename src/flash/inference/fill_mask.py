"""Fill the masks of a sentence."""

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from flash.corpus.tokenizer_loading import load_tokenizer
from flash.data.vocabulary_check import check_vocabulary
from flash.errors import InputError
from flash.models.encoder import GatedPreTrainedModel
from flash.models.loading import load_masked_lm
from flash.packaged import PACKAGED_MODEL


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
        model: Hub id or folder of a model with its tokenizer; by default the one that comes with the package.
        tokenizer: Another tokenizer: hub id, folder or vocab.txt.

    Raises:
        InputError: No such model, or a tokenizer that does not match it.
    """

    def __init__(self, model: str = PACKAGED_MODEL, *, tokenizer: str | None = None) -> None:
        self.model: PreTrainedModel = load_masked_lm(model)
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(tokenizer or model)
        check_vocabulary(self.tokenizer, tokenizer or model, model_name=model, vocab_size=self.model.config.vocab_size)

    @torch.inference_mode()
    def fill(self, text: str, *, top_k: int = 5) -> FilledSentence:
        """Rank the tokens for each [MASK] of one sentence, as ``pipeline("fill-mask")`` does.

        Args:
            text: A sentence with one or more masks, written as the tokenizer's mask token.
            top_k: Number of candidates a mask.

        Raises:
            InputError: A text that is not UTF-8, has no mask or is longer than the model reads, or ``top_k`` below 1
                or above the vocabulary.
        """
        _check_is_utf8(text)
        mask_token = self.tokenizer.mask_token
        pieces = text.split(mask_token)
        if len(pieces) == 1:
            raise InputError(f"no {mask_token} in {text!r}; write {mask_token} where a token is to be filled in")
        tokens = len(self.tokenizer)
        if not 1 <= top_k <= tokens:
            raise InputError(f"top_k must lie between 1 and the vocabulary's {tokens}, got {top_k}")
        inputs = self.tokenizer(text, return_tensors="pt", return_token_type_ids=False)
        self._check_length(inputs["input_ids"].shape[1])
        masked = inputs["input_ids"] == self.tokenizer.mask_token_id
        logits = self.model(**inputs).logits[masked]  # (masks, vocab_size)
        # a model may have more embeddings than there are tokens, to fill up a multiple of 8
        top = logits.float().softmax(dim=-1)[:, :tokens].topk(top_k)
        masks = [
            [
                Candidate(token, probability)
                for token, probability in zip(self.tokenizer.convert_ids_to_tokens(ids), probabilities, strict=True)
            ]
            for ids, probabilities in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        ]
        return FilledSentence(text=text, pieces=pieces, masks=masks)

    def _check_length(self, tokens: int) -> None:
        """Refuse what a model of another library has no positions for; those of this one read any length."""
        longest = getattr(self.model.config, "max_position_embeddings", None)
        if longest is not None and tokens > longest and not isinstance(self.model, GatedPreTrainedModel):
            raise InputError(
                f"the text has {tokens} tokens, and this {type(self.model).__name__} reads at most {longest}; "
                "shorten it"
            )


def _check_is_utf8(text: str) -> None:
    """Refuse a text with bytes that were no UTF-8, which Python keeps as lone surrogates."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        shown = text.encode("utf-8", "backslashreplace").decode("utf-8")
        raise InputError(
            f"not UTF-8 at character {error.start + 1} of '{shown}'; convert the text, for example with iconv -t UTF-8"
        ) from error
