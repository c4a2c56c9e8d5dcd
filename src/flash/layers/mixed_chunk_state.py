"""What a FLASH layer keeps of the tokens it has seen: sums over whole chunks, and the chunk begun."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from flash.layers.gated_unit import UnitState
from flash.ops.chunk_layout import ChunkLayout, leading_padding
from flash.ops.linear_attention import LinearState, chunk_sums
from flash.ops.on_device import OnDevice


@dataclass(frozen=True)
class Continuation(OnDevice):
    """Where new tokens go in the chunks of a state; the same in all layers.

    Args:
        fill: Tokens in the chunk begun, ``(b,)``, at most ``chunk_size - 1``.
        layout: Slots of the new tokens, counted from the beginning of that chunk.
        end: Slot behind the last new token, ``(b,)``.
        completes: Whether any row completes a chunk.
        straight: Whether every token is in the slot of its own number: nothing comes before, no padding leads.
    """

    fill: Tensor
    layout: ChunkLayout
    end: Tensor
    completes: bool
    straight: bool


class Slots(NamedTuple):
    """Keys ``(b, n, s)``, values ``(b, n, e)`` and which are real, ``(b, n)``, in slots of chunks."""

    quadratic_keys: Tensor
    linear_keys: Tensor
    values: Tensor
    mask: Tensor


class MixedChunkState(UnitState):
    """Recurrent state of one layer; its size does not depend on the number of tokens seen.

    ``sums``, ``(b, s, e)`` and ``counts``, ``(b,)``, hold whole chunks, in float32 at least. ``chunk`` holds the chunk
    begun, ``c`` slots that are 0 behind the last token. ``position``, ``(b,)``, counts the tokens of each row from its
    first real one.
    """

    chunk: Slots
    sums: Tensor
    counts: Tensor
    position: Tensor

    def __init__(self, chunk_size: int) -> None:
        self.chunk_size = chunk_size
        self.is_empty = True

    def allocate(self, key: Tensor, value: Tensor) -> None:
        """Make room for a chunk of keys ``(b, n, s)`` and values ``(b, n, e)`` of these widths, dtype and device."""
        batch_size, chunk_size = key.shape[0], self.chunk_size
        keys = key.new_zeros((batch_size, chunk_size, key.shape[2]))
        self.chunk = Slots(
            quadratic_keys=keys,
            linear_keys=torch.zeros_like(keys),
            values=value.new_zeros((batch_size, chunk_size, value.shape[2])),
            mask=torch.zeros((batch_size, chunk_size), dtype=torch.bool, device=key.device),
        )
        dtype = torch.promote_types(key.dtype, torch.float32)
        self.sums = torch.zeros((batch_size, key.shape[2], value.shape[2]), dtype=dtype, device=key.device)
        self.counts = torch.zeros((batch_size,), dtype=dtype, device=key.device)
        self.position = torch.zeros((batch_size,), dtype=torch.long, device=key.device)
        self.is_empty = False

    def tensors(self) -> list[Tensor]:
        """List what is kept."""
        shifted = [] if self.shifted is None else [self.shifted]
        return shifted if self.is_empty else [*shifted, *self.chunk, self.sums, self.counts, self.position]

    def change_rows(self, change: Callable[[Tensor], Tensor]) -> None:
        """Replace every tensor by one of other rows."""
        if self.shifted is not None:
            self.shifted = change(self.shifted)
        if not self.is_empty:
            self.chunk = Slots._make(map(change, self.chunk))
            self.sums, self.counts, self.position = map(change, (self.sums, self.counts, self.position))

    def continuation(self, mask: Tensor) -> Continuation:
        """Lay out new tokens of which ``mask``, ``(b, n)``, are real; padding before the first real one is left out."""
        batch_size, length = mask.shape
        chunk_size = self.chunk_size
        if self.is_empty:
            fill = torch.zeros((batch_size,), dtype=torch.long, device=mask.device)
            begun, slots_needed = torch.zeros_like(fill, dtype=torch.bool), length
        else:
            fill, begun = self.position % chunk_size, self.position > 0
            slots_needed = chunk_size - 1 + length
        before_first = torch.where(mask.any(dim=1), leading_padding(mask), length)
        skipped = torch.where(begun, 0, before_first)
        order = torch.arange(length, device=mask.device)
        # what is skipped goes behind the rest, as padding
        slots = fill[:, None] + (order - skipped[:, None]) % length
        room = -(-slots_needed // chunk_size) * chunk_size
        layout = ChunkLayout(slots, room, mask.new_zeros((batch_size, room)).scatter(1, slots, mask))
        end = fill + length - skipped
        completes = bool((end >= chunk_size).any())
        straight = self.is_empty and not bool(skipped.any())
        return Continuation(fill, layout, end, completes=completes, straight=straight)

    def append(self, quadratic_key: Tensor, linear_key: Tensor, value: Tensor, plan: Continuation) -> None:
        """Write one new token a row, keys ``(b, 1, s)`` and value ``(b, 1, e)``, into the chunk begun."""
        index = (torch.arange(value.shape[0], device=value.device), plan.fill)
        real = plan.layout.mask[index]
        # in place, unless autograd needs the old values or they were made in inference mode, which has ended
        frozen = self.chunk.values.is_inference() and not torch.is_inference_mode_enabled()
        put = torch.Tensor.index_put if torch.is_grad_enabled() or frozen else torch.Tensor.index_put_
        new = [x[:, 0] * real[:, None] for x in (quadratic_key, linear_key, value)]
        self.chunk = Slots._make(put(old, index, x) for old, x in zip(self.chunk, [*new, real], strict=True))

    def finish_chunks(self, plan: Continuation) -> None:
        """After ``append``: add full chunks to the sums and begin new ones."""
        self.position = self.position + (plan.end - plan.fill)
        if not plan.completes:
            return
        full = plan.end >= self.chunk_size  # (b,)
        quadratic_keys, linear_keys, values, mask = self.chunk
        added = chunk_sums(linear_keys[:, None], values[:, None], mask[:, None])
        self.sums = self.sums + added.sums[:, 0] * full[:, None, None]
        self.counts = self.counts + added.counts[:, 0] * full
        emptied = (x.masked_fill(full[:, None, None], 0.0) for x in (quadratic_keys, linear_keys, values))
        self.chunk = Slots._make([*emptied, mask & ~full[:, None]])

    def with_begun_chunk(self, quadratic_key: Tensor, linear_key: Tensor, value: Tensor, plan: Continuation) -> Slots:
        """Place many new tokens behind those of the chunk begun."""
        if plan.straight:
            return Slots(quadratic_key, linear_key, value, plan.layout.mask[:, : value.shape[1]])
        more = plan.layout.length - self.chunk_size
        # a slot is filled by one of the two, the other one is 0 there
        placed = (
            plan.layout.place(new) + pad(old, (0, 0, 0, more))
            for new, old in zip((quadratic_key, linear_key, value), self.chunk[:3], strict=True)
        )
        return Slots._make([*placed, plan.layout.mask | pad(self.chunk.mask, (0, more))])

    def keep_last_chunk(self, slots: Slots, chunks: LinearState, plan: Continuation) -> None:
        """After ``with_begun_chunk``: add full chunks to the sums and keep the one begun."""
        self.position = self.position + (plan.end - plan.fill)
        whole = plan.end // self.chunk_size  # (b,)
        before = (torch.arange(chunks.counts.shape[1], device=whole.device) < whole[:, None]).to(chunks.counts.dtype)
        self.sums = self.sums + (chunks.sums * before[..., None, None]).sum(dim=1)
        self.counts = self.counts + (chunks.counts * before).sum(dim=1)
        index = (whole * self.chunk_size)[:, None] + torch.arange(self.chunk_size, device=whole.device)
        kept = index < plan.end[:, None]
        index = index.clamp(max=slots.mask.shape[1] - 1)
        last = ChunkLayout(index, self.chunk_size, kept)
        kept_slots = [last.take(x) * kept[..., None] for x in slots[:3]]
        self.chunk = Slots._make([*kept_slots, slots.mask.gather(1, index) & kept])
