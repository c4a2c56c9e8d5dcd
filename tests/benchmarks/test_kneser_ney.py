"""The n-gram baseline: the textbook's probabilities, and predictions from the masked row alone."""

import itertools
from collections import Counter, defaultdict

import numpy as np
import pytest

from flash.errors import InputError

from kneser_ney import UNKNOWN, KneserNeyModel, modified_discounts
from one_sided import LeftToRightFilter
from two_sided import CLASSES, combine, fit_exponents, predict_from_both_sides

START, END, MASK, FIRST_RARE, VOCAB_SIZE = 0, 1, 2, 24, 40
ORDER = 4
PREDICTABLE = ~np.isin(np.arange(VOCAB_SIZE), [START, MASK])
FILLABLE = np.arange(3, VOCAB_SIZE)


def random_rows(seed: int = 0, count: int = 400) -> list[list[int]]:
    """Rows in which a token depends on the one before it, with a few tokens that occur one to four times."""
    generator = np.random.default_rng(seed)
    rows = []
    for length in generator.integers(0, 18, count):
        row, token = [START], 0
        for _ in range(length):
            token = (token * 3 + min(generator.zipf(1.6), 40)) % (FIRST_RARE - 3)
            row.append(3 + int(token))
        rows.append([*row, END])
    for token in range(FIRST_RARE, VOCAB_SIZE):
        for _ in range((1, 1, 2, 3, 4)[token % 5]):
            row = rows[generator.integers(count)]
            row.insert(generator.integers(1, len(row)), token)
    return rows


def train(rows: list[list[int]], order: int = ORDER, predictable: np.ndarray = PREDICTABLE) -> KneserNeyModel:
    return KneserNeyModel(np.concatenate(rows), np.array([len(r) for r in rows]), predictable=predictable, order=order)


def contexts_of(rows: list[list[int]], width: int) -> np.ndarray:
    padded = ([UNKNOWN] * width + row for row in rows)
    return np.array([row[t - width : t] for row in padded for t in range(width + 1, len(row))])


def textbook(rows: list[list[int]], order: int):
    """Interpolated modified Kneser-Ney with dictionaries of tuples; returns P(token, context)."""
    raw = [Counter(tuple(r[i : i + k]) for r in rows for i in range(len(r) - k + 1)) for k in range(order + 1)]
    adjusted: list[Counter] = [Counter() for _ in range(order + 1)]
    adjusted[order] = raw[order]
    for k in range(1, order):
        for gram in raw[k + 1]:
            adjusted[k][gram[1:]] += 1
        for row in rows:
            if len(row) >= k:
                adjusted[k][tuple(row[:k])] += 1
    del adjusted[1][(START,)]

    discounts, followers = [None], [None]
    for k in range(1, order + 1):
        n = Counter(adjusted[k].values())
        y = n[1] / (n[1] + 2 * n[2])
        discounts.append([0, *(i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3))])
        of_context = defaultdict(dict)
        for gram, count in adjusted[k].items():
            of_context[gram[:-1]][gram[-1]] = count
        followers.append(of_context)

    def probability(token: int, context: tuple[int, ...]) -> float:
        k = len(context) + 1
        lower = probability(token, context[1:]) if context else PREDICTABLE[token] / PREDICTABLE.sum()
        counts = followers[k].get(context)
        if counts is None:
            return lower
        total = sum(counts.values())
        taken = sum(discounts[k][min(count, 3)] for count in counts.values())
        count = counts.get(token, 0)
        return (count - discounts[k][min(count, 3)]) / total + taken / total * lower

    return probability


def test_probabilities_are_those_of_the_textbook():
    rows = random_rows()
    model, probability = train(rows), textbook(rows, ORDER)
    generator = np.random.default_rng(1)
    contexts = generator.permutation(contexts_of(rows, ORDER - 1))[:150]
    distributions = model.distributions(contexts)
    for context, distribution in zip(contexts, distributions, strict=True):
        known = tuple(token for token in context.tolist() if token != UNKNOWN)
        expected = [probability(token, known) for token in range(VOCAB_SIZE)]
        np.testing.assert_allclose(distribution, expected, rtol=1e-12, atol=1e-15)


def test_the_estimated_discounts_are_in_force_in_these_tests():
    model = train(random_rows())
    discounts = [model.unigram_discounts, *(level.discounts for level in model.levels)]
    assert not any(np.array_equal(of_level, [0, 0.5, 1, 1.5]) for of_level in discounts)


@pytest.mark.parametrize("order", [2, 3, 5])
def test_every_distribution_is_positive_and_sums_to_one(order: int):
    model = train(random_rows(), order)
    contexts = np.random.default_rng(2).integers(UNKNOWN, VOCAB_SIZE, (500, order - 1))
    contexts = np.concatenate([contexts, contexts_of(random_rows(), order - 1)[:500]])
    distributions = model.distributions(contexts)
    np.testing.assert_allclose(distributions.sum(axis=1), 1, rtol=0, atol=1e-9)
    assert distributions[:, PREDICTABLE].min() > 0


def test_probabilities_of_single_tokens_are_those_of_the_distribution():
    model = train(random_rows())
    generator = np.random.default_rng(3)
    contexts = generator.permutation(contexts_of(random_rows(), ORDER - 1))[:300]
    tokens = generator.integers(0, VOCAB_SIZE, (300, 6))
    expected = np.take_along_axis(model.distributions(contexts), tokens, axis=1)
    np.testing.assert_allclose(model.probabilities(contexts, tokens), expected, rtol=1e-12)


def test_a_mixture_is_the_weighted_sum_of_its_distributions():
    model = train(random_rows())
    contexts = contexts_of(random_rows(), ORDER - 1)[:60]
    weights = np.random.default_rng(4).random(60)
    expected = (weights[:, None] * model.distributions(contexts)).reshape(20, 3, VOCAB_SIZE).sum(axis=1)
    np.testing.assert_allclose(model.mixtures(contexts, weights, np.repeat(np.arange(20), 3), 20), expected, rtol=1e-12)


def test_an_unknown_token_hides_all_tokens_before_it():
    model = train(random_rows())
    hidden = np.array([[5, UNKNOWN, 7], [UNKNOWN, UNKNOWN, 7]])
    first, second = model.distributions(hidden)
    np.testing.assert_array_equal(first, second)


def test_where_nothing_is_known_the_frequencies_decide():
    rows = random_rows()
    counts = np.bincount(np.concatenate(rows), minlength=VOCAB_SIZE) + 0.5
    expected = np.where(PREDICTABLE, counts, 0) / counts[PREDICTABLE].sum()
    nothing_known = np.array([[5, 6, UNKNOWN]])
    np.testing.assert_allclose(train(rows).distributions(nothing_known)[0], expected, rtol=1e-12)


def test_a_cycle_is_predicted_with_near_certainty():
    cycle = [3, 4, 5, 6, 7]
    rows = [[START, *np.roll(cycle, shift).tolist() * 20, END] for shift in range(5)]
    model = train(rows)
    contexts = np.array([np.roll(cycle * 2, shift)[:3] for shift in range(5)])
    following = np.array([np.roll(cycle * 2, shift)[3:4] for shift in range(5)])
    assert model.probabilities(contexts, following).min() > 0.98


def test_a_corpus_too_small_for_the_estimate_takes_the_fallback_discounts():
    np.testing.assert_array_equal(modified_discounts(np.array([1, 1, 2, 3])), [0, 0.5, 1, 1.5])
    counts = np.array([1] * 8 + [2] * 4 + [3] * 2 + [4])
    y = 8 / 16
    np.testing.assert_allclose(modified_discounts(counts), [0, 1 - 2 * y * 4 / 8, 2 - 3 * y * 2 / 4, 3 - 4 * y * 1 / 2])


def test_wrong_orders_and_tokens_are_refused():
    with pytest.raises(InputError, match="at least 2, got 1"):
        train(random_rows(), order=1)
    with pytest.raises(InputError, match=r"0 \.\.\. 4, got 0 \.\.\. 39"):
        train(random_rows(), predictable=np.ones(5, dtype=bool))


def filters(rows: list[list[int]], beam_width: int) -> tuple[LeftToRightFilter, LeftToRightFilter]:
    backward = PREDICTABLE.copy()
    backward[[START, END]] = True, False
    models = train(rows), train([row[::-1] for row in rows], predictable=backward)
    return tuple(
        LeftToRightFilter(model, fillable_ids=FILLABLE, mask_token_id=MASK, beam_width=beam_width) for model in models
    )


def padded(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.array([len(row) for row in rows])
    return np.array([row + [9] * (lengths.max() - len(row)) for row in rows]), lengths


def exact_prediction(model: KneserNeyModel, row: list[int], position: int) -> np.ndarray:
    """P(fillable token at a position | visible tokens before it), summed over all fills of the masks before it."""
    total = np.zeros(VOCAB_SIZE)
    masks = [t for t in range(position) if row[t] == MASK]
    for fill in itertools.product(FILLABLE.tolist(), repeat=len(masks)):
        filled = [UNKNOWN] * (ORDER - 1) + row
        for t, token in zip(masks, fill, strict=True):
            filled[t + ORDER - 1] = token
        contexts = np.array([filled[t : t + ORDER - 1] for t in range(1, position + 1)])
        tokens = np.array([filled[t + ORDER - 1] for t in range(1, position)], dtype=np.int64)
        joint = np.prod(model.probabilities(contexts[:-1], tokens[:, None]))
        total += joint * model.distributions(contexts[-1:])[0]
    return total[FILLABLE] / total[FILLABLE].sum()


@pytest.mark.parametrize(
    "row", [[START, 4, MASK, MASK, MASK, 8, END], [START, MASK, 5, 7, MASK, END], [START, 6, MASK, MASK, 3, MASK, END]]
)
def test_a_beam_of_all_hypotheses_sums_over_all_fills(row: list[int]):
    forward, _ = filters(random_rows(), beam_width=len(FILLABLE) ** 2)
    ids, lengths = padded([row])
    numbers = np.where(ids == MASK, np.cumsum(ids == MASK) - 1, -1)
    predictions = forward.predict(ids, lengths, numbers)
    for position in np.flatnonzero(ids[0] == MASK):
        expected = exact_prediction(forward.model, row, position)
        np.testing.assert_allclose(np.exp(predictions[numbers[0, position]]), expected, rtol=1e-5)


def test_without_a_beam_a_context_stops_at_a_mask():
    (forward, _), row = filters(random_rows(), beam_width=0), [START, 5, MASK, MASK, 7, 8, END]
    ids, lengths = padded([row])
    numbers = np.array([[-1, -1, 0, 1, -1, 2, -1]])
    predictions = np.exp(forward.predict(ids, lengths, numbers))
    model = forward.model
    expected = np.stack(
        [
            model.distributions(np.array([[UNKNOWN, START, 5]]))[0],
            model.frequencies,
            model.distributions(np.array([[UNKNOWN, UNKNOWN, 7]]))[0],
        ]
    )[:, FILLABLE]
    np.testing.assert_allclose(predictions, expected / expected.sum(axis=1, keepdims=True), rtol=1e-5)


def masked_rows(seed: int, rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Masked ids, scored positions and true tokens; a quarter of the scored tokens shows a random token or itself."""
    generator = np.random.default_rng(seed)
    truth, lengths = padded(rows)
    inside = (np.arange(truth.shape[1]) > 0) & (np.arange(truth.shape[1]) < lengths[:, None] - 1)
    scored = inside & (generator.random(truth.shape) < 0.3)
    shown = generator.random(truth.shape)
    ids = np.where(scored & (shown < 0.8), MASK, truth)
    ids = np.where(scored & (shown >= 0.9), generator.choice(FILLABLE, truth.shape), ids)
    return ids, scored, truth


@pytest.mark.parametrize("beam_width", [0, 4])
def test_rows_are_filled_the_same_alone_and_in_any_batch(beam_width: int):
    forward, backward = filters(random_rows(), beam_width)
    rows = [row for row in random_rows(5, 40) if len(row) > 4]
    ids, scored, _ = masked_rows(6, rows)
    lengths = np.array([len(row) for row in rows])
    together = predict_from_both_sides(forward, backward, ids, lengths, scored)
    start = 0
    for row in range(len(rows)):
        n = lengths[row]
        alone = predict_from_both_sides(
            forward, backward, ids[row : row + 1, :n], lengths[row : row + 1], scored[row : row + 1, :n]
        )
        end = start + len(alone.classes)
        np.testing.assert_allclose(alone.forward, together.forward[start:end], rtol=1e-5)
        np.testing.assert_allclose(alone.backward, together.backward[start:end], rtol=1e-5)
        np.testing.assert_array_equal(alone.classes, together.classes[start:end])
        start = end
    assert start == len(together.classes)


def test_the_backward_side_is_the_forward_side_of_the_mirrored_rows():
    rows = [row for row in random_rows(5, 40) if len(row) > 4]
    forward, backward = filters(random_rows(), 4)
    ids, scored, _ = masked_rows(6, rows)
    lengths = np.array([len(row) for row in rows])
    sides = predict_from_both_sides(forward, backward, ids, lengths, scored)
    mirrored_ids, mirrored_scored = ids.copy(), scored.copy()
    for row, n in enumerate(lengths):
        mirrored_ids[row, :n], mirrored_scored[row, :n] = ids[row, :n][::-1], scored[row, :n][::-1]
    mirrored = predict_from_both_sides(backward, forward, mirrored_ids, lengths, mirrored_scored)
    starts = np.cumsum(scored.sum(axis=1))[:-1]
    for ours, theirs in zip(np.split(sides.backward, starts), np.split(mirrored.forward, starts), strict=True):
        np.testing.assert_allclose(ours, theirs[::-1], rtol=1e-5)


def test_a_position_is_of_the_class_of_its_neighbours():
    forward, backward = filters(random_rows(), 4)
    ids, lengths = padded([[START, 4, MASK, MASK, MASK, 8, MASK, END]])
    sides = predict_from_both_sides(forward, backward, ids, lengths, ids == MASK)
    names = [CLASSES[number] for number in sides.classes]
    assert names == ["right one masked", "both masked", "left one masked", "both neighbours visible"]


def test_a_shown_token_is_weighed_as_the_masking_prescribes():
    forward, backward = filters(random_rows(), 4)
    ids, lengths = padded([[START, 4, 9, 6, END]])
    sides = predict_from_both_sides(forward, backward, ids, lengths, np.array([[False, False, True, False, False]]))
    log_unigram = np.log(forward.model.frequencies[FILLABLE]).astype(np.float32)
    ones = np.ones((len(CLASSES), 3))
    prior = np.exp(combine(sides, log_unigram, ones, np.array([-1])))[0]
    shown = int(np.flatnonzero(FILLABLE == 9)[0])
    likelihood = np.full(len(FILLABLE), 0.1 / len(FILLABLE))
    likelihood[shown] += 0.1
    posterior = np.exp(combine(sides, log_unigram, ones, np.array([shown])))[0]
    np.testing.assert_allclose(posterior, prior * likelihood / (prior * likelihood).sum(), rtol=1e-4)


def test_fitted_exponents_lose_less_than_any_others_near_them():
    forward, backward = filters(random_rows(), 4)
    rows = [row for row in random_rows(7, 200) if len(row) > 4]
    ids, scored, truth = masked_rows(8, rows)
    scored &= ids == MASK
    sides = predict_from_both_sides(forward, backward, ids, np.array([len(row) for row in rows]), scored)
    log_unigram = np.log(forward.model.frequencies[FILLABLE]).astype(np.float32)
    targets = np.searchsorted(FILLABLE, truth[scored])
    exponents = fit_exponents(sides, log_unigram, targets)

    def penalised_loss(values: np.ndarray) -> float:
        predictions = combine(sides, log_unigram, values, np.full(len(targets), -1))
        return -predictions[np.arange(len(targets)), targets].sum() + ((values - 1) ** 2).sum() / 2

    best = penalised_loss(exponents)
    assert best < penalised_loss(np.ones_like(exponents))
    for cell in np.ndindex(exponents.shape):
        for step in (-0.03, 0.03):
            nearby = exponents.copy()
            nearby[cell] += step
            assert penalised_loss(nearby) > best
