"""Biases of the attention scores that depend on the distance between query and key only."""

import torch
from jaxtyping import Float
from torch import Tensor

from flash.ops.rotary import apply_rotary, rotary_angles


def toeplitz_bias(weight: Float[Tensor, " distances"], length: int) -> Float[Tensor, "n n"]:
    """Lay one learned weight a distance along the diagonals.

        bias[i, j] = weight[clip(j - i, -(L - 1), L - 1) + L - 1],   weight of length 2L - 1

    Distances beyond those that were trained take the weight of the longest one (docs/maths.md, "Longer than trained").
    Source: arXiv 2202.10447, appendix (``rel_pos_bias``).
    """
    longest = weight.shape[0] // 2  # L - 1
    if length - 1 <= longest:
        diagonals = weight[longest - length + 1 : longest + length]
    else:
        beyond = length - 1 - longest
        diagonals = torch.cat((weight[:1].expand(beyond), weight, weight[-1:].expand(beyond)))
    # windows[r, j] = diagonals[r + j]; row i of the bias is window n - 1 - i. Reading windows instead of
    # gathering n^2 indices keeps the backward free of an n^2 scatter-add.
    return diagonals.unfold(0, length, 1).flip(0)


def rotary_product_bias(left: Float[Tensor, "1 s"], right: Float[Tensor, "1 s"], length: int) -> Float[Tensor, "n n"]:
    """Take the inner product of two learned vectors, each rotated to its position.

        bias[i, j] = rotate(left, i) . rotate(right, j)

    The earlier code uses it in place of the Toeplitz weights when ``max_position_embeddings`` is above 512.
    Source: arXiv 2202.10447, appendix (``rel_pos_bias``, long sequences).
    """
    cos, sin = rotary_angles(length, left.shape[-1], device=left.device, dtype=left.dtype)
    rotated_left = apply_rotary(left.expand(length, -1), cos, sin)
    rotated_right = apply_rotary(right.expand(length, -1), cos, sin)
    return rotated_left @ rotated_right.mT
