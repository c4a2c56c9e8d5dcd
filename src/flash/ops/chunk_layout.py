"""Where each token sits among chunks, when chunks do not begin at position 0 of the input.

Chunks are counted from the first real token of a sequence, so padding on the left, or the sequences packed before
it, change nothing in its chunks.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from flash.ops.on_device import OnDevice


@dataclass(frozen=True)
class ChunkLayout(OnDevice):
    """A slot for each token, within a row of whole or short chunks.

    Args:
        slots: Slot of each token, ``(b, n)``; no two tokens of a row share one.
        length: Number of slots.
        mask: True where a slot holds a real token, ``(b, length)``.
        segments: Number of the packed sequence of each chunk, ``(b, g)``; -1 for an empty chunk. None: one sequence.
    """

    slots: Tensor
    length: int
    mask: Tensor
    segments: Tensor | None = None

    def place(self, x: Float[Tensor, "b n w"]) -> Float[Tensor, "b slots w"]:
        """Move each token to its slot; other slots are 0."""
        index = self.slots[..., None].expand_as(x)
        return x.new_zeros((x.shape[0], self.length, x.shape[2])).scatter(1, index, x)

    def take(self, x: Float[Tensor, "b slots w"]) -> Float[Tensor, "b n w"]:
        """Read each token back from its slot."""
        return x.gather(1, self.slots[..., None].expand(-1, -1, x.shape[2]))


def leading_padding(mask: Bool[Tensor, "b n"]) -> Int[Tensor, " b"]:
    """Count the padding before the first real token of each row; 0 in a row of padding only."""
    return mask.int().argmax(dim=1)


def left_aligned_layout(mask: Bool[Tensor, "b n"]) -> ChunkLayout:
    """Move the padding on the left of each row to its end."""
    length = mask.shape[1]
    slots = (torch.arange(length, device=mask.device) - leading_padding(mask)[:, None]) % length
    return ChunkLayout(slots, length, torch.zeros_like(mask).scatter(1, slots, mask))


def text_runs(segments: Int[Tensor, "b n"], mask: Bool[Tensor, "b n"] | None = None) -> Int[Tensor, "b n"]:
    """Number the runs of each row: a packed sequence is one, and the padding before its first real token another."""
    starts = _differs_from_previous(segments)
    if mask is not None:
        real_before = mask.long().cumsum(dim=1) - mask.long()
        real_before_sequence = torch.where(starts, real_before, 0).cummax(dim=1).values
        leading = ~mask & (real_before == real_before_sequence)
        starts = starts | _differs_from_previous(leading)
    return starts.long().cumsum(dim=1)


def position_in_run(runs: Int[Tensor, "b n"]) -> Int[Tensor, "b n"]:
    """Count the tokens of each run from 0."""
    positions = torch.arange(runs.shape[1], device=runs.device).expand_as(runs)
    return positions - torch.where(_differs_from_previous(runs), positions, 0).cummax(dim=1).values


def packed_layout(segments: Int[Tensor, "b n"], mask: Bool[Tensor, "b n"] | None, chunk_size: int) -> ChunkLayout:
    """Begin a new chunk with each packed sequence, and with its first real token where padding precedes that."""
    mask = torch.ones_like(segments, dtype=torch.bool) if mask is None else mask
    runs = text_runs(segments, mask)
    in_run = position_in_run(runs)
    chunk = (in_run % chunk_size == 0).long().cumsum(dim=1) - 1
    slots = chunk * chunk_size + in_run % chunk_size
    chunks = int(chunk.max()) + 1
    return ChunkLayout(
        slots=slots,
        length=chunks * chunk_size,
        mask=mask.new_zeros((mask.shape[0], chunks * chunk_size)).scatter(1, slots, mask),
        segments=runs.new_full((runs.shape[0], chunks), -1).scatter(1, chunk, runs),
    )


def _differs_from_previous(x: Tensor) -> Tensor:
    return pad(x[:, 1:] != x[:, :-1], (1, 0), value=True)
