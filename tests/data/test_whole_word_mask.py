import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from flash.data.whole_word_mask import mask_tokens
from flash.data.word_spans import reach_probabilities

from helpers import few_examples

PAD, UNKNOWN, MASK = 0, 1, 4
SPECIAL = np.array([PAD, UNKNOWN, 2, 3, MASK])
TEXT = np.arange(5, 50)  # ids of the text; the replacements are others, so that each outcome can be told
REPLACEMENTS = np.arange(50, 90)
IDS = {
    "is_special": torch.arange(90) < 5,
    "mask_token_id": MASK,
    "replacement_ids": torch.from_numpy(REPLACEMENTS),
}


def mask(
    word_lengths: NDArray[np.int64],
    *,
    seed: int = 0,
    mask_probability: float = 0.15,
    input_ids: NDArray | None = None,
    mask_ngrams: int = 1,
) -> tuple[NDArray, NDArray, NDArray]:
    """Mask a row with words of these lengths; return the true ids, the masked ids and the labels."""
    generator = np.random.default_rng(seed)
    length = int(word_lengths.sum())
    if input_ids is None:
        input_ids = generator.choice(TEXT, length)
    masked_ids, labels = mask_tokens(
        torch.from_numpy(input_ids)[None],
        torch.from_numpy(starts_of(word_lengths))[None],
        torch.from_numpy(generator.random((1, length, 2))),
        mask_probability=mask_probability,
        mask_ngrams=mask_ngrams,
        **IDS,
    )
    return input_ids, masked_ids[0].numpy(), labels[0].numpy()


def starts_of(word_lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    word_starts = np.zeros(word_lengths.sum(), dtype=bool)
    word_starts[np.cumsum(word_lengths) - word_lengths] = True
    return word_starts


def five_sigma(probability: float, trials: int) -> float:
    """How far a share of independent trials strays once in two million."""
    return 5 * math.sqrt(probability * (1 - probability) / trials)


@few_examples
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=60),
    st.integers(0, 1000),
    st.sampled_from([0.15, 0.5]),
    st.sampled_from([1, 3]),
)
def test_a_word_is_masked_whole_or_not_at_all(word_lengths, seed, mask_probability, mask_ngrams):
    _, _, labels = mask(np.array(word_lengths), seed=seed, mask_probability=mask_probability, mask_ngrams=mask_ngrams)
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
    masked_ids, labels = mask_tokens(
        torch.tensor([[7]]), torch.tensor([[True]]), torch.tensor([[[0.1, action]]]), mask_probability=0.15, **IDS
    )
    assert (masked_ids.tolist(), labels.tolist()) == ([[shown]], [[7]])


def test_a_generator_gives_the_same_masks_again_and_others_after_that():
    input_ids, word_starts = torch.randint(5, 50, (8, 64)), torch.rand(8, 64) < 0.6
    settings = {"mask_probability": 0.15, **IDS}
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    (one, _), (other, _) = (mask_tokens(input_ids, word_starts, generator, **settings) for generator in generators)
    assert torch.equal(one, other)
    assert not torch.equal(one, mask_tokens(input_ids, word_starts, generators[0], **settings)[0])


# ---- spans of words


def plain_spans(
    word_starts: NDArray[np.bool_], is_special: NDArray[np.bool_], draw: NDArray[np.float64], tables: tuple
) -> list[bool]:
    """Choose the tokens of one row, word by word."""
    words = np.split(np.arange(len(word_starts)), np.flatnonzero(word_starts)[1:])
    chosen = [False] * len(word_starts)
    until = 0  # the first word that no span so far reaches
    for number, tokens in enumerate(words):
        shares = tables[0] if number == 0 else tables[1]
        until = max(until, number + sum(draw[tokens[0]] < share for share in shares))
        if number < until and not is_special[tokens].any():
            for token in tokens:
                chosen[token] = True
    return chosen


@few_examples
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 40), st.integers(1, 4))
def test_the_choice_is_that_of_a_loop_over_words(seed, rows, length, mask_ngrams):
    generator = np.random.default_rng(seed)
    input_ids = generator.integers(0, 50, (rows, length))
    word_starts = generator.random((rows, length)) < 0.6
    word_starts[:, 0] = True
    random = generator.random((rows, length, 2))
    _, labels = mask_tokens(
        *map(torch.from_numpy, (input_ids, word_starts, random)), mask_probability=0.3, mask_ngrams=mask_ngrams, **IDS
    )
    tables = reach_probabilities(0.3, mask_ngrams)
    expected = [
        plain_spans(starts, np.isin(ids, SPECIAL), draw[:, 0], tables)
        for ids, starts, draw in zip(input_ids, word_starts, random, strict=True)
    ]
    assert (labels != -100).tolist() == expected


@pytest.mark.parametrize("mask_ngrams", [2, 3, 6])
def test_every_word_of_a_row_is_masked_at_the_asked_rate_also_in_spans(mask_ngrams):
    rows, words = 60_000, 10
    generator = torch.Generator().manual_seed(mask_ngrams)
    _, labels = mask_tokens(
        torch.full((rows, words), 7),
        torch.ones((rows, words), dtype=torch.bool),
        generator,
        mask_probability=0.15,
        mask_ngrams=mask_ngrams,
        **IDS,
    )
    for share in (labels != -100).double().mean(dim=0):  # the first and the last word as well
        assert abs(share - 0.15) < five_sigma(0.15, rows)


def test_spans_have_the_lengths_of_a_geometric_distribution_cut_off():
    words, rate = 3_000_000, 0.001  # so rarely that spans seldom touch
    _, _, labels = mask(np.ones(words, dtype=int), mask_probability=rate, mask_ngrams=3)
    borders = np.flatnonzero(np.diff(np.concatenate([[False], labels != -100, [False]]).astype(int)))
    lengths = borders[1::2] - borders[::2]
    weights = np.array([1, 0.8, 0.64])
    for length, share in zip((1, 2, 3), weights / weights.sum(), strict=True):
        # touching spans: a share of about 3 * rate
        assert abs((lengths == length).mean() - share) < five_sigma(share, len(lengths)) + 3 * rate


def test_single_words_are_spans_of_one():
    assert reach_probabilities(0.15, 1) == ((pytest.approx(0.15, abs=1e-15),), (pytest.approx(0.15, abs=1e-15),))
