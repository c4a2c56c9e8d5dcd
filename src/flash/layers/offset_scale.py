"""Gain and offset per copy of the shared base: queries and keys from one projection."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flash.ops.rotary import deinterleave


class OffsetScale(nn.Module):
    """Make ``copies`` affine copies of the shared base, each with a gain and an offset a channel.

        out[h] = base * gain[h] + offset[h]

    Source: arXiv 2202.10447, section 3.1 (``Q(Z), K(Z)``: per-dim scalars and offsets).
    """

    def __init__(self, copies: int, dim: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(copies, dim))
        self.offset = nn.Parameter(torch.zeros(copies, dim))

    def forward(self, base: Float[Tensor, "b n s"]) -> tuple[Float[Tensor, "b n s"], ...]:
        """Return the copies in order."""
        return tuple(base * gain + offset for gain, offset in zip(self.gain, self.offset, strict=True))

    def extra_repr(self) -> str:
        """Show the shape in ``print(model)``."""
        return f"copies={self.gain.shape[0]}, dim={self.gain.shape[1]}"


class QueryKeyScale(nn.Module):
    """Make the query and the key of GAU-alpha from the shared base: a gain a channel and no offset.

    Its rotary pairs are neighbours, ``(0, 1), (2, 3), ...``; the channels come out in the order of half-split pairs.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query_gain = nn.Parameter(torch.ones(dim))
        self.key_gain = nn.Parameter(torch.ones(dim))

    def forward(self, base: Float[Tensor, "b n s"]) -> tuple[Float[Tensor, "b n s"], Float[Tensor, "b n s"]]:
        """Return query and key."""
        return deinterleave(base * self.query_gain), deinterleave(base * self.key_gain)
