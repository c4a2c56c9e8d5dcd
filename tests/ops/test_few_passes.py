"""ScaleNorm, the gated norm and SiLU with its cut: written with their derivatives, against their formulas."""

import pytest
import torch
from torch.nn.functional import rms_norm, silu

from flash.ops.gated_norm import gated_rms_norm
from flash.ops.scale_norm import scale_norm
from flash.ops.silu_split import silu_split

from helpers import FLOAT64, normal, relative_error

EPS = 1e-3
WIDTHS = [4, 2, 1]


def scaled(x, scale):
    return scale_norm(x, scale, EPS)


def scaled_formula(x, scale, eps=EPS):
    return x / (x.square().mean(dim=-1, keepdim=True) + eps).sqrt() * scale


def gated(x, gate, weight):
    return gated_rms_norm(x, gate, weight, EPS)


def gated_formula(x, gate, weight, eps=EPS):
    return gate * rms_norm(x, (x.shape[-1],), weight, eps)


def split(x):
    return torch.cat([part * (number + 1) for number, part in enumerate(silu_split(x, WIDTHS))], dim=-1)


def split_formula(x):
    return torch.cat([part * (number + 1) for number, part in enumerate(silu(x).split(WIDTHS, dim=-1))], dim=-1)


CASES = {
    "scale_norm": (scaled, scaled_formula, [(3, 5, 7), (1,)]),
    "gated_norm": (gated, gated_formula, [(3, 5, 7), (3, 5, 7), (7,)]),
    "silu_split": (split, split_formula, [(3, 5, 7)]),
}
for_each_case = pytest.mark.parametrize("name", CASES)


def inputs_of(name, dtype=torch.float64):
    return [normal(*shape, seed=seed).to(dtype).requires_grad_() for seed, shape in enumerate(CASES[name][2])]


@for_each_case
def test_outputs_are_those_of_the_formula_and_gradients_those_of_finite_differences(name):
    function, formula, _ = CASES[name]
    inputs = inputs_of(name)
    torch.testing.assert_close(function(*inputs), formula(*inputs), **FLOAT64)
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


@for_each_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_dtype_errs_at_most_twice_as_much_as_the_formula_in_it(name, dtype):
    function, formula, _ = CASES[name]
    grad = normal(3, 5, 7, seed=9)

    def results(function, inputs):
        out = function(*inputs)
        return [out, *torch.autograd.grad(out, inputs, grad.to(out.dtype))]

    inputs = inputs_of(name, dtype)
    exact = results(formula, [x.detach().double().requires_grad_() for x in inputs])
    for found, plain, true in zip(results(function, inputs), results(formula, inputs), exact, strict=True):
        assert found.dtype == plain.dtype == dtype
        # the formula in few numbers may happen to be exact
        assert relative_error(found, true) <= 2 * relative_error(plain, true) + torch.finfo(dtype).eps


@for_each_case
def test_inputs_that_need_no_gradient_are_left_out_of_second_derivatives(name):
    function, _, _ = CASES[name]
    inputs = inputs_of(name)
    for frozen in inputs[1:]:
        frozen.requires_grad_(False)
        assert torch.autograd.gradgradcheck(function, inputs)
        frozen.requires_grad_()


@for_each_case
def test_function_transforms_give_the_gradients_of_backward(name):
    function, _, _ = CASES[name]
    inputs = inputs_of(name)

    def loss(*inputs):
        return function(*inputs).square().sum()

    places = tuple(range(len(inputs)))
    expected = torch.autograd.grad(loss(*inputs), inputs)
    found = torch.func.grad(loss, argnums=places)(*inputs)
    torch.testing.assert_close(found, expected, **FLOAT64)
    direction = [normal(*x.shape, seed=5) for x in inputs]

    def slope(*inputs):
        gradients = torch.func.grad(loss, argnums=places)(*inputs)
        return sum((x * y).sum() for x, y in zip(gradients, direction, strict=True))

    again = torch.func.grad(slope)(*inputs)
    gradients = torch.autograd.grad(loss(*inputs), inputs, create_graph=True)
    product = sum((x * y).sum() for x, y in zip(gradients, direction, strict=True))
    torch.testing.assert_close(again, torch.autograd.grad(product, inputs)[0], **FLOAT64)


@pytest.mark.usefixtures("without_shape_checks")
@for_each_case
def test_compiled_code_gives_the_same(name):
    function, _, _ = CASES[name]
    inputs = inputs_of(name)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*inputs), function(*inputs), **FLOAT64)


def test_parts_are_contiguous_and_a_square_beyond_half_precision_is_no_trouble():
    parts = silu_split(normal(2, 3, 7), WIDTHS)
    assert [tuple(part.shape) for part in parts] == [(2, 3, 4), (2, 3, 2), (2, 3, 1)]
    assert all(part.is_contiguous() for part in parts)
    large = torch.full((1, 4), 300.0, dtype=torch.float16)
    ones = torch.ones(1, dtype=torch.float16)
    torch.testing.assert_close(scale_norm(large, ones, EPS), torch.ones_like(large))
    torch.testing.assert_close(
        gated_rms_norm(large, torch.ones_like(large), torch.ones(4), EPS), torch.ones_like(large)
    )


def test_a_small_constant_does_not_make_zeros_of_half_precision_infinite():
    x = torch.tensor([[0.0, 0.0, 0.0], [1e-7, -2e-7, 0.0]], dtype=torch.float16, requires_grad=True)
    gate, weight = torch.ones(2, 3, dtype=torch.float16), torch.ones(3)
    out = gated_rms_norm(x, gate, weight, 1e-12)  # 1 / sqrt(1e-12) is beyond float16
    exact = gated_formula(x.detach().double(), gate.double(), weight.double(), 1e-12)
    assert relative_error(out, exact) < 2 * torch.finfo(torch.float16).eps
    assert not out[0].any()


@pytest.mark.parametrize("size", [300.0, 1.0, 1e-6])
def test_the_gradient_of_the_scale_is_summed_in_float32(size):
    x, grad = ((normal(64, 32, seed=seed) * size).half() for seed in (1, 2))
    results = []
    for function, dtype in ((scale_norm, torch.float16), (scaled_formula, torch.float64)):
        leaves = [x.to(dtype).requires_grad_(), torch.ones(1, dtype=torch.float64).requires_grad_()]
        results.append(torch.autograd.grad(function(*leaves, 1e-12), leaves, grad.to(dtype)))
    assert relative_error(results[0][1], results[1][1]) < 1e-5
    assert results[0][0].isfinite().all() == (results[1][0].abs().max() < torch.finfo(torch.float16).max)
