import torch
from hypothesis import given
from hypothesis import strategies as st

from flash.ops.quadratic_attention.diagonal_gradient import add_diagonal_sums
from flash.ops.relative_bias import toeplitz_bias

from helpers import FLOAT64, few_examples, normal


@few_examples
@given(
    length=st.integers(1, 30),
    longest_trained=st.integers(1, 40),
    block=st.sampled_from([1, 4, 8]),
    height=st.integers(1, 4),
)
def test_sums_of_tiles_are_the_gradient_of_the_toeplitz_bias(length, longest_trained, block, height):
    by_pair = normal(2, length, length)  # two sequences
    weight = torch.zeros(2 * longest_trained - 1, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(toeplitz_bias(weight, length), weight, by_pair.sum(0))
    gradient = torch.zeros_like(expected)
    columns = -(-length // block)
    for first_row in range(0, length, height * block):
        tiles = torch.zeros(2, height, columns, 2, block, dtype=torch.float64)
        panel = by_pair[:, first_row : first_row + height * block]
        for sequence, query, key in torch.ones_like(panel).nonzero().tolist():
            distance = key % block - query % block  # as store_diagonal_sums has them
            place = (sequence, query // block, key // block, int(distance < 0), distance % block)
            tiles[place] += panel[sequence, query, key]
        add_diagonal_sums(gradient, tiles, first_row)
    torch.testing.assert_close(gradient, expected, **FLOAT64)
