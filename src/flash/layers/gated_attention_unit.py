"""One FLASH-Quad layer: gating and single-head attention in one unit."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from flash.layers.norms import RMSNorm, build_norm
from flash.layers.offset_scale import OffsetScale
from flash.ops.quadratic_attention import quadratic_attention
from flash.ops.rotary import apply_rotary
from flash.ops.token_shift import shift_tokens


class GatedAttentionUnit(nn.Module):
    """Gate the attention output of a shared low-width base, and add it to the input.

        h = norm(x)                                             (channels shifted between neighbours if asked)
        u, v, z = split(act(h W_in + b_in), [e, e, s])
        q, k = rotate(z * gain[0] + offset[0]), rotate(z * gain[1] + offset[1])
        out = x + (u * (A(q, k) v)) W_out + b_out               (A v normalised over e if asked)

    ``A`` is ``flash.ops.quadratic_attention``. Source: arXiv 2202.10447, section 3.1.

    Args:
        dim: Model width ``d``.
        inner_dim: Gate and value width ``e``.
        query_key_dim: Query and key width ``s``.
        relative_bias: Module that gives the ``(n, n)`` bias of a length.
        activation: Function applied to the input projection, SiLU in the paper.
        norm_type: ``scale_norm``, ``layer_norm`` or ``rms_norm``.
        eps: Added to the mean square (or variance) inside every norm of the unit.
        score_scale: Factor on ``q . k``, inside the square.
        score_divisor: Constant that divides the squared scores.
        attention_norm: Divide ``A v`` by its root mean square over ``e``, with a learned gain, before the gate. Any
            positive factor of a row of ``A`` cancels in it (arXiv 2210.10340 and 2307.08621 do so to linear attention).
        shift_channels: Channels of ``h`` taken from each neighbour, see ``flash.ops.token_shift``.
    """

    def __init__(
        self,
        *,
        dim: int,
        inner_dim: int,
        query_key_dim: int,
        relative_bias: nn.Module,
        activation: Callable[[Tensor], Tensor],
        norm_type: str,
        eps: float,
        score_scale: float,
        score_divisor: float = 1.0,
        attention_norm: bool = False,
        shift_channels: int = 0,
    ) -> None:
        super().__init__()
        self.widths = [inner_dim, inner_dim, query_key_dim]
        self.score_scale = score_scale
        self.score_divisor = score_divisor
        self.shift_channels = shift_channels
        self.activation = activation
        self.norm = build_norm(norm_type, dim, eps)
        self.in_proj = nn.Linear(dim, sum(self.widths))
        self.offset_scale = OffsetScale(2, query_key_dim)
        self.relative_bias = relative_bias
        self.attention_norm = RMSNorm(inner_dim, eps=eps) if attention_norm else None
        self.out_proj = nn.Linear(inner_dim, dim)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        cos: Float[Tensor, "n half_s"],
        sin: Float[Tensor, "n half_s"],
        mask: Bool[Tensor, "b n"] | None = None,
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b n n"]]:
        """Return the layer's output and the attention weights it used.

        Args:
            cos: Cosines of the rotary angles, see ``flash.ops.rotary``.
            sin: Their sines.
            mask: True where a token is real; None when all are.
        """
        hidden = self.norm(x)
        if self.shift_channels:
            hidden = shift_tokens(hidden, self.shift_channels, mask)
        gate, value, base = self.activation(self.in_proj(hidden)).split(self.widths, dim=-1)
        query, key = (apply_rotary(copy, cos, sin) for copy in self.offset_scale(base))
        attended, weights = quadratic_attention(
            query.to(value.dtype),
            key.to(value.dtype),
            value,
            self.relative_bias(x.shape[1]).to(torch.promote_types(value.dtype, torch.float32)),
            scale=self.score_scale,
            divisor=self.score_divisor,
            query_mask=mask,
            key_mask=mask,
        )  # (b, n, e), (b, n, n)
        if self.attention_norm is not None:
            attended = self.attention_norm(attended)
        return x + self.out_proj(gate * attended).to(x.dtype), weights
