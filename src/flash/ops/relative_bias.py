"""Biases of the attention scores that depend on the distance between query and key only.

Each function takes ``query_length`` and ``key_length``: the queries are the last ones of the keys' positions, so
``query_length = key_length`` is a whole sequence and ``query_length = 1`` one step of generation.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flash.ops.rotary import apply_rotary, rotary_angles, widest_float


def toeplitz_bias(
    weight: Float[Tensor, " distances"], query_length: int, key_length: int | None = None
) -> Float[Tensor, "n m"]:
    """Lay one learned weight a distance along the diagonals.

        bias[i, j] = weight[clip(j - i, -(L - 1), L - 1) + L - 1],   weight of length 2L - 1

    Distances beyond those that were trained take the weight of the longest one (docs/maths.md, "Longer than trained").
    Source: arXiv 2202.10447, appendix (``rel_pos_bias``).
    """
    key_length = query_length if key_length is None else key_length
    longest = weight.shape[0] // 2  # L - 1
    if torch.compiler.is_exporting():
        # a graph for any length cannot decide whether there are longer distances than trained
        return weight[_distances(query_length, key_length, weight.device).clamp(-longest, longest) + longest]
    past, future = key_length - 1, query_length - 1  # the distances asked for are -past ... future
    diagonals = weight[max(longest - past, 0) : longest + future + 1]
    if past > longest or future > longest:
        before, after = max(past - longest, 0), max(future - longest, 0)
        diagonals = torch.cat((weight[:1].expand(before), diagonals, weight[-1:].expand(after)))
    return _along_diagonals(diagonals, key_length)


def bucketed_bias(
    weight: Float[Tensor, " buckets"],
    query_length: int,
    key_length: int | None = None,
    *,
    max_distance: int,
    causal: bool = False,
) -> Float[Tensor, "n m"]:
    """Share one learned weight among similar distances: one bucket a distance at first, then logarithmic ones.

    Half of the buckets are for keys behind the query unless ``causal``, when there are none. Source: arXiv
    1910.10683, section 2.1.

    Args:
        max_distance: Distances from here on share the last bucket.
    """
    key_length = query_length if key_length is None else key_length
    if torch.compiler.is_exporting():
        pairs = _distances(query_length, key_length, weight.device)
        return weight[distance_buckets(pairs, weight.shape[0], max_distance=max_distance, causal=causal)]
    distances = torch.arange(1 - key_length, query_length, device=weight.device)  # key minus query
    buckets = distance_buckets(distances, weight.shape[0], max_distance=max_distance, causal=causal)
    return _along_diagonals(weight[buckets], key_length)


def distance_buckets(
    distances: Int[Tensor, "*shape"], buckets: int, *, max_distance: int, causal: bool
) -> Int[Tensor, "*shape"]:
    """Number the bucket of each distance (key minus query)."""
    first = 0 * distances
    if causal:
        away = (-distances).clamp(min=0)
    else:
        buckets //= 2
        first = buckets * (distances > 0)
        away = distances.abs()
    exact = buckets // 2
    ratio = away.clamp(min=1).to(widest_float(away.device)) / exact
    logarithmic = ratio.log() / math.log(max_distance / exact) * (buckets - exact)
    far = (exact + logarithmic.long()).clamp(max=buckets - 1)
    return first + torch.where(away < exact, away, far)


def rotary_product_bias(
    left: Float[Tensor, "1 s"], right: Float[Tensor, "1 s"], query_length: int, key_length: int | None = None
) -> Float[Tensor, "n m"]:
    """Take the inner product of two learned vectors, each rotated to its position.

        bias[i, j] = rotate(left, i) . rotate(right, j)

    The earlier code uses it in place of the Toeplitz weights when ``max_position_embeddings`` is above 512.
    Source: arXiv 2202.10447, appendix (``rel_pos_bias``, long sequences).
    """
    key_length = query_length if key_length is None else key_length
    cos, sin = rotary_angles(key_length, left.shape[-1], device=left.device, dtype=left.dtype)
    rotated_left = apply_rotary(left.expand(query_length, -1), cos[-query_length:], sin[-query_length:])
    rotated_right = apply_rotary(right.expand(key_length, -1), cos, sin)
    return rotated_left @ rotated_right.mT


def rotary_product_diagonals(
    left: Float[Tensor, "1 s"], right: Float[Tensor, "1 s"], length: int
) -> Float[Tensor, " distances"]:
    """Compute ``rotary_product_bias`` for each distance from ``1 - length`` to ``length - 1``."""
    cos, sin = rotary_angles(2 * length - 1, left.shape[-1], start=1 - length, device=left.device, dtype=left.dtype)
    return (apply_rotary(right.expand(2 * length - 1, -1), cos, sin) @ left.mT)[:, 0]


def _distances(query_length: int, key_length: int, device: torch.device) -> Int[Tensor, "n m"]:
    positions = torch.arange(key_length, device=device)
    return positions - (torch.arange(query_length, device=device) + (key_length - query_length))[:, None]


def _along_diagonals(diagonals: Float[Tensor, " distances"], key_length: int) -> Float[Tensor, "n m"]:
    # windows[r, j] = diagonals[r + j]; row i of the bias is window n - 1 - i. Reading windows instead of
    # gathering n m indices keeps the backward free of a scatter-add of that size.
    return diagonals.unfold(0, key_length, 1).flip(0)
