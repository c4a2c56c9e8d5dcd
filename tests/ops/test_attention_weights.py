import math

import pytest
import torch

from flash.ops.attention_weights import WEIGHT_FUNCTIONS, laplace_weights, normalize_rows, softmax_weights
from flash.ops.quadratic_attention import Weighting, quadratic_attention

import transcription_attention
from helpers import FLOAT64, normal

PAIRS = torch.tensor([[True, True, False, True], [False, False, False, False], [True, False, False, False]])[None]
ATTENTIONS = [
    *(
        (function, scale, divisor)
        for function in ("squared_relu", "laplace")
        for scale in ("inverse_length", "inverse_sqrt_dim")
        for divisor in ("constant", "true_length", "row_sum")
    ),
    ("softmax", "inverse_sqrt_dim", "constant"),
    ("entropy_softmax", "inverse_sqrt_dim", "constant"),
]


@pytest.mark.parametrize(("function", "scale", "divisor"), ATTENTIONS)
def test_weights_sums_and_gradients_are_those_of_the_transcription(function, scale, divisor):
    query, key, bias = normal(1, 3, 6), normal(1, 4, 6, seed=1), normal(3, 4, seed=2).abs() + 1
    value = normal(1, 4, 5, seed=3)
    inputs = [x.requires_grad_() for x in (query, key, bias)]
    weighting = Weighting(function, scale, divisor, longest=7, dim=6)
    arguments = weighting.arguments_of_pairs(PAIRS, 4, torch.float64)
    out, weights = quadratic_attention(query, key, value, bias, pairs=PAIRS, **arguments)
    expected = transcription_attention.weights(
        query,
        key,
        bias,
        PAIRS,
        attention_function=function,
        score_scale=scale,
        score_divisor=divisor,
        length=7,
    )
    torch.testing.assert_close(weights, expected, **FLOAT64)
    torch.testing.assert_close(out, expected @ value, **FLOAT64)
    upstream = normal(1, 3, 5, seed=4)
    gradients = torch.autograd.grad(out, inputs, upstream)
    torch.testing.assert_close(gradients, torch.autograd.grad(expected @ value, inputs, upstream), **FLOAT64)
    assert gradients[0].abs().max() > 0
    assert not weights[0, 1].any()  # a query that sees nothing


@pytest.mark.parametrize("function", WEIGHT_FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_row_that_sees_nothing_is_zero_and_so_is_its_gradient(function, dtype):
    scores = normal(1, 3, 4).to(dtype).requires_grad_()
    weights = WEIGHT_FUNCTIONS[function](scores, PAIRS)
    (gradient,) = torch.autograd.grad(weights.float().square().sum(), scores)
    assert not weights[~PAIRS].any()
    assert gradient.isfinite().all()
    assert not gradient[0, 1].any()


def test_softmax_survives_scores_that_overflow_an_exponential():
    weights = softmax_weights(torch.tensor([[[1e4, 0.0, -1e4]]]))
    assert weights.tolist() == [[[1.0, 0.0, 0.0]]]


def test_laplace_meets_the_squared_relu_where_mega_says_so():
    # equal value and slope at sqrt(1/2): arXiv 2209.10655, section 3.3
    score = torch.tensor([[[math.sqrt(0.5)]]], dtype=torch.float64, requires_grad=True)
    weight = laplace_weights(score)
    torch.testing.assert_close(weight.item(), 0.5)
    (slope,) = torch.autograd.grad(weight.sum(), score)
    torch.testing.assert_close(slope.item(), 2 * math.sqrt(0.5))


def test_entropy_scaled_softmax_is_a_plain_one_at_the_trained_length():
    plain, entropy = (
        Weighting(name, "inverse_sqrt_dim", "constant", longest=4, dim=6) for name in ("softmax", "entropy_softmax")
    )
    query, key, value = normal(3, 1, 4, 6)
    results = [quadratic_attention(query, key, value, **w.arguments_of_pairs(None, 4))[1] for w in (plain, entropy)]
    torch.testing.assert_close(*results, **FLOAT64)


def test_a_row_without_weight_stays_zero_under_the_row_sum():
    weights = torch.tensor([[[0.0, 0.0], [1.0, 3.0]]])
    assert normalize_rows(weights).tolist() == [[[0.0, 0.0], [0.25, 0.75]]]


def test_the_constant_divisor_does_not_look_at_the_mask():
    constant = Weighting("squared_relu", "inverse_sqrt_dim", "constant", longest=7, dim=4)
    assert constant.arguments_of_pairs(PAIRS, 4)["divisor"] == 7.0
