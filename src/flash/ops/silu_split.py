"""SiLU of a projection, cut into its parts: gate, value and base."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import silu


def silu_split(x: Float[Tensor, "*batch w"], widths: Sequence[int]) -> tuple[Float[Tensor, "*batch _"], ...]:
    """Compute ``split(silu(x), widths)`` over the channels; each part is contiguous.

    Eager code writes every part where it stays, and the gradient of the parts where that of ``x`` is.
    """
    if torch.compiler.is_compiling():
        return silu(x).split(list(widths), dim=-1)
    return _SiLUSplit.apply(x, list(widths))


class _SiLUSplit(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, widths: list[int]) -> tuple[Tensor, ...]:
        return tuple(silu(part).contiguous() for part in x.split(widths, dim=-1))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, ctx.widths = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # a gradient of this gradient is asked for
            return *torch.func.vjp(silu, x)[1](torch.cat(grads, dim=-1)), None
        grad_x = torch.empty_like(x)
        for grad, part, out in zip(grads, x.split(ctx.widths, dim=-1), grad_x.split(ctx.widths, dim=-1), strict=True):
            torch.ops.aten.silu_backward.grad_input(grad, part, grad_input=out)
        return grad_x, None
