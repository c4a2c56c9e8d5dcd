"""Root-mean-square norm and gate in one step: what stands between the attention and the output projection."""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import rms_norm


def gated_rms_norm(
    x: Float[Tensor, "*batch e"], gate: Float[Tensor, "*batch e"], weight: Float[Tensor, " e"], eps: float
) -> Float[Tensor, "*batch e"]:
    """Normalise, scale by channel, and gate.

        out = gate * x / sqrt(mean(x^2) + eps) * weight

    The statistic is float32 at least. Eager code keeps products in the dtype of ``x``, and of the forward pass nothing
    but its inputs and one number a row; a compiler fuses the formula itself.
    """
    # the inverse of the root, at most eps^-0.5, is rounded to the dtype of x
    if torch.compiler.is_compiling() or eps**-0.5 > torch.finfo(x.dtype).max:
        return _formula(x, gate, weight, eps)
    return _GatedNorm.apply(x, gate, weight, eps)[0]


def _formula(x: Tensor, gate: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = torch.promote_types(x.dtype, torch.float32)
    return gate * rms_norm(x.to(wide), (x.shape[-1],), weight.to(wide), eps).to(x.dtype)


class _GatedNorm(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, gate: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(x.dtype, torch.float32)
        # the norm accumulates in float32 without a copy in float32
        square_sum = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide).square_()
        inverse = (square_sum / x.shape[-1]).add_(eps).rsqrt_()  # (..., 1)
        return (x * inverse.to(x.dtype)).mul_(weight.to(x.dtype)).mul_(gate), inverse

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, gate, weight, ctx.eps = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(x, gate, weight, output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        x, gate, weight, inverse = ctx.saved_tensors
        if torch.is_grad_enabled():  # a gradient of this gradient is asked for
            return *torch.func.vjp(partial(_formula, eps=ctx.eps), x, gate, weight)[1](grad), None
        short = weight.to(x.dtype)
        normed = x * inverse.to(x.dtype)
        product = grad * normed
        grad_gate = product * short
        columns = product.mul_(gate).flatten(0, -2)
        grad_weight = columns.sum(dim=0, dtype=torch.promote_types(x.dtype, torch.float32)).to(weight.dtype)
        # out = normed * (gate * weight); of the norm, what is not along normed passes on
        along = (columns @ short).view_as(inverse) / x.shape[-1]
        grad_x = (grad * gate).mul_(short).sub_(normed.mul_(along)).mul_(inverse.to(x.dtype))
        return grad_x, grad_gate, grad_weight, None
