"""Gain and offset per copy of the shared base: queries and keys from one projection."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


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
