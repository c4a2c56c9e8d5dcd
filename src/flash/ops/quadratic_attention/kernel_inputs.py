"""What the kernels ask of their inputs: checked, then in the layout that they read."""

import torch
from torch import Tensor

from flash.errors import InputError
from flash.ops.backends import KERNEL_DTYPES, OLDEST_CAPABILITY, WIDEST_KEY

# one row apart by more, 128 rows of a tile would be beyond int32
LARGEST_STRIDE = 2**31 // 256


def check_inputs(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    diagonals: Tensor | None,
    key_mask: Tensor | None,
    cumulative_lengths: Tensor,
    longest: int,
) -> None:
    """Refuse what the kernels cannot compute. Reads no number from the device.

    Raises:
        InputError: Shapes or dtypes do not go together, or the dtype, key width or device is beyond the kernels.
    """
    tokens, s = query.shape
    if key.shape != query.shape or value.shape[0] != tokens:
        raise InputError(
            f"query, key and value must be (t, s), (t, s) and (t, e), got {tuple(query.shape)}, {tuple(key.shape)} and "
            f"{tuple(value.shape)}: pack queries and keys of the same tokens."
        )
    dtypes = {query.dtype, key.dtype, value.dtype}
    if len(dtypes) > 1 or query.dtype not in KERNEL_DTYPES:
        raise InputError(
            f"query, key and value must share one of float32, bfloat16 and float16, got {query.dtype}, {key.dtype} and "
            f"{value.dtype}: cast them before, or choose backend 'blocked'."
        )
    if not 1 <= s <= WIDEST_KEY:
        raise InputError(f"query_key_dim must be 1 to {WIDEST_KEY} for the kernels, got {s}: choose backend 'blocked'.")
    if diagonals is not None and diagonals.shape[0] % 2 == 0:
        raise InputError(f"diagonals must have an odd length 2 L - 1, got {diagonals.shape[0]}: one weight a distance.")
    if key_mask is not None and (key_mask.dtype != torch.bool or key_mask.shape != (tokens,)):
        raise InputError(
            f"key_mask must be boolean with one entry a token ({tokens}), got {key_mask.dtype} of shape "
            f"{tuple(key_mask.shape)}: compare it with 0 and flatten it."
        )
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


def check_device(device: torch.device, dtype: torch.dtype, *, interpreted: bool) -> None:
    """Refuse a device that the kernels do not run on.

    Raises:
        InputError: No CUDA device and no interpreter, or a device before Ampere; or half precision in the interpreter,
            whose products are then wrong.
    """
    if interpreted:
        if dtype != torch.float32:
            raise InputError(f"Triton's interpreter is right in float32 only, got {dtype}: unset TRITON_INTERPRET.")
        return
    if device.type != "cuda":
        raise InputError(
            f"the Triton kernels run on CUDA, got tensors on {device}: choose backend 'blocked', or set "
            "TRITON_INTERPRET=1 before Python starts to try them out slowly."
        )
    capability = torch.cuda.get_device_capability(device)
    if capability < OLDEST_CAPABILITY:
        raise InputError(
            f"the Triton kernels need compute capability 8.0, {torch.cuda.get_device_name(device)} has "
            f"{capability[0]}.{capability[1]}: choose backend 'blocked'."
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
