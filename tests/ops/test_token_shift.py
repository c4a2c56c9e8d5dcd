import torch
from hypothesis import given
from hypothesis import strategies as st

from flash.ops.token_shift import shift_tokens

import transcription
import transcription_attention
from helpers import FLOAT64, few_examples, normal


def test_channels_come_from_the_token_before_then_from_the_one_after():
    x = torch.tensor([[[1.0, 10, 100], [2, 20, 200], [3, 30, 300]]])
    assert shift_tokens(x, 1).tolist() == [[[0, 20, 100], [1, 30, 200], [2, 0, 300]]]


@few_examples
@given(st.data())
def test_any_mask_gives_what_the_transcription_gives(data):
    length = data.draw(st.integers(1, 6), label="length")
    channels = data.draw(st.integers(0, 3), label="channels")
    real = data.draw(st.lists(st.booleans(), min_size=2 * length, max_size=2 * length), label="real")
    mask = torch.tensor(real).reshape(2, length)
    x = normal(2, length, 6)
    expected = transcription.shift_tokens(x, mask, channels)
    # the channels a padded token keeps of its own are its own affair: the library zeroes them
    assert torch.equal(shift_tokens(x, channels, mask)[mask], expected[mask])


def test_no_mask_means_that_every_token_is_real():
    x = normal(2, 5, 6)
    assert torch.equal(shift_tokens(x, 2), shift_tokens(x, 2, torch.ones(2, 5, dtype=torch.bool)))


def test_half_of_the_channels_from_either_side_leaves_none_of_its_own():
    x = normal(1, 4, 6)
    changed = x.clone()
    changed[0, 2] += 1.0
    unchanged = (shift_tokens(x, 3) == shift_tokens(changed, 3)).all(dim=-1)
    assert unchanged.tolist() == [[True, False, True, False]]


def test_what_stands_in_a_padded_place_has_no_influence():
    mask = torch.tensor([[False, True, True, False]])
    x = normal(1, 4, 6)
    before = shift_tokens(x, 2, mask)
    x[:, [0, 3]] = 1000.0
    assert torch.equal(shift_tokens(x, 2, mask)[mask], before[mask])


def test_the_gradient_returns_to_the_token_it_came_from():
    x = normal(1, 4, 6).requires_grad_()
    mask = torch.tensor([[True, True, True, False]])
    assert torch.autograd.gradcheck(lambda x: shift_tokens(x, 2, mask), x)
    (gradient,) = torch.autograd.grad(shift_tokens(x, 2, mask).sum(), x)
    # of the first token the second group is read by nobody, of the third real one the first by padding
    expected = torch.tensor([[1, 1, 0, 0, 1, 1], [1] * 6, [1] * 6, [0] * 6], dtype=torch.float64)
    torch.testing.assert_close(gradient[0], expected, **FLOAT64)


@few_examples
@given(st.data())
def test_causal_and_packed_shifts_are_those_of_the_transcription(data):
    length = data.draw(st.integers(1, 6), label="length")
    channels = data.draw(st.integers(0, 3), label="channels")
    causal = data.draw(st.booleans(), label="causal")
    flags = st.lists(st.booleans(), min_size=2 * length, max_size=2 * length)
    mask = torch.tensor(data.draw(flags, label="real")).reshape(2, length)
    segments = torch.tensor(data.draw(flags, label="cuts")).reshape(2, length).long().cumsum(dim=1)
    x = normal(2, length, 6)
    expected = transcription_attention.shift(x, mask, channels, causal=causal, segments=segments)
    shifted = shift_tokens(x, channels, mask, causal=causal, segments=segments)
    assert torch.equal(shifted[mask], expected[mask])


def test_a_causal_shift_of_the_rest_begins_with_the_token_before():
    x = normal(2, 6, 6)
    whole = shift_tokens(x, 2, causal=True)
    rest = shift_tokens(x[:, 4:], 2, causal=True, previous=x[:, 3, :2])
    assert torch.equal(rest, whole[:, 4:])
