"""Rotary position embedding over half-split pairs: entry ``i`` turns together with entry ``i + s / 2``."""

import torch
from jaxtyping import Float
from torch import Tensor


def rotary_angles(
    length: int,
    dim: int,
    *,
    start: int = 0,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[Float[Tensor, "n half_s"], Float[Tensor, "n half_s"]]:
    """Compute the cosine and sine of ``position * 10000^(-i / (s / 2))``.

    Angles are computed in float32 at least, because position 511 is not exact in bfloat16. Source: arXiv
    2104.09864, section 3.2.2; arXiv 2202.10447, appendix (``rope``).

    Args:
        length: Number of positions ``n``.
        dim: Width ``s`` of the vectors to rotate, even.
        start: First position.
        dtype: float64 gives float64 angles; any other dtype gives float32.
    """
    if dim % 2:
        raise ValueError(f"dim must be even, got {dim}: rotary embedding turns pairs of entries")
    dtype = torch.float64 if dtype == torch.float64 else torch.float32
    half = dim // 2
    frequencies = 10000.0 ** (-torch.arange(half, device=device, dtype=dtype) / half)
    positions = torch.arange(length, device=device, dtype=dtype) + start
    angles = positions[:, None] * frequencies
    return angles.cos(), angles.sin()


def apply_rotary(
    x: Float[Tensor, "*batch n s"], cos: Float[Tensor, "n half_s"], sin: Float[Tensor, "n half_s"]
) -> Float[Tensor, "*batch n s"]:
    """Rotate each pair ``(x[i], x[i + s / 2])`` by its angle; inner products then depend on distance only."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def deinterleave(x: Float[Tensor, "*batch s"]) -> Float[Tensor, "*batch s"]:
    """Put the even entries before the odd ones: interleaved pairs ``(x[2i], x[2i + 1])`` become half-split ones."""
    return torch.cat((x[..., 0::2], x[..., 1::2]), dim=-1)
