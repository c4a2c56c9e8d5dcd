import pytest
import torch

from flash.layers.norms import NORM_TYPES, RMSNorm, ScaleNorm, build_norm

import transcription
from helpers import FLOAT64, normal

EPS = 1e-3


def random_norm(norm_type, dtype=torch.float64):
    norm = build_norm(norm_type, 6, EPS).to(dtype)
    for index, parameter in enumerate(norm.parameters()):
        parameter.data = 1 + 0.3 * normal(*parameter.shape, seed=index).to(dtype)
    return norm


def by_formula(norm, x):
    """The formula of the norm, from the transcription where it has it."""
    if isinstance(norm, ScaleNorm):
        return transcription.scale_norm(x, norm.scale, EPS)
    if isinstance(norm, RMSNorm):
        return transcription.scale_norm(x, norm.weight, EPS)  # with one gain a channel
    return transcription.layer_norm(x, norm.weight, norm.bias, EPS)


@pytest.mark.parametrize("norm_type", NORM_TYPES)
def test_output_and_gradients_are_those_of_the_formula(norm_type):
    norm = random_norm(norm_type)
    x = normal(2, 5, 6).requires_grad_()
    upstream = normal(2, 5, 6, seed=1)
    output, expected = norm(x), by_formula(norm, x)
    torch.testing.assert_close(output, expected, **FLOAT64)
    inputs = [x, *norm.parameters()]
    gradients = torch.autograd.grad(output, inputs, upstream)
    torch.testing.assert_close(gradients, torch.autograd.grad(expected, inputs, upstream), **FLOAT64)


@pytest.mark.parametrize(("norm_type", "count"), [("scale_norm", 1), ("layer_norm", 12), ("rms_norm", 6)])
def test_a_fresh_norm_has_unit_gain_and_no_offset(norm_type, count):
    norm = build_norm(norm_type, 6, 1e-12)
    assert sum(parameter.numel() for parameter in norm.parameters()) == count
    output = norm(normal(4, 6).float())
    torch.testing.assert_close(output.square().mean(dim=-1), torch.ones(4))


@pytest.mark.parametrize("norm_type", NORM_TYPES)
def test_a_vector_of_zeros_gives_a_finite_output_and_gradient(norm_type):
    norm = random_norm(norm_type)
    x = torch.zeros(1, 6, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(norm(x).sum(), x)
    assert norm(x).isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("norm_type", ["scale_norm", "rms_norm"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_has_a_float32_statistic_and_keeps_its_dtype(norm_type, dtype):
    norm = random_norm(norm_type, dtype=torch.float32)
    # the mean square of these overflows float16, and 1e4 is no rounding error away from it in bfloat16
    x = (300.0 * normal(4, 6)).to(dtype)
    output = norm(x)
    assert output.dtype == dtype
    expected = by_formula(norm.double(), x.double())
    torch.testing.assert_close(output.double(), expected, rtol=torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("norm_type", NORM_TYPES)
def test_a_norm_in_half_precision_has_no_overflow(norm_type, dtype):
    norm = build_norm(norm_type, 6, 1e-5).to(dtype)
    output = norm(torch.tensor([[300.0, -300, 300, -300, 300, -300]], dtype=dtype))
    torch.testing.assert_close(output.abs(), torch.ones(1, 6, dtype=dtype))


def test_an_unknown_norm_is_refused_by_name():
    with pytest.raises(ValueError, match="norm_type must be one of scale_norm, layer_norm, rms_norm, got 'batch'"):
        build_norm("batch", 6, 1e-5)


def test_the_printed_model_shows_the_constant_of_scale_norm():
    assert repr(ScaleNorm(1e-5)) == "ScaleNorm(eps=1e-05)"
