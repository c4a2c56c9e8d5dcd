"""ScaleNorm in few passes over memory."""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def scale_norm(x: Float[Tensor, "*batch d"], scale: Float[Tensor, "1"], eps: float) -> Float[Tensor, "*batch d"]:
    """Divide by the root mean square and multiply with one number.

        out = x / sqrt(mean(x^2) + eps) * scale

    The statistic is float32 at least; the result has the dtype of ``x``. Source: arXiv 1910.05895; the mean (not the
    sum) of squares and the place of ``eps`` follow arXiv 2202.10447, appendix (``norm``).
    """
    return _formula(x, scale, eps) if torch.compiler.is_compiling() else _ScaleNorm.apply(x, scale, eps)[0]


def _formula(x: Tensor, scale: Tensor, eps: float) -> Tensor:
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + eps) * scale).to(x.dtype)


class _ScaleNorm(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, scale: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(x.dtype, torch.float32)
        squares = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide).square_()
        inverse = (squares / x.shape[-1]).add_(eps).rsqrt_()  # (..., 1)
        return (x * (inverse * scale)).to(x.dtype), inverse

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, scale, ctx.eps = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(x, scale, output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, inverse = ctx.saved_tensors
        if torch.is_grad_enabled():  # a gradient of this gradient is asked for
            return *torch.func.vjp(partial(_formula, eps=ctx.eps), x, scale)[1](grad), None
        # in half precision the products would leave the range, or lose what nearly cancels in their sum
        inner = (grad * x.to(inverse.dtype)).sum(dim=-1, keepdim=True)  # (..., 1)
        grad_scale = (inner * inverse).sum().to(scale.dtype).view_as(scale)
        factor = inverse * scale
        grad_x = (grad * factor).addcmul_(x, factor * inverse.square() * inner / -x.shape[-1])
        return grad_x.to(x.dtype), grad_scale, None
