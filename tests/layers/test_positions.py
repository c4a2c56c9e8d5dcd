import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flash.layers.positions import RotaryProductBias, ScaledSinusoid, ToeplitzBias

import transcription
from helpers import FLOAT64, few_examples, normal


@pytest.mark.parametrize("dim", [2, 4, 16])
def test_sinusoid_is_the_table_of_the_transcription_times_one_scalar(dim):
    sinusoid = ScaledSinusoid(dim).double()
    sinusoid.scale.data.fill_(1.7)
    expected = 1.7 * transcription.sinusoid_table(50, dim)
    torch.testing.assert_close(sinusoid(torch.arange(50)), expected, **FLOAT64)


def test_the_scalar_starts_at_one_over_the_root_of_the_width_and_trains():
    sinusoid = ScaledSinusoid(16)
    assert sinusoid.scale.tolist() == [0.25]
    sinusoid(torch.arange(3)).sum().backward()
    assert sinusoid.scale.grad.abs() > 0


@few_examples
@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=6))
def test_any_position_has_an_embedding_that_no_other_position_changes(positions):
    sinusoid = ScaledSinusoid(8).double()
    together = sinusoid(torch.tensor([positions, positions[::-1]]))
    assert together.shape == (2, len(positions), 8)
    for index, position in enumerate(positions):
        alone = sinusoid(torch.tensor([position]))[0]
        torch.testing.assert_close(together[0, index], alone, **FLOAT64)
        torch.testing.assert_close(together[1, -1 - index], alone, **FLOAT64)
        # the same formula in Python numbers, with the first frequency 1
        expected = torch.tensor(position, dtype=torch.float64).sin() * sinusoid.scale
        torch.testing.assert_close(alone[:1], expected, **FLOAT64)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_models_still_tell_neighbouring_positions_apart(dtype):
    # 511 and 512 are one number in bfloat16, so the angles must not be computed in it
    embedded = ScaledSinusoid(8).to(dtype)(torch.tensor([511, 512]))
    assert embedded.dtype == dtype
    exact = ScaledSinusoid(8).double()(torch.tensor([511, 512])).detach()
    torch.testing.assert_close(embedded.double(), exact, rtol=0, atol=2 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("length", [1, 5, 6])
def test_toeplitz_module_lays_its_weights_as_the_transcription_does(length):
    bias = ToeplitzBias(6).double()
    assert bias.weight.shape == (11,)
    bias.weight.data = normal(11)
    assert torch.equal(bias(length), transcription.toeplitz_bias(bias.weight, length, 6))


def test_rotary_product_module_multiplies_its_two_vectors():
    bias = RotaryProductBias(8).double()
    bias.left.data, bias.right.data = normal(2, 1, 8)
    expected = transcription.rotary_product_bias(bias.left[0], bias.right[0], 9)
    torch.testing.assert_close(bias(9), expected, **FLOAT64)
