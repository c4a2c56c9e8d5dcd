"""Refuse gradients of gradients where an operation does not know them."""

from typing import Any

from torch import Tensor
from torch.library import CustomOpDef

from flash.errors import InputError


def differentiable_once(backward: CustomOpDef, name: str) -> None:
    """Let the operation ``backward``, which computes the gradients of attention by ``name``, have none of its own."""

    def refuse(ctx: Any, *grads: Tensor) -> None:
        raise InputError(
            f"{name} can be differentiated once: for gradients of gradients set attention_backend='reference'"
        )

    backward.register_autograd(refuse)
