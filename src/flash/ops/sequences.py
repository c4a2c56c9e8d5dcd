"""Sequences that lie one behind the other among ``t`` tokens, without padding between them."""

from dataclasses import dataclass
from itertools import accumulate, groupby

import torch
from jaxtyping import Int
from torch import Tensor

from flash.ops.on_device import OnDevice


@dataclass(frozen=True)
class Sequences(OnDevice):
    """Where the sequences begin and end.

    Args:
        runs: How many neighbouring sequences have which length, ``((count, length), ...)``, in order; ``((b, n),)``
            for a batch of ``b`` rows without padding.
        cumulative_lengths: Where each sequence begins, and behind them where the last one ends, ``(count + 1,)``,
            int32. The same as ``runs``, on the device.
    """

    runs: tuple[tuple[int, int], ...]
    cumulative_lengths: Tensor

    @classmethod
    def rows(cls, batch_size: int, length: int, device: torch.device) -> "Sequences":
        """Describe ``batch_size`` sequences of one length."""
        starts = torch.arange(batch_size + 1, device=device, dtype=torch.int32) * length
        return cls(((batch_size, length),), starts)

    @classmethod
    def of_lengths(cls, lengths: list[int], device: torch.device) -> "Sequences":
        """Describe sequences of these lengths."""
        runs = tuple((len(list(same)), length) for length, same in groupby(lengths))
        starts = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)
        return cls(runs, starts)

    @property
    def lengths(self) -> list[int]:
        """Length of each sequence."""
        return [length for count, length in self.runs for _ in range(count)]

    @property
    def longest(self) -> int:
        """Length of the longest sequence; 0 where there is none."""
        return max(length for _, length in self.runs) if self.runs else 0

    @property
    def tokens(self) -> int:
        """Number of tokens ``t``."""
        return sum(count * length for count, length in self.runs)

    def cut(self, size: int) -> "Sequences":
        """Cut every sequence into pieces of ``size`` tokens; its last one may be shorter."""
        if len(self.runs) == 1 and self.runs[0][1] % size == 0:
            count, length = self.runs[0]
            return Sequences.rows(count * (length // size), size, self.cumulative_lengths.device)
        pieces: list[int] = []
        for length in self.lengths:
            whole, rest = divmod(length, size)
            pieces += [size] * whole + [rest] * (rest > 0)
        return Sequences.of_lengths(pieces, self.cumulative_lengths.device)

    def positions(self) -> Int[Tensor, " t"]:
        """Count the tokens of each sequence from 0."""
        ends = self.cumulative_lengths.long()
        lengths = ends.diff()
        begin = torch.repeat_interleave(ends[:-1], lengths, output_size=self.tokens)
        return torch.arange(self.tokens, device=ends.device) - begin

    def numbers(self) -> Int[Tensor, " t"]:
        """Number the sequence of each token, from 0."""
        lengths = self.cumulative_lengths.long().diff()
        numbers = torch.arange(lengths.shape[0], device=lengths.device)
        return torch.repeat_interleave(numbers, lengths, output_size=self.tokens)
