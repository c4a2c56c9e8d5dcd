"""Whole-word masking: choose words, hide all their tokens; pure functions of tensors and random numbers."""

import torch
from torch import Generator, Tensor
from transformers import PreTrainedTokenizerBase

from flash.data.counter_random import uniform_numbers
from flash.data.word_spans import reach_probabilities
from flash.errors import InputError


def mask_tokens(
    input_ids: Tensor,
    word_starts: Tensor,
    random: Tensor | Generator,
    *,
    mask_probability: float,
    special_ids: Tensor,
    mask_token_id: int,
    replacement_ids: Tensor,
    mask_ngrams: int = 1,
) -> tuple[Tensor, Tensor]:
    """Hide each word with the same probability and return the hidden ids and the labels.

    Each maskable token is scored with probability ``mask_probability`` exactly, however long the words are: words are
    chosen independently, or in spans of up to ``mask_ngrams`` words that may touch and overlap (``word_spans``). A
    chosen token becomes [MASK] (80 %), a random token (10 %) or stays (10 %), each token for itself. A word that holds
    a special token ([CLS], [UNK], ...) is never chosen; a span passes over it. Linear in the number of tokens, without
    a loop over them, and nothing waits for a device. Source: arXiv 1810.04805, section 3.1 (80/10/10); arXiv
    1906.08101 (whole words).

    Args:
        input_ids: Token ids, ``(rows, length)``, on any device that has float64.
        word_starts: True where a token begins a word, ``(rows, length)``; padding and the first of a row always do.
        random: Random numbers in [0, 1), ``(rows, length, 2)``: whether a word is chosen (that of its first token
            counts) and what a chosen token becomes. Or a generator on the device of ``input_ids`` to draw them from.
        mask_probability: Share of the words to choose.
        special_ids: Ids that are never masked.
        mask_token_id: Id of [MASK].
        replacement_ids: Ids to draw random tokens from.
        mask_ngrams: Most words in a span.

    Returns:
        The ids to show the model and the labels: the true id where scored, -100 elsewhere; both ``(rows, length)``
        int64.
    """
    if isinstance(random, Generator):
        random = torch.rand(*input_ids.shape, 2, generator=random, device=input_ids.device, dtype=torch.float64)
    word_draw, token_draw = random.unbind(dim=-1)
    chosen = _choose_words(
        word_starts,
        torch.isin(input_ids, special_ids),
        word_draw,
        *reach_probabilities(mask_probability, mask_ngrams),
    )
    input_ids = input_ids.long()
    labels = input_ids.masked_fill(~chosen, -100)
    # within [0.8, 0.9) the number is uniform again: it also picks the replacement
    pick = ((token_draw - 0.8) * (10 * len(replacement_ids))).long().clamp(0, len(replacement_ids) - 1)
    masked_ids = torch.where(chosen & (token_draw < 0.9), replacement_ids[pick], input_ids)
    return masked_ids.masked_fill(chosen & (token_draw < 0.8), mask_token_id), labels


def _choose_words(
    word_starts: Tensor, is_special: Tensor, draw: Tensor, first: tuple[float, ...], others: tuple[float, ...]
) -> Tensor:
    """Tell which tokens are of chosen words, ``(rows, length)``; see ``reach_probabilities`` for the last two."""
    word_starts = word_starts.clone()
    word_starts[:, 0] = True
    word = word_starts.long().cumsum(dim=1) - 1  # number of each token's word in its row

    def most_of_each_word(values: Tensor) -> Tensor:  # at the number of the word
        return torch.zeros_like(word).scatter_reduce(1, word, values, "amax")

    reach = torch.zeros_like(word)
    for first_share, share in zip(first, others, strict=True):
        reach[:, :1] += draw[:, :1] < first_share
        reach[:, 1:] += draw[:, 1:] < share
    reach = most_of_each_word(reach * word_starts)
    reached = reach > 0
    for distance in range(1, len(others)):
        reached[:, distance:] |= reach[:, :-distance] > distance
    maskable = most_of_each_word(is_special.long()) == 0
    return (reached & maskable).gather(1, word)


class WholeWordMasker:
    """Mask the batches of a collator, in a loader's worker or on the device of the model: both hide the same tokens.

    Args:
        tokenizer: Gives the ids of [MASK] and of the special tokens.
        mask_probability: Share of the words to hide.
        mask_ngrams: Most words in a span of hidden words; 1 chooses words independently.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, *, mask_probability: float = 0.15, mask_ngrams: int = 1
    ) -> None:
        if not 0.0 < mask_probability < 1.0:
            raise InputError(f"mask_probability must lie between 0 and 1, got {mask_probability}; 0.15 is BERT's")
        if mask_ngrams < 1:
            raise InputError(f"mask_ngrams must be at least 1, got {mask_ngrams}; 1 hides single words")
        self.mask_probability = mask_probability
        self.mask_ngrams = mask_ngrams
        self.mask_token_id: int = tokenizer.mask_token_id
        self.special_ids = torch.tensor(sorted(tokenizer.all_special_ids))
        ids = torch.arange(len(tokenizer))
        self.replacement_ids = ids[~torch.isin(ids, self.special_ids)]

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Replace ``word_starts`` and ``row_keys``, from which the random numbers come, by ``labels``.

        Args:
            batch: ``input_ids`` and ``word_starts``, ``(rows, length)``; ``row_keys``, ``(rows,)``; other entries stay.
        """
        batch = dict(batch)
        input_ids, keys = batch["input_ids"], batch.pop("row_keys")
        if self.special_ids.device != input_ids.device:
            self.special_ids = self.special_ids.to(input_ids.device)
            self.replacement_ids = self.replacement_ids.to(input_ids.device)
        rows, length = input_ids.shape
        batch["input_ids"], batch["labels"] = mask_tokens(
            input_ids,
            batch.pop("word_starts"),
            uniform_numbers(keys, 2 * length).view(rows, length, 2),
            mask_probability=self.mask_probability,
            special_ids=self.special_ids,
            mask_token_id=self.mask_token_id,
            replacement_ids=self.replacement_ids,
            mask_ngrams=self.mask_ngrams,
        )
        return batch
