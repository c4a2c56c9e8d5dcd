"""Normalisation over the model width, by name."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flash.ops.gated_norm import gated_rms_norm
from flash.ops.scale_norm import scale_norm


class ScaleNorm(nn.Module):
    """Divide by the root mean square and multiply with one learned scalar, see ``flash.ops.scale_norm``."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """Normalise each vector; the statistic is float32 at least, whatever the dtype of ``x``."""
        return scale_norm(x, self.scale, self.eps)

    def extra_repr(self) -> str:
        """Show the constant in ``print(model)``."""
        return f"eps={self.eps}"


class RMSNorm(nn.RMSNorm):
    """``torch.nn.RMSNorm`` with the statistic in float32 at least and the dtype of ``x`` kept.

        out = x / sqrt(mean(x^2) + eps) * weight

    Source: arXiv 1910.07467. Under autocast the input is half precision while the weight is not; without a weight
    (``elementwise_affine=False``) the statistic is float32 at least.
    """

    def forward(
        self, x: Float[Tensor, "*batch d"], gate: Float[Tensor, "*batch d"] | None = None
    ) -> Float[Tensor, "*batch d"]:
        """Normalise each vector; with ``gate``, multiply by it too, see ``flash.ops.gated_norm``."""
        if gate is not None:
            assert self.weight is not None
            assert self.eps is not None
            return gated_rms_norm(x, gate, self.weight, self.eps)
        dtype = torch.promote_types(x.dtype, torch.float32) if self.weight is None else self.weight.dtype
        return super().forward(x.to(dtype)).to(x.dtype)


NORM_TYPES = ("scale_norm", "layer_norm", "rms_norm")


def build_norm(norm_type: str, dim: int, eps: float) -> nn.Module:
    """Build the norm called ``scale_norm``, ``layer_norm`` or ``rms_norm`` over ``dim`` channels."""
    if norm_type == "scale_norm":
        return ScaleNorm(eps)
    if norm_type == "layer_norm":
        return nn.LayerNorm(dim, eps=eps)
    if norm_type == "rms_norm":
        return RMSNorm(dim, eps=eps)
    raise ValueError(f"norm_type must be one of {', '.join(NORM_TYPES)}, got {norm_type!r}")
