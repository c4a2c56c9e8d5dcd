import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from flash.data.whole_word_mask import mask_whole_words

from helpers import few_examples

PAD, UNKNOWN, MASK = 0, 1, 4
SPECIAL = np.array([PAD, UNKNOWN, 2, 3, MASK])
TEXT = np.arange(5, 50)  # ids of the text; the replacements are others, so that each outcome can be told
REPLACEMENTS = np.arange(50, 90)


def mask(
    word_lengths: NDArray[np.int64], *, seed: int = 0, mask_probability: float = 0.15, input_ids: NDArray | None = None
) -> tuple[NDArray, NDArray, NDArray]:
    """Mask words of these lengths; return the true ids, the masked ids and the labels."""
    generator = np.random.default_rng(seed)
    length = int(word_lengths.sum())
    if input_ids is None:
        input_ids = generator.choice(TEXT, length)
    word_starts = np.zeros(length, dtype=bool)
    word_starts[np.cumsum(word_lengths) - word_lengths] = True
    masked_ids, labels = mask_whole_words(
        input_ids,
        word_starts,
        generator.random((length, 2)),
        mask_probability=mask_probability,
        special_ids=SPECIAL,
        mask_token_id=MASK,
        replacement_ids=REPLACEMENTS,
    )
    return input_ids, masked_ids, labels


def five_sigma(probability: float, trials: int) -> float:
    """How far a share of independent trials strays once in two million."""
    return 5 * math.sqrt(probability * (1 - probability) / trials)


@few_examples
@given(st.lists(st.integers(1, 6), min_size=1, max_size=60), st.integers(0, 1000), st.sampled_from([0.15, 0.5]))
def test_a_word_is_masked_whole_or_not_at_all(word_lengths, seed, mask_probability):
    _, _, labels = mask(np.array(word_lengths), seed=seed, mask_probability=mask_probability)
    for word in np.split(labels != -100, np.cumsum(word_lengths)[:-1]):
        assert word.all() or not word.any()


@pytest.mark.parametrize("mask_probability", [0.15, 0.4])
def test_words_of_every_length_are_chosen_at_the_asked_rate(mask_probability):
    word_lengths = np.random.default_rng(1).integers(1, 7, 60_000)
    _, _, labels = mask(word_lengths, mask_probability=mask_probability)
    chosen = (labels != -100)[np.cumsum(word_lengths) - word_lengths]
    for length in range(1, 7):
        of_this_length = chosen[word_lengths == length]
        assert abs(of_this_length.mean() - mask_probability) < five_sigma(mask_probability, len(of_this_length))


def test_tokens_are_scored_at_the_asked_rate_though_long_words_go_together():
    word_lengths = np.concatenate([np.full(20_000, 1), np.full(2_000, 10)])
    _, _, labels = mask(word_lengths)
    tokens = word_lengths.sum()
    # the variance of a sum of words, each counted with its length
    tolerance = 5 * math.sqrt(0.15 * 0.85 * (word_lengths**2).sum()) / tokens
    assert abs((labels != -100).mean() - 0.15) < tolerance


def test_scored_tokens_are_hidden_replaced_or_kept_80_10_10():
    true_ids, masked_ids, labels = mask(np.full(150_000, 2))
    shown, true = masked_ids[labels != -100], true_ids[labels != -100]
    for outcome, share in ((shown == MASK, 0.8), (np.isin(shown, REPLACEMENTS), 0.1), (shown == true, 0.1)):
        assert abs(outcome.mean() - share) < five_sigma(share, len(shown))


def test_replacements_are_drawn_evenly():
    _, masked_ids, _ = mask(np.full(800_000, 1), mask_probability=0.5)
    drawn = masked_ids[np.isin(masked_ids, REPLACEMENTS)]
    share = 1 / len(REPLACEMENTS)
    for replacement in REPLACEMENTS:
        assert abs((drawn == replacement).mean() - share) < five_sigma(share, len(drawn))


def test_tokens_of_one_word_get_their_outcomes_independently():
    true_ids, masked_ids, labels = mask(np.full(100_000, 2))
    kept = ((masked_ids == true_ids) & (labels != -100)).reshape(-1, 2)
    chosen = (labels != -100).reshape(-1, 2)[:, 0]
    both_kept = kept[chosen].all(axis=1)
    assert abs(both_kept.mean() - 0.01) < five_sigma(0.01, len(both_kept))


def test_words_that_hold_a_special_token_are_never_scored():
    word_lengths = np.full(40_000, 3)
    input_ids = np.random.default_rng(2).choice(TEXT, word_lengths.sum())
    for place, special in enumerate(SPECIAL):
        input_ids[3 * place * 1000 + place % 3 :: 3 * 7000] = special  # at the word's start, middle and end
    words_with_special = np.isin(input_ids, SPECIAL).reshape(-1, 3).any(axis=1)
    assert words_with_special.sum() > 25
    _, masked_ids, labels = mask(word_lengths, mask_probability=0.9, input_ids=input_ids)
    assert not (labels != -100).reshape(-1, 3)[words_with_special].any()
    np.testing.assert_array_equal(
        masked_ids.reshape(-1, 3)[words_with_special], input_ids.reshape(-1, 3)[words_with_special]
    )


def test_other_words_keep_their_rate_beside_special_tokens():
    input_ids = np.random.default_rng(3).choice(TEXT, 100_000)
    input_ids[::2] = UNKNOWN
    _, _, labels = mask(np.ones(100_000, dtype=int), input_ids=input_ids)
    assert abs((labels[1::2] != -100).mean() - 0.15) < five_sigma(0.15, 50_000)


def test_tokens_that_are_not_scored_are_shown_as_they_are():
    true_ids, masked_ids, labels = mask(np.random.default_rng(4).integers(1, 5, 5_000))
    scored = labels != -100
    assert 0 < scored.sum() < len(scored)
    np.testing.assert_array_equal(masked_ids[~scored], true_ids[~scored])
    np.testing.assert_array_equal(labels[scored], true_ids[scored])


def test_the_inputs_are_left_as_they_are():
    input_ids = np.full(1000, 7, dtype=np.int64)
    mask(np.ones(1000, dtype=int), input_ids=input_ids)
    assert (input_ids == 7).all()


@pytest.mark.parametrize(
    ("action", "shown"),
    [
        (0.0, MASK),
        (np.nextafter(0.8, 0), MASK),
        (0.8, REPLACEMENTS[0]),
        (np.nextafter(0.9, 0), REPLACEMENTS[-1]),
        (0.9, 7),
        (np.nextafter(1.0, 0), 7),
    ],
)
def test_the_borders_of_the_outcomes(action, shown):
    masked_ids, labels = mask_whole_words(
        np.array([7]),
        np.array([True]),
        np.array([[0.1, action]]),
        mask_probability=0.15,
        special_ids=SPECIAL,
        mask_token_id=MASK,
        replacement_ids=REPLACEMENTS,
    )
    assert (masked_ids.tolist(), labels.tolist()) == ([shown], [7])
