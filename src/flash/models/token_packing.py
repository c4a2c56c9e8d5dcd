"""The real tokens of a batch, one behind the other: layers spend nothing on padding."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from flash.ops.chunk_layout import text_runs
from flash.ops.sequences import Sequences


@dataclass(frozen=True)
class TokenPacking:
    """Where each packed token is in the batch.

    Args:
        index: Place of each token in the flattened batch, ``(t,)``; sequences of one length are neighbours.
        sequences: Which tokens make a sequence.
        batch_shape: ``(batch_size, sequence_length)``.
    """

    index: Tensor
    sequences: Sequences
    batch_shape: tuple[int, int]

    def pack(self, x: Tensor) -> Tensor:
        """Read ``(batch_size, sequence_length, ...)`` into one row, ``(1, t, ...)``."""
        return x.flatten(0, 1).index_select(0, self.index)[None]

    def unpack(self, x: Tensor) -> Tensor:
        """Put ``(1, t, ...)`` back into ``(batch_size, sequence_length, ...)``; 0 at padding."""
        batch_size, length = self.batch_shape
        flat = x.new_zeros((batch_size * length, *x.shape[2:])).index_copy(0, self.index, x[0])
        return flat.view(batch_size, length, *x.shape[2:])


def pack_tokens(
    mask: Bool[Tensor, "b n"] | None, segments: Int[Tensor, "b n"] | None, shape: tuple[int, int], device: torch.device
) -> TokenPacking | None:
    """Find the real tokens of each sequence; None where some sequence has padding inside, or no token is real.

    Runs on the host: on a GPU each step whose result has a size that depends on the values would wait for it.

    Args:
        mask: True where a token is real.
        segments: Number of the packed sequence of each token; a sequence is a run of equal numbers in a row.
        shape: ``(batch_size, sequence_length)``.
        device: Where the tokens are.
    """
    batch_size, length = shape
    mask, segments = (None if x is None else x.cpu() for x in (mask, segments))
    rows = torch.arange(batch_size)[:, None].expand(shape)
    # numbers that no two sequences share
    sequence = rows if segments is None else rows * (length + 1) + text_runs(segments, mask)
    index = torch.arange(batch_size * length)
    if mask is not None:
        index = index[mask.flatten()]
    sequence = sequence.flatten()[index]
    counts = torch.unique_consecutive(sequence, return_counts=True)[1]
    order = counts.argsort(stable=True)
    gaps = (index.diff() != 1) & (sequence.diff() == 0)
    if gaps.any() or not len(index):
        return None
    lengths = counts[order].tolist()
    sequences = Sequences.of_lengths(lengths, index.device)
    begin = (counts.cumsum(dim=0) - counts)[order][sequences.numbers()]
    return TokenPacking(index[begin + sequences.positions()].to(device), Sequences.of_lengths(lengths, device), shape)
