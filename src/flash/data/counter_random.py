"""Random numbers that are a function of (seed, epoch, row, position): no state, any device, a whole batch at once."""

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
    key = torch.zeros_like(rows)
    for part in (seed, epoch, rows):
        key = _mix(key + (part if isinstance(part, Tensor) else _signed(part)) + _signed(_INCREMENT))
    return key


def uniform_numbers(keys: Tensor, count: int) -> Tensor:
    """Draw numbers in [0, 1), the same for the same key on every device.

    The sequence of a key is that of SplitMix64 started with it (Steele, Lea and Flood, "Fast Splittable Pseudorandom
    Number Generators", OOPSLA 2014, figure 17), of which the upper 53 bits are kept.

    Args:
        keys: ``(rows,)`` int64.
        count: Numbers a row.

    Returns:
        ``(rows, count)`` float64.
    """
    steps = torch.arange(1, count + 1, device=keys.device) * _signed(_INCREMENT)
    return _shift_right(_mix(keys[:, None] + steps), 11).double() * 2.0**-53


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift_right(z, 30)) * _signed(_MULTIPLIERS[0])
    z = (z ^ _shift_right(z, 27)) * _signed(_MULTIPLIERS[1])
    return z ^ _shift_right(z, 31)


def _shift_right(z: Tensor, bits: int) -> Tensor:
    # int64 stands for uint64, which few operations know: sums and products wrap alike, but >> copies the sign
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    """Return the int64 of the same 64 bits."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)
