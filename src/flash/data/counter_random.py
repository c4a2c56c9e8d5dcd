"""Random numbers that are a function of (seed, epoch, row, position): no state, any device, a whole batch at once."""

from functools import lru_cache

import torch
from torch import Tensor

# SplitMix64: increment, and the multipliers of its finaliser
_INCREMENT = 0x9E3779B97F4A7C15
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def row_keys(seed: int, epoch: int, rows: Tensor) -> Tensor:
    """Mix seed, epoch and the number of each row into one key a row.

    Args:
        rows: Numbers of rows, ``(rows,)`` int64.

    Returns:
        Keys, ``(rows,)`` int64; another seed, epoch or row gives another key.
    """
    return _mix(rows + _key_of_epoch(seed, epoch))


@lru_cache
def _key_of_epoch(seed: int, epoch: int) -> int:
    key = 0
    for part in (seed, epoch):
        key = int(_mix(torch.tensor(_signed(key + part + _INCREMENT))))
    return _signed(key + _INCREMENT)


def uniform_pairs(keys: Tensor, count: int) -> Tensor:
    """Draw pairs of numbers in [0, 1), the same for the same key on every device.

    The numbers of a key are those of SplitMix64 started with it (Steele, Lea and Flood, "Fast Splittable Pseudorandom
    Number Generators", OOPSLA 2014, figure 17); each gives a pair, by its upper and its lower 32 bits.

    Args:
        keys: ``(rows,)`` int64.
        count: Pairs a row.

    Returns:
        ``(rows, count, 2)`` float64.
    """
    steps = torch.arange(1, count + 1, device=keys.device) * _signed(_INCREMENT)
    numbers = _mix(keys[:, None] + steps)
    # either half lies contiguous: unbound again, which is what they are for, they are read without gaps
    halves = torch.stack((_shift_right(numbers, 32), numbers & 0xFFFFFFFF)).double().mul_(2.0**-32)
    return halves.movedim(0, -1)


def _mix(z: Tensor) -> Tensor:
    z = _shift_right(z, 30).bitwise_xor_(z).mul_(_signed(_MULTIPLIERS[0]))
    z = _shift_right(z, 27).bitwise_xor_(z).mul_(_signed(_MULTIPLIERS[1]))
    return _shift_right(z, 31).bitwise_xor_(z)


def _shift_right(z: Tensor, bits: int) -> Tensor:
    # int64 stands for uint64, which few operations know: sums and products wrap alike, but >> copies the sign
    return (z >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    """Return the int64 of the same 64 bits."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)
