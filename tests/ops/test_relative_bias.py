import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from flash.ops.relative_bias import bucketed_bias, distance_buckets, rotary_product_bias, toeplitz_bias

import transcription
import transcription_attention
from helpers import EXACT, FLOAT64, few_examples, normal


def by_brute_force(weight, length):
    longest = (len(weight) - 1) // 2
    return [[weight[min(max(j - i, -longest), longest) + longest] for j in range(length)] for i in range(length)]


@few_examples
@given(st.integers(1, 9), st.integers(1, 30))
def test_toeplitz_bias_reads_one_weight_a_distance_and_the_last_one_beyond(longest_length, length):
    weight = torch.arange(2.0 * longest_length - 1)
    assert toeplitz_bias(weight, length).tolist() == by_brute_force(weight.tolist(), length)


@pytest.mark.parametrize("length", [1, 5, 6])
def test_toeplitz_bias_is_that_of_the_transcription_up_to_the_trained_length(length):
    weight = normal(11)
    assert torch.equal(toeplitz_bias(weight, length), transcription.toeplitz_bias(weight, length, 6))


def test_a_longer_input_keeps_the_bias_of_every_trained_distance():
    weight = normal(11)
    trained, longer = toeplitz_bias(weight, 6), toeplitz_bias(weight, 18)
    for start in range(13):
        assert torch.equal(longer[start : start + 6, start : start + 6], trained)
    assert torch.equal(longer[0, 6:], weight[-1].expand(12))
    assert torch.equal(longer[6:, 0], weight[0].expand(12))


@pytest.mark.parametrize("length", [3, 6, 15])
def test_the_gradient_of_a_weight_is_the_sum_over_its_diagonal(length):
    weight = normal(11).requires_grad_()
    upstream = normal(length, length, seed=1)
    (gradient,) = torch.autograd.grad(toeplitz_bias(weight, length), weight, upstream)
    expected = torch.zeros_like(gradient)
    for i in range(length):
        for j in range(length):
            expected[min(max(j - i, -5), 5) + 5] += upstream[i, j]
    torch.testing.assert_close(gradient, expected, **FLOAT64)


def test_rotary_product_bias_is_that_of_the_transcription():
    left, right = normal(2, 1, 8)
    expected = transcription.rotary_product_bias(left[0], right[0], 20)
    torch.testing.assert_close(rotary_product_bias(left, right, 20), expected, **FLOAT64)


@few_examples
@given(st.integers(1, 40), st.integers(0, 20), st.integers(0, 1000))
def test_rotary_product_bias_depends_on_the_distance_alone(length, more, seed):
    left, right = normal(2, 1, 8, seed=seed)
    short, longer = rotary_product_bias(left, right, length), rotary_product_bias(left, right, length + more)
    torch.testing.assert_close(longer[:length, :length], short, **FLOAT64)
    torch.testing.assert_close(longer[more:, more:], short, **FLOAT64)


def test_both_vectors_of_the_rotary_product_get_a_gradient():
    left, right = normal(2, 1, 4)
    assert torch.autograd.gradcheck(
        lambda left, right: rotary_product_bias(left, right, 3),
        (left.requires_grad_(), right.requires_grad_()),
    )


@few_examples
@example(32, 128, False, 140)  # as a configuration has them unless told otherwise
@example(32, 128, True, 140)
@given(st.sampled_from([4, 8, 32]), st.integers(17, 40), st.booleans(), st.integers(1, 60))
def test_bucketed_bias_is_that_of_the_transcription(buckets, max_distance, causal, length):
    weight = normal(buckets)
    expected = transcription_attention.bucketed_bias(
        weight, length, buckets=buckets, max_distance=max_distance, causal=causal
    )
    assert torch.equal(bucketed_bias(weight, length, max_distance=max_distance, causal=causal), expected)


class Dtypes(TorchDispatchMode):
    """Dtypes of all results."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.seen.add(out.dtype)
        return out


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_buckets_are_found_in_float64_where_the_device_has_it_alone(device):
    with FakeTensorMode(), Dtypes() as dtypes:
        distance_buckets(torch.arange(-200, 200, device=device), 32, max_distance=128, causal=False)
    assert (torch.float64 in dtypes.seen) == (device == "cpu")


BIASES = {
    "toeplitz": lambda *lengths: toeplitz_bias(normal(11), *lengths),
    "bucketed": lambda *lengths: bucketed_bias(normal(8), *lengths, max_distance=9),
    "rotary product": lambda *lengths: rotary_product_bias(*normal(2, 1, 4), *lengths),
}


@pytest.mark.parametrize("bias", BIASES.values(), ids=BIASES)
@pytest.mark.parametrize(("query_length", "key_length"), [(1, 1), (1, 4), (3, 4), (1, 15), (9, 15), (15, 15)])
def test_the_bias_of_new_queries_is_the_end_of_that_of_all(bias, query_length, key_length):
    torch.testing.assert_close(bias(query_length, key_length), bias(key_length)[-query_length:], **FLOAT64)


class Biases(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.toeplitz, self.buckets = torch.nn.Parameter(normal(11)), torch.nn.Parameter(normal(8))

    def forward(self, x):
        n = x.shape[0]
        return toeplitz_bias(self.toeplitz, n) + bucketed_bias(self.buckets, n, max_distance=9)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("length", [2, 6, 20])
def test_an_exported_graph_knows_the_bias_of_any_length(length):
    biases = Biases()
    exported = torch.export.export(biases, (torch.zeros(7),), dynamic_shapes=({0: torch.export.Dim.AUTO},)).module()
    x = torch.zeros(length)
    torch.testing.assert_close(exported(x), biases(x), **EXACT)
