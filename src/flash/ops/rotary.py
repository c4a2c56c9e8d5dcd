"""Rotary position embedding over half-split pairs: entry ``i`` turns together with entry ``i + s / 2``."""

import torch
from jaxtyping import Float, Int
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

    Source: arXiv 2104.09864, section 3.2.2; arXiv 2202.10447, appendix (``rope``).

    Args:
        length: Number of positions ``n``.
        dim: Width ``s`` of the vectors to rotate, even.
        start: First position.
        dtype: float64 gives float64; any other dtype gives float32, since position 511 is not exact in bfloat16.
    """
    if dim % 2:
        raise ValueError(f"dim must be even, got {dim}: rotary embedding turns pairs of entries")
    positions = torch.arange(start, start + length, device=device)
    angles = position_angles(positions, dim)
    dtype = torch.float64 if dtype == torch.float64 else torch.float32
    return angles.cos().to(dtype), angles.sin().to(dtype)


def position_angles(positions: Int[Tensor, "*batch n"], dim: int) -> Float[Tensor, "*batch n half"]:
    """Compute ``position * 10000^(-i / (dim / 2))`` in float64, where the device has it.

    In float32 an angle at position 100,000 is wrong by several thousandths.
    """
    half = dim // 2
    dtype = widest_float(positions.device)
    frequencies = 10000.0 ** (-torch.arange(half, device=positions.device, dtype=dtype) / half)
    return positions[..., None].to(dtype) * frequencies


def widest_float(device: torch.device) -> torch.dtype:
    """Return float64, or float32 where the device has none."""
    return torch.float32 if device.type == "mps" else torch.float64


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
