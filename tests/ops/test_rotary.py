import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flash.ops.rotary import apply_rotary, rotary_angles

from helpers import FLOAT64, few_examples, normal
from transcription import rotate


def rotated(x):
    return apply_rotary(x, *rotary_angles(x.shape[-2], x.shape[-1], dtype=x.dtype))


@pytest.mark.parametrize("dim", [2, 8, 14])
def test_each_position_is_turned_as_the_transcription_turns_it(dim):
    x = normal(2, 9, dim)
    expected = torch.stack([rotate(x[:, position], position) for position in range(9)], dim=1)
    torch.testing.assert_close(rotated(x), expected, **FLOAT64)


@few_examples
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 60), st.integers(0, 1000))
def test_inner_products_depend_on_the_distance_alone(first, second, shift, seed):
    query, key = normal(2, 8, seed=seed)
    queries, keys = rotated(query.expand(101, 8)), rotated(key.expand(101, 8))
    here, elsewhere = queries[first] @ keys[second], queries[first + shift] @ keys[second + shift]
    torch.testing.assert_close(elsewhere, here, **FLOAT64)


def test_rotation_keeps_lengths_and_leaves_position_0_alone():
    x = normal(3, 12, 8)
    torch.testing.assert_close(rotated(x).norm(dim=-1), x.norm(dim=-1), **FLOAT64)
    assert torch.equal(rotated(x)[:, 0], x[:, 0])


def test_the_inverse_rotation_is_the_gradient():
    x = normal(5, 8).requires_grad_()
    upstream = normal(5, 8, seed=1)
    (gradient,) = torch.autograd.grad(rotated(x), x, upstream)
    cos, sin = rotary_angles(5, 8, dtype=torch.float64)
    torch.testing.assert_close(gradient, apply_rotary(upstream, cos, -sin), **FLOAT64)


def test_more_positions_do_not_change_the_angles_of_the_first():
    for short, long in zip(rotary_angles(7, 8), rotary_angles(3000, 8), strict=True):
        assert torch.equal(short, long[:7])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_angles_are_float32_at_least_and_the_dtype_of_x_is_kept(dtype):
    # in bfloat16 the positions 511 and 512 would be the same number
    cos, sin = rotary_angles(513, 8, dtype=dtype)
    assert cos.dtype == sin.dtype == torch.float32
    exact, _ = rotary_angles(513, 8, dtype=torch.float64)
    # the error of an angle of size p is p roundings of 6e-8
    assert (cos - exact).abs().max() < 513 * 2**-23
    assert apply_rotary(torch.ones(513, 8, dtype=dtype), cos, sin).dtype == dtype


def test_an_odd_width_is_refused():
    with pytest.raises(ValueError, match="dim must be even, got 7: rotary embedding turns pairs of entries"):
        rotary_angles(3, 7)
