"""One FLASH-Quad layer: gating and single-head quadratic attention in one unit."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from flash.layers.gated_unit import GatedUnit, TokenContext, UnitState
from flash.ops.quadratic_attention import quadratic_attention
from flash.ops.quadratic_attention.packed import keys_seen, squared_relu_attention


@dataclass(frozen=True)
class QuadraticContext(TokenContext):
    """Context of a quadratic layer.

    Args:
        pairs: True where a query may see a key, ``(b or 1, n, m)``; None when all do.
    """

    pairs: Tensor | None = None


class KeyValueState(UnitState):
    """Keys and values of all tokens so far; a subclass says where they are kept."""

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add new keys ``(b, n, s)`` and values ``(b, n, e)``; return all, ``(b, m, s)`` and ``(b, m, e)``."""
        raise NotImplementedError


class GatedAttentionUnit(GatedUnit):
    """Gated unit whose queries and keys meet in all pairs.

        q, k = copies(z), rotated;   attention = A(q, k) v

    ``A`` is ``flash.ops.quadratic_attention``. Source: arXiv 2202.10447, section 3.1. See ``GatedUnit`` for the
    arguments.
    """

    def attend(
        self, copies: tuple[Tensor, ...], value: Tensor, context: Any, state: Any
    ) -> tuple[Float[Tensor, "b n e"], Float[Tensor, "b n m"] | None]:
        """Attend to all visible tokens, those of ``state`` included."""
        query, key = copies
        if context.backend != "reference":
            return self._attend_within_sequences(query, key, value, context), None
        if state is not None:
            key, value = state.append(key, value)
        bias = None
        if self.relative_bias is not None:
            bias = self.relative_bias(query.shape[1], key.shape[1])
            bias = bias.to(torch.promote_types(value.dtype, torch.float32))
        return quadratic_attention(
            query,
            key,
            value,
            bias,
            pairs=context.pairs,
            dropout=self.attention_dropout if self.training else 0.0,
            **self.weighting.arguments_of_pairs(context.pairs, key.shape[1], value.dtype),
        )

    def _attend_within_sequences(self, query: Tensor, key: Tensor, value: Tensor, context: Any) -> Tensor:
        key_mask = None if context.mask is None else context.mask.flatten()
        seen: float | Tensor = 1.0
        if self.weighting.counts_keys:
            wide = torch.promote_types(value.dtype, torch.float32)
            seen = keys_seen(context.sequences, key_mask, causal=self.causal, dtype=wide)
        attended = squared_relu_attention(
            query.flatten(0, 1),
            key.flatten(0, 1),
            value.flatten(0, 1),
            self.diagonals(context.sequences.longest),
            sequences=context.sequences,
            key_mask=key_mask,
            causal=self.causal,
            backend=context.backend,
            **self.weighting.arguments(seen),
        )
        if key_mask is not None:
            attended = attended.masked_fill(~key_mask[:, None], 0.0)
        return attended.view_as(value)
