"""What the attention over sequences asks of its inputs: checked; for the kernels, in the layout that they read."""

import torch
from torch import Tensor

from flash.errors import InputError
from flash.ops.backends import kernels_obstacle

# one row apart by more, 128 rows of a tile would be beyond int32
LARGEST_STRIDE = 2**31 // 256


def check_shapes(query: Tensor, key: Tensor, value: Tensor, diagonals: Tensor | None, key_mask: Tensor | None) -> None:
    """Refuse what does not belong to the same tokens."""
    tokens = query.shape[0]
    if key.shape != query.shape or value.shape[0] != tokens:
        raise InputError(
            f"query, key and value must be (t, s), (t, s) and (t, e), got {tuple(query.shape)}, {tuple(key.shape)} and "
            f"{tuple(value.shape)}: pack queries and keys of the same tokens."
        )
    if diagonals is not None and diagonals.shape[0] % 2 == 0:
        raise InputError(f"diagonals must have an odd length 2 L - 1, got {diagonals.shape[0]}: one weight a distance.")
    if key_mask is not None and (key_mask.dtype != torch.bool or key_mask.shape != (tokens,)):
        raise InputError(
            f"key_mask must be boolean with one entry a token ({tokens}), got {key_mask.dtype} of shape "
            f"{tuple(key_mask.shape)}: compare it with 0 and flatten it."
        )


def check_inputs(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    diagonals: Tensor | None,
    key_mask: Tensor | None,
    cumulative_lengths: Tensor,
    longest: int,
    *,
    interpreted: bool,
) -> None:
    """Refuse what the kernels cannot compute. Reads no number from the device.

    Args:
        interpreted: Whether the kernels run in Triton's interpreter.

    Raises:
        InputError: Shapes or dtypes do not go together, or the kernels cannot run, see ``backends.kernels_obstacle``.
    """
    check_shapes(query, key, value, diagonals, key_mask)
    tokens, s = query.shape
    if not query.dtype == key.dtype == value.dtype:
        raise InputError(
            f"query, key and value must share a dtype, got {query.dtype}, {key.dtype} and {value.dtype}: cast them "
            "before, or choose backend 'blocked'."
        )
    obstacle = kernels_obstacle(query.device, query.dtype, s, interpreted=interpreted)
    if obstacle is not None:
        raise InputError(f"{obstacle}: choose backend 'blocked', which does without.")
    if cumulative_lengths.dtype != torch.int32 or cumulative_lengths.ndim != 1 or len(cumulative_lengths) < 1:
        raise InputError(
            f"cumulative_lengths must be int32 of shape (sequences + 1,), got {cumulative_lengths.dtype} of shape "
            f"{tuple(cumulative_lengths.shape)}: cast the cumulative sum, 0 first."
        )
    sequences = len(cumulative_lengths) - 1
    if tokens > sequences * longest:
        raise InputError(
            f"longest must be the length of the longest sequence, got {longest}: {sequences} sequences of it cannot "
            f"hold {tokens} tokens."
        )
    for other in (key, value, diagonals, key_mask, cumulative_lengths):
        if other is not None and other.device != query.device:
            raise InputError(
                f"all inputs must be on the device of query, {query.device}, got {other.device}: move them."
            )


def readable(tensor: Tensor) -> Tensor:
    """Copy a matrix whose rows the kernels cannot read in place: columns apart, or rows too far apart."""
    in_place = tensor.stride(-1) == 1 and 0 <= tensor.stride(0) <= LARGEST_STRIDE
    return tensor if in_place else tensor.contiguous()


def per_row(number: float | Tensor, like: Tensor) -> Tensor:
    """Lay out one float32 number a token. Counts of tokens and constants have no gradient."""
    if isinstance(number, Tensor):
        assert not number.requires_grad
        return number.float().contiguous()
    return torch.full((like.shape[0],), number, dtype=torch.float32, device=like.device)
