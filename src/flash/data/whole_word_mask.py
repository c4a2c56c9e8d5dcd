"""Whole-word masking: choose words, hide all their tokens; pure functions of tensors and random numbers."""

import torch
from torch import Generator, Tensor
from transformers import PreTrainedTokenizerBase

from flash.data.counter_random import uniform_pairs
from flash.data.word_spans import reach_probabilities
from flash.errors import InputError


def mask_tokens(
    input_ids: Tensor,
    word_starts: Tensor,
    random: Tensor | Generator,
    *,
    mask_probability: float,
    is_special: Tensor,
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
        is_special: True at the ids that are never masked, ``(vocabulary,)``.
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
    input_ids = input_ids.long()
    chosen = _choose_words(
        word_starts,
        _look_up(is_special, input_ids),
        word_draw,
        *reach_probabilities(mask_probability, mask_ngrams),
    )
    labels = torch.where(chosen, input_ids, -100)
    # within [0.8, 0.9) the number is uniform again: it also picks the replacement
    pick = (token_draw - 0.8).mul_(10 * len(replacement_ids)).long().clamp_(0, len(replacement_ids) - 1)
    masked_ids = torch.where((token_draw < 0.9).logical_and_(chosen), _look_up(replacement_ids, pick), input_ids)
    return torch.where((token_draw < 0.8).logical_and_(chosen), mask_token_id, masked_ids), labels


def _look_up(table: Tensor, index: Tensor) -> Tensor:
    return table.index_select(0, index.flatten()).view_as(index)  # table[index], in a quarter of its time on a CPU


def _choose_words(
    word_starts: Tensor, is_special: Tensor, draw: Tensor, first: tuple[float, ...], others: tuple[float, ...]
) -> Tensor:
    """Tell which tokens are of chosen words, ``(rows, length)``; see ``reach_probabilities`` for the last two."""
    word_starts = word_starts.clone()
    word_starts[:, 0] = True
    word = word_starts.cumsum(dim=1).sub_(1)  # number of each token's word in its row
    reach = torch.zeros_like(word)
    for at_first, at_others in zip(first, others, strict=True):
        share = torch.full_like(draw[0], at_others)
        share[:1] = at_first
        reach += draw < share
    # at the number of each word: the reach of its first token, and behind the 16th bit how many are special
    reach.mul_(word_starts).add_(is_special, alpha=1 << 16)
    of_words = torch.zeros_like(word).scatter_add_(1, word, reach)
    reach = of_words & 0xFFFF
    reached = reach > 0
    for distance in range(1, len(others)):
        reached[:, distance:] |= reach[:, :-distance] > distance
    return (reached & (of_words < 1 << 16)).gather(1, word)


def kinds_of_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[Tensor, Tensor]:
    """Tell which ids are special, ``(vocabulary,)`` bool, and list those that may stand in for others."""
    is_special = torch.zeros(len(tokenizer), dtype=torch.bool)
    is_special[tokenizer.all_special_ids] = True
    return is_special, (~is_special).nonzero().flatten()


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
        self.is_special, self.replacement_ids = kinds_of_ids(tokenizer)

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Replace ``word_starts`` and ``row_keys``, from which the random numbers come, by ``labels``.

        Args:
            batch: ``input_ids`` and ``word_starts``, ``(rows, length)``; ``row_keys``, ``(rows,)``; other entries stay.
        """
        batch = dict(batch)
        input_ids, keys = batch["input_ids"], batch.pop("row_keys")
        if self.is_special.device != input_ids.device:
            self.is_special = self.is_special.to(input_ids.device)
            self.replacement_ids = self.replacement_ids.to(input_ids.device)
        batch["input_ids"], batch["labels"] = mask_tokens(
            input_ids,
            batch.pop("word_starts"),
            uniform_pairs(keys, input_ids.shape[1]),
            mask_probability=self.mask_probability,
            is_special=self.is_special,
            mask_token_id=self.mask_token_id,
            replacement_ids=self.replacement_ids,
            mask_ngrams=self.mask_ngrams,
        )
        return batch
