"""Whole-word masking: choose words, hide all their tokens; a pure function of its inputs and the random numbers."""

import numpy as np
from numpy.typing import NDArray


def mask_whole_words(
    input_ids: NDArray[np.integer],
    word_starts: NDArray[np.bool_],
    uniforms: NDArray[np.float64],
    *,
    mask_probability: float,
    special_ids: NDArray[np.integer],
    mask_token_id: int,
    replacement_ids: NDArray[np.integer],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hide each word with the same probability and return the hidden ids and the labels.

    Every word is chosen independently, so each maskable token is scored with probability ``mask_probability`` exactly,
    however long the words are. A chosen token becomes [MASK] (80 %), a random token (10 %) or stays (10 %), each token
    for itself. A word that holds a special token ([CLS], [UNK], ...) is never chosen. Linear in the number of tokens.
    Source: arXiv 1810.04805, section 3.1 (80/10/10); arXiv 1906.08101 (whole words).

    Args:
        input_ids: Token ids of any number of rows, one after the other, shape ``(tokens,)``.
        word_starts: True where a token begins a word, shape ``(tokens,)``; the first of a row always does.
        uniforms: Random numbers in [0, 1), shape ``(tokens, 2)``: whether a word is chosen (that of its first token
            counts) and what a chosen token becomes.
        mask_probability: Share of the words to choose.
        special_ids: Ids that are never masked.
        mask_token_id: Id of [MASK].
        replacement_ids: Ids to draw random tokens from.

    Returns:
        The ids to show the model and the labels: the true id where scored, -100 elsewhere; both ``(tokens,)`` int64.
    """
    word_of_token = np.cumsum(word_starts) - 1
    chosen_words = uniforms[word_starts, 0] < mask_probability
    is_special = np.isin(input_ids, special_ids)
    chosen_words[word_of_token[is_special]] = False
    chosen = chosen_words[word_of_token]

    labels = np.where(chosen, input_ids, -100).astype(np.int64)
    masked_ids = input_ids.astype(np.int64)
    action = uniforms[:, 1]
    masked_ids[chosen & (action < 0.8)] = mask_token_id
    replaced = chosen & (action >= 0.8) & (action < 0.9)
    # within [0.8, 0.9) the number is uniform again: it also picks the replacement
    pick = ((action[replaced] - 0.8) * 10 * len(replacement_ids)).astype(np.int64)
    masked_ids[replaced] = replacement_ids[np.clip(pick, 0, len(replacement_ids) - 1)]
    return masked_ids, labels
