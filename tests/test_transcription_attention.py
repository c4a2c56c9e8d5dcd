"""Facts about the parts of ``transcription_attention``: weights, biases and the token shift."""

import math
from statistics import NormalDist

import pytest
import torch

import transcription
from transcription_attention import bucket, bucketed_bias, clipped_toeplitz_bias, laplace, shift, visible, weights

ROUNDING = {"rtol": 1e-12, "atol": 1e-12}
POSITIONS, KEY_DIM = 12, 4

EVERY_WEIGHT = [
    (function, scale, divisor)
    for function in ("squared_relu", "laplace")
    for scale in ("inverse_length", "inverse_sqrt_dim")
    for divisor in ("constant", "true_length", "row_sum")
] + [(function, "inverse_sqrt_dim", "constant") for function in ("softmax", "entropy_softmax")]


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_visible_is_real_of_one_segment_and_not_later():
    mask, segments = torch.tensor([[0, 1, 1, 1]]), torch.tensor([[1, 1, 1, 2]])
    assert visible(mask)[0].tolist() == [[0, 0, 0, 0]] + 3 * [[0, 1, 1, 1]]
    assert visible(mask, True)[0].tolist() == [[0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 1, 1, 1]]
    assert visible(mask, False, segments)[0].tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]]


# three visible keys, q . k = 2, s = 4, length 8, bias 1/2
BY_HAND = {
    ("inverse_length", "constant"): (2 / 8 + 0.5, 1),
    ("inverse_length", "true_length"): (2 / 3 + 0.5, 1),
    ("inverse_sqrt_dim", "constant"): (2 / 2 + 0.5, 8),
    ("inverse_sqrt_dim", "true_length"): (2 / 2 + 0.5, 3),
}


@pytest.mark.parametrize(("scale", "divisor"), BY_HAND)
@pytest.mark.parametrize("function", ["squared_relu", "laplace"])
def test_scale_and_divisor_by_hand(function, scale, divisor):
    query, key = torch.ones(1, 5, 4).double(), torch.full((1, 5, 4), 0.5).double()
    seen = visible(torch.tensor([[1, 1, 1, 0, 0]]))
    options = {"attention_function": function, "score_scale": scale, "score_divisor": divisor, "length": 8}
    score, outside = BY_HAND[scale, divisor]
    laplace_by_hand = NormalDist(math.sqrt(1 / 2), math.sqrt(1 / (4 * math.pi))).cdf(score)
    value = score**2 if function == "squared_relu" else laplace_by_hand
    matrix = weights(query, key, torch.full((5, 5), 0.5).double(), seen, **options)
    torch.testing.assert_close(matrix, seen.double() * value / outside, **ROUNDING)


@pytest.mark.parametrize(("function", "scale", "divisor"), EVERY_WEIGHT)
def test_rows_sum_to_one_where_something_normalises_them(function, scale, divisor):
    options = {"attention_function": function, "score_scale": scale, "score_divisor": divisor, "length": POSITIONS}
    query, key = 0.5 * normal(2, 2, 6, KEY_DIM)  # laplace of a very low score is 0 by rounding
    seen = visible(torch.tensor([[1] * 6, [1] * 4 + [0] * 2]), causal=True)
    matrix = weights(query, key, normal(6, 6, seed=1), seen, **options)
    assert (matrix >= 0).all()
    assert not matrix[~seen].any()
    sums = matrix.sum(-1)
    if "softmax" in function or divisor == "row_sum":
        assert ((sums - 1).abs().lt(1e-12) | sums.eq(0)).all()
        assert sums[0, -1] > 0
        assert not sums[1, 4:].any()
    else:
        assert (sums[0] - 1).abs().max() > 1e-2


@pytest.mark.parametrize("scale", ["inverse_length", "inverse_sqrt_dim"])
def test_row_sum_keeps_the_proportions_and_forgets_the_divisor(scale):
    query, key = normal(2, 1, 5, KEY_DIM)
    bias, seen = normal(5, 5, seed=1), visible(torch.ones(1, 5))
    options = {"attention_function": "squared_relu", "score_scale": scale, "length": 7}
    constant = weights(query, key, bias, seen, score_divisor="constant", **options)
    row_sum = weights(query, key, bias, seen, score_divisor="row_sum", **options)
    torch.testing.assert_close(row_sum, constant / constant.sum(-1, keepdim=True), **ROUNDING)
    none_positive = weights(query, key, bias - 100, seen, score_divisor="row_sum", **options)
    assert not none_positive.any()


@pytest.mark.parametrize(("bias", "expected"), [(2e-6, 1.0), (5e-7, 0.25)])  # squared: 4e-12 and 1/4 of 1e-12
@pytest.mark.parametrize("scale", ["inverse_length", "inverse_sqrt_dim"])
def test_a_row_is_divided_by_its_sum_but_not_by_less_than_1e_12(scale, bias, expected):
    vector, seen = torch.zeros(1, 1, KEY_DIM).double(), torch.ones(1, 1, 1, dtype=torch.bool)
    options = {"attention_function": "squared_relu", "score_scale": scale, "score_divisor": "row_sum", "length": 99}
    matrix = weights(vector, vector, torch.full((1, 1), bias, dtype=torch.float64), seen, **options)
    torch.testing.assert_close(matrix, torch.full((1, 1, 1), expected).double(), **ROUNDING)


def test_entropy_softmax_is_softmax_at_full_length_and_flatter_below():
    query, key = normal(2, 1, 5, KEY_DIM)
    bias, seen = normal(5, 5, seed=1), visible(torch.ones(1, 5))
    options = {"score_scale": "inverse_sqrt_dim", "score_divisor": "constant"}
    softmax = weights(query, key, bias, seen, attention_function="softmax", length=999, **options)
    torch.testing.assert_close(softmax, torch.softmax(query @ key.mT / 2 + bias, dim=-1), **ROUNDING)
    full = weights(query, key, bias, seen, attention_function="entropy_softmax", length=5, **options)
    torch.testing.assert_close(full, softmax, **ROUNDING)
    half = weights(query, key, bias, seen, attention_function="entropy_softmax", length=25, **options)
    torch.testing.assert_close(half, torch.softmax(query @ key.mT / 4 + bias, dim=-1), **ROUNDING)


def test_laplace_meets_the_square_in_value_and_slope_and_stays_within_one():
    x = torch.tensor(math.sqrt(0.5), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(laplace(x), x)
    assert math.isclose(laplace(x).item(), 0.5, rel_tol=1e-12)
    assert math.isclose(slope.item(), 2 * math.sqrt(0.5), rel_tol=1e-12)
    values = laplace(torch.linspace(-1, 2, 31, dtype=torch.float64))
    assert (values.diff() > 0).all()
    assert 0 < values[0] < 1e-6
    assert 1 - 1e-5 < values[-1] < 1


# the smallest distance of each bucket beyond the exact ones, as T5 has it for 32 buckets up to 128
BOTH_WAYS_STARTS = [8, 12, 16, 23, 32, 46, 64, 91]
CAUSAL_STARTS = [16, 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113]


def test_buckets_are_those_of_t5():
    options = {"buckets": 32, "max_distance": 128}
    for distance in range(300):
        one_side = min(distance, 7) + sum(distance >= start for start in BOTH_WAYS_STARTS)
        assert bucket(-distance, causal=False, **options) == one_side
        assert bucket(distance, causal=False, **options) == one_side + (16 if distance else 0)
        past = min(distance, 15) + sum(distance >= start for start in CAUSAL_STARTS)
        assert bucket(-distance, causal=True, **options) == past
        assert bucket(distance, causal=True, **options) == 0


def test_biases_depend_on_the_distance_alone():
    weight = torch.arange(8.0)
    bucketed = bucketed_bias(weight, 9, buckets=8, max_distance=6, causal=False)
    assert bucketed[0].tolist() == [0, 5, 6, 6, 7, 7, 7, 7, 7]
    assert bucketed[:, 0].tolist() == [0, 1, 2, 2, 3, 3, 3, 3, 3]
    toeplitz = clipped_toeplitz_bias(torch.arange(5.0), 5)
    assert toeplitz[2].tolist() == [0, 1, 2, 3, 4]
    assert toeplitz[0].tolist() == [2, 3, 4, 4, 4]
    for bias in (bucketed, toeplitz):
        assert torch.equal(bias[1:, 1:], bias[:-1, :-1])


def test_shift_takes_nothing_across_padding_or_a_sequence():
    h = torch.tensor([[[1, 10, 100], [2, 20, 200], [3, 30, 300], [4, 40, 400]]]).double()
    mask, segments = torch.tensor([[1, 1, 1, 0]]), torch.tensor([[0, 0, 1, 1]])
    assert shift(h, mask, 1)[0, :3].tolist() == [[0, 20, 100], [1, 30, 200], [2, 0, 300]]
    assert shift(h, mask, 1, segments=segments)[0, :3].tolist() == [[0, 20, 100], [1, 0, 200], [0, 0, 300]]
    packed = shift(h, mask, 1, causal=True, segments=segments)
    assert packed[0, :3].tolist() == [[0, 10, 100], [1, 20, 200], [0, 30, 300]]
    for causal in (False, True):
        expected = transcription.shift_tokens(h, mask, 1, causal=causal)
        assert torch.equal(shift(h, mask, 1, causal=causal), expected)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="1 buckets a side do not divide the distances up to 128"):
        bucket(1, buckets=2, max_distance=128, causal=False)
    with pytest.raises(ValueError, match="two groups of 2 channels do not fit into 3"):
        shift(torch.zeros(1, 2, 3), torch.ones(1, 2), 2)
