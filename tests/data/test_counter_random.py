import numpy as np
import pytest
import torch

from flash.data.counter_random import row_keys, uniform_pairs


def splitmix64(state: int, count: int) -> list[int]:
    """The published algorithm, on Python's integers."""
    numbers = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        numbers.append(z ^ (z >> 31))
    return numbers


@pytest.mark.parametrize("key", [0, 1, 2**63 - 1, -1, -(2**63), 1234567])
def test_the_numbers_are_those_of_splitmix64(key):
    expected = [[(number >> 32) / 2**32, number % 2**32 / 2**32] for number in splitmix64(key % 2**64, 50)]
    assert uniform_pairs(torch.tensor([key]), 50).tolist() == [expected]


def test_published_numbers_of_splitmix64_come_out():
    # seed 1234567, as listed by Rosetta Code ("Pseudo-random numbers/Splitmix64")
    assert splitmix64(1234567, 2) == [6457827717110365317, 3203168211198807973]


def test_another_seed_epoch_or_row_gives_another_key():
    rows = torch.arange(1000)
    keys = torch.cat([row_keys(seed, epoch, rows) for seed in (0, 1, 2**64 + 5) for epoch in range(10)])
    assert len(keys.unique()) == len(keys)


def test_the_numbers_of_neighbouring_rows_and_positions_are_uniform_and_independent():
    numbers = uniform_pairs(row_keys(0, 0, torch.arange(2000)), 100).flatten(1).numpy()
    counts, _ = np.histogram(numbers, bins=100, range=(0, 1))
    assert counts.sum() == numbers.size
    expected = numbers.size / 100
    assert ((counts - expected) ** 2 / expected).sum() < 99 + 5 * np.sqrt(2 * 99)  # chi-squared, five sigma
    centred = numbers - 0.5
    for pairs in (centred[:, 1:] * centred[:, :-1], centred[1:] * centred[:-1]):
        assert abs(pairs.mean()) < 5 / 12 / np.sqrt(pairs.size)
