"""What the layers of both families share: norm, projections, gate and residual around some attention."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import dropout

from flash.layers.norms import RMSNorm
from flash.ops.on_device import OnDevice
from flash.ops.quadratic_attention import Weighting
from flash.ops.rotary import apply_rotary
from flash.ops.sequences import Sequences
from flash.ops.silu_split import silu_split
from flash.ops.token_shift import shift_tokens


@dataclass(frozen=True)
class TokenContext(OnDevice):
    """What every layer of a forward pass knows about its tokens.

    Args:
        rotary: Cosines and sines ``(n, s / 2)``; None where nothing is rotated.
        mask: True where a token is real, ``(b, n)``; None when all are.
        segments: Number of the packed sequence of each token, ``(b, n)``; None when a row is one sequence.
        sequences: Which of the ``b n`` tokens, row behind row, make a sequence; given to all backends of the attention
            but ``reference``.
        backend: Implementation of the attention, see ``flash.ops.backends``.
        device: Where the tokens are; a model whose weights are kept elsewhere cannot tell.
    """

    rotary: tuple[Tensor, Tensor] | None = None
    mask: Tensor | None = None
    segments: Tensor | None = None
    sequences: Sequences | None = None
    backend: str = "reference"
    device: torch.device | None = None


class UnitState:
    """What a layer keeps between the steps of generation; here the token that the next one's shift looks back to."""

    shifted: Tensor | None = None


class GatedUnit(nn.Module, ABC):
    """Gate the attention output of a shared low-width base, and add it to the input.

        h = norm(x)                                             (channels shifted between neighbours if asked)
        u, v, z = split(act(h W_in + b_in), [e, e, s])
        out = x + (u * attention(z, v)) W_out + b_out           (attention normalised over e if asked)

    With the norm behind: ``h = x`` and ``out = norm(x + ...)``. Source: arXiv 2202.10447, section 3.1.

    Args:
        dim: Model width ``d``.
        inner_dim: Gate and value width ``e``.
        query_key_dim: Query and key width ``s``.
        norm: Norm over the model width.
        copies: Module that makes the queries and keys from ``z``.
        weighting: How scores become weights.
        activation: Function applied to the input projection, SiLU in the paper.
        relative_bias: Module that gives the bias of the scores for a number of positions; None for no bias.
        norm_position: ``pre`` or ``post``.
        attention_norm_eps: Divide the attention output by its root mean square over ``e``, with this constant and a
            learned gain, before the gate. A positive factor of a row of ``A`` cancels in it as far as the constant is
            small against the mean square (arXiv 2210.10340 and 2307.08621 do so to linear attention). None for no
            such norm.
        shift_channels: Channels of ``h`` taken from each neighbour, see ``flash.ops.token_shift``.
        causal: See only what came before.
        use_bias: Give both projections a bias.
        attention_dropout: Probability of leaving out an attention weight in training.
        hidden_dropout: Probability of leaving out a channel of the branch in training.
    """

    def __init__(
        self,
        *,
        dim: int,
        inner_dim: int,
        query_key_dim: int,
        norm: nn.Module,
        copies: nn.Module,
        weighting: Weighting,
        activation: Callable[[Tensor], Tensor],
        relative_bias: nn.Module | None = None,
        norm_position: str = "pre",
        attention_norm_eps: float | None = None,
        shift_channels: int = 0,
        causal: bool = False,
        use_bias: bool = True,
        attention_dropout: float = 0.0,
        hidden_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.widths = [inner_dim, inner_dim, query_key_dim]
        self.weighting = weighting
        self.norm_position = norm_position
        self.shift_channels = shift_channels
        self.causal = causal
        self.activation = activation
        self.attention_dropout = attention_dropout
        self.hidden_dropout = hidden_dropout
        self.norm = norm
        self.in_proj = nn.Linear(dim, sum(self.widths), bias=use_bias)
        self.offset_scale = copies
        self.relative_bias = relative_bias
        self.attention_norm = None if attention_norm_eps is None else RMSNorm(inner_dim, eps=attention_norm_eps)
        self.out_proj = nn.Linear(inner_dim, dim, bias=use_bias)

    def extra_repr(self) -> str:
        """Show the settings in ``print(model)``."""
        w = self.weighting
        return (
            f"{w.function}, score_scale={w.score_scale}, score_divisor={w.score_divisor}, "
            f"norm_position={self.norm_position}, shift_channels={self.shift_channels}, causal={self.causal}"
        )

    @abstractmethod
    def attend(
        self, copies: tuple[Tensor, ...], value: Tensor, context: Any, state: Any
    ) -> tuple[Float[Tensor, "b n e"], Float[Tensor, "..."] | None]:
        """Return what the copies of the base attend to, and the weights where the backend has them."""

    def forward(
        self, x: Float[Tensor, "b n d"], context: TokenContext, state: UnitState | None = None
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "..."] | None]:
        """Return the layer's output and the attention weights it used, None where the backend keeps none.

        Args:
            context: Positions and masks, shared by all layers.
            state: What the layer keeps of the tokens before ``x``; read and brought up to date.
        """
        hidden = self.norm(x) if self.norm_position == "pre" else x
        if self.shift_channels:
            hidden = self._shift(_as_projected(hidden), context, state)
        gate, value, base = self._activate_and_split(self.in_proj(hidden))
        copies = tuple(copy.to(value.dtype) for copy in self.offset_scale(base))
        if context.rotary is not None:
            copies = tuple(apply_rotary(copy, *context.rotary) for copy in copies)
        attended, weights = self.attend(copies, value, context, state)
        branch = self.out_proj(self._gate(attended, gate))
        # the sum of two dtypes has the wider one: a pass less on a GPU than a conversion before it
        out = (x + dropout(branch, self.hidden_dropout, self.training)).to(x.dtype)
        return (out if self.norm_position == "pre" else self.norm(out)), weights

    def _activate_and_split(self, projected: Tensor) -> tuple[Tensor, ...]:
        if isinstance(self.activation, nn.SiLU):
            return silu_split(projected, self.widths)
        return self.activation(projected).split(self.widths, dim=-1)

    def _gate(self, attended: Tensor, gate: Tensor) -> Tensor:
        norm = self.attention_norm
        if norm is None:
            return gate * attended
        if isinstance(norm, RMSNorm):
            return norm(attended, gate)
        return gate * norm(attended)

    def diagonals(self, longest: int) -> Float[Tensor, " distances"] | None:
        """Return the bias of the scores for each distance, in float32 at least."""
        if self.relative_bias is None:
            return None
        diagonals: Tensor = self.relative_bias(longest, by_distance=True)
        return diagonals.to(torch.promote_types(diagonals.dtype, torch.float32))

    def _shift(self, hidden: Tensor, context: TokenContext, state: UnitState | None) -> Tensor:
        previous = None if state is None else state.shifted
        shifted = shift_tokens(
            hidden,
            self.shift_channels,
            context.mask,
            causal=self.causal,
            segments=context.segments,
            previous=previous,
        )
        if state is not None:
            last = hidden[:, -1, : self.shift_channels]
            state.shifted = last if context.mask is None else last * context.mask[:, -1:]
        return shifted


def _as_projected(x: Tensor) -> Tensor:
    """Convert to what autocast would give the projection: half as many bytes to move on the way there."""
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return x.to(torch.get_autocast_dtype(device))
    return x
