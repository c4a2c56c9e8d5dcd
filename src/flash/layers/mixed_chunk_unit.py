"""One FLASH layer: gating and mixed chunk attention in one unit."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from flash.layers.gated_unit import GatedUnit, TokenContext
from flash.layers.mixed_chunk_state import Continuation, MixedChunkState
from flash.ops.chunk_layout import ChunkLayout
from flash.ops.linear_attention import LinearState, recall
from flash.ops.mixed_chunk_attention import mixed_chunk_attention
from flash.ops.mixed_chunk_attention.packed import packed_mixed_chunk_attention
from flash.ops.quadratic_attention import quadratic_attention
from flash.ops.sequences import Sequences


@dataclass(frozen=True)
class ChunkContext(TokenContext):
    """Context of a mixed chunk layer.

    Args:
        layout: Slots of the tokens, where chunks do not begin at the first position; None where they do.
        plan: Slots of the tokens behind those of a state.
        chunks: ``sequences``, each cut into chunks.
    """

    layout: ChunkLayout | None = None
    plan: Continuation | None = None
    chunks: Sequences | None = None


class MixedChunkUnit(GatedUnit):
    """Gated unit that attends to the own chunk by weights and to other chunks by their sums.

        quad_q, quad_k, lin_q, lin_k = copies(z), rotated
        attention = A(quad_q, quad_k) v within the chunk + lin_q (sum over chunks of lin_k^T v) / divisor

    See ``flash.ops.mixed_chunk_attention``. Source: arXiv 2202.10447, section 3.2. See ``GatedUnit`` for the other
    arguments.

    Args:
        chunk_size: Positions in a chunk ``c``.
        linear_divisor: Divides the linear part; None for the number of real tokens summed.
    """

    def __init__(self, *, chunk_size: int, linear_divisor: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.chunk_size = chunk_size
        self.linear_divisor = linear_divisor

    def attend(
        self, copies: tuple[Tensor, ...], value: Tensor, context: Any, state: Any
    ) -> tuple[Float[Tensor, "b n e"], Float[Tensor, "..."] | None]:
        """Attend within and across chunks.

        The weights are those within chunks: ``(b, g, c, c)``, or ``(b, 1, c)`` for one new token behind a state.
        """
        if state is not None:
            if state.is_empty:
                state.allocate(copies[1], value)
            if value.shape[1] == 1:
                return self._step(copies, value, context.plan, state)
            return self._extend(copies, value, context.plan, state)
        if context.backend != "reference":
            return self._attend_within_sequences(copies, value, context), None
        layout = context.layout
        if layout is None:
            out, weights, _ = self._mix(copies, value, self._chunk_for(value.shape[1]), mask=context.mask)
            return out, weights
        out, weights, _ = self._mix(
            tuple(layout.place(copy) for copy in copies),
            layout.place(value),
            self._chunk_for(layout.length),
            mask=layout.mask,
            segments=layout.segments,
        )
        return layout.take(out), weights

    def _attend_within_sequences(self, copies: tuple[Tensor, ...], value: Tensor, context: Any) -> Tensor:
        quadratic_query, quadratic_key, linear_query, linear_key = (copy.flatten(0, 1) for copy in copies)
        attended = packed_mixed_chunk_attention(
            quadratic_query,
            quadratic_key,
            linear_query,
            linear_key,
            value.flatten(0, 1),
            self.diagonals(context.chunks.longest),
            sequences=context.sequences,
            chunks=context.chunks,
            chunk_size=self.chunk_size,
            weighting=self.weighting,
            causal=self.causal,
            linear_divisor=self.linear_divisor,
            backend=context.backend,
        )
        return attended.view_as(value)

    def _chunk_for(self, length: int) -> int:
        # an input shorter than a chunk is one of its own length; a graph for any length cannot ask
        return self.chunk_size if torch.compiler.is_exporting() else min(self.chunk_size, length)

    def _mix(
        self,
        copies: tuple[Tensor, ...],
        value: Tensor,
        chunk_size: int,
        *,
        mask: Tensor | None,
        segments: Tensor | None = None,
        initial: LinearState | None = None,
    ) -> tuple[Tensor, Tensor, LinearState]:
        quadratic_query, quadratic_key, linear_query, linear_key = copies
        return mixed_chunk_attention(
            quadratic_query,
            quadratic_key,
            linear_query,
            linear_key,
            value,
            self._bias(chunk_size, value.dtype),
            chunk_size=chunk_size,
            weighting=self.weighting,
            causal=self.causal,
            linear_divisor=self.linear_divisor,
            mask=mask,
            segments=segments,
            initial=initial,
        )

    def _bias(self, length: int, dtype: torch.dtype) -> Tensor | None:
        if self.relative_bias is None:
            return None
        return self.relative_bias(length).to(torch.promote_types(dtype, torch.float32))

    def _extend(
        self, copies: tuple[Tensor, ...], value: Tensor, plan: Continuation, state: MixedChunkState
    ) -> tuple[Tensor, Tensor]:
        """Attend from many new tokens to those of the state and to each other."""
        quadratic_query, quadratic_key, linear_query, linear_key = copies
        slots = state.with_begun_chunk(quadratic_key, linear_key, value, plan)
        place, take = (_as_it_is, _as_it_is) if plan.straight else (plan.layout.place, plan.layout.take)
        out, weights, chunks = self._mix(
            (place(quadratic_query), slots.quadratic_keys, place(linear_query), slots.linear_keys),
            slots.values,
            self.chunk_size,
            mask=slots.mask,
            initial=LinearState(state.sums, state.counts),
        )
        state.keep_last_chunk(slots, chunks, plan)
        return take(out), weights

    def _step(
        self, copies: tuple[Tensor, ...], value: Tensor, plan: Continuation, state: MixedChunkState
    ) -> tuple[Tensor, Tensor]:
        """Attend from one new token a row."""
        quadratic_query, quadratic_key, linear_query, linear_key = copies
        state.append(quadratic_key, linear_key, value, plan)
        rows = torch.arange(value.shape[0], device=value.device)
        real = plan.layout.mask[rows, plan.fill]  # (b,)
        pairs = (state.chunk.mask & real[:, None])[:, None]  # (b, 1, c): slots behind the new token are not filled yet
        bias = self._bias(self.chunk_size, value.dtype)
        attended, weights = quadratic_attention(
            quadratic_query,
            state.chunk.quadratic_keys,
            state.chunk.values,
            None if bias is None else bias[plan.fill][:, None],
            pairs=pairs,
            **self.weighting.arguments_of_pairs(pairs, self.chunk_size, value.dtype),
        )
        recalled = recall(linear_query, LinearState(state.sums, state.counts), divisor=self.linear_divisor)
        state.finish_chunks(plan)
        return (attended + recalled).masked_fill(~real[:, None, None], 0.0), weights

    def extra_repr(self) -> str:
        """Show the settings in ``print(model)``."""
        return f"{super().extra_repr()}, chunk_size={self.chunk_size}"


def _as_it_is(x: Tensor) -> Tensor:
    return x
