"""What a model is given: refused where it makes no sense, completed where something is left out."""

import torch
from torch import Tensor

from flash.errors import InputError
from flash.ops.chunk_layout import leading_padding


def real_tokens(
    input_ids: Tensor | None,
    attention_mask: Tensor | None,
    *,
    shape: tuple[int, int],
    past_length: int,
    pad_token_id: int | None,
) -> Tensor | None:
    """Tell which tokens are real: from the mask, else those that are not the padding token; None for all.

    Args:
        attention_mask: 1 where a token is real, of shape ``(batch_size, past_length + sequence_length)``.
        shape: ``(batch_size, sequence_length)``.
        past_length: Tokens in the cache; what is real among them the cache knows.
    """
    batch_size, length = shape
    if attention_mask is None:
        if input_ids is None or pad_token_id is None:
            return None
        return input_ids != pad_token_id
    if attention_mask.shape != (batch_size, past_length + length):
        wanted = "(batch_size, sequence_length)" if not past_length else "(batch_size, cached + sequence_length)"
        raise InputError(
            f"attention_mask must have the shape {wanted} = ({batch_size}, {past_length + length}), "
            f"1 for a real token, got {tuple(attention_mask.shape)}"
        )
    new = attention_mask[:, past_length:]
    if new.dtype == torch.bool:
        return new
    if _can_be_read(new) and not ((new == 0) | (new == 1)).all():
        # an additive mask (0 and -inf) would be taken for its opposite
        raise InputError(
            f"attention_mask must be boolean, or hold 1 for a real token and 0 for padding, got {attention_mask.dtype} "
            f"with values from {new.min().item()} to {new.max().item()}"
        )
    return new.to(torch.bool)


def count_positions(
    mask: Tensor | None, segments: Tensor | None, shape: tuple[int, ...], device: torch.device
) -> Tensor:
    """Number the tokens from the first real one of each row, or of each packed sequence."""
    batch_size, length = shape
    positions = torch.arange(length, device=device).expand(batch_size, length)
    if segments is not None:
        starts = torch.nn.functional.pad(segments[:, 1:] != segments[:, :-1], (1, 0), value=True)
        return positions - torch.where(starts, positions, 0).cummax(dim=1).values
    if mask is not None:
        return (positions - leading_padding(mask)[:, None]).clamp(min=0)
    return positions


def check_input_ids(input_ids: Tensor, vocab_size: int) -> None:
    """Refuse ids outside the vocabulary, where looking costs no transfer from a GPU (there CUDA itself asserts)."""
    if input_ids.is_floating_point():
        raise InputError(f"input_ids must be integers, got {input_ids.dtype}; pass embeddings as inputs_embeds")
    if input_ids.dim() != 2 or input_ids.shape[1] == 0:
        raise InputError(
            "input_ids must have the shape (batch_size, sequence_length) with at least one token, "
            f"got {tuple(input_ids.shape)}"
        )
    if _can_be_read(input_ids):
        smallest, largest = input_ids.min().item(), input_ids.max().item()
        if smallest < 0 or largest >= vocab_size:
            outside = smallest if smallest < 0 else largest
            raise InputError(
                f"input_ids must lie between 0 and vocab_size - 1 = {vocab_size - 1}, got {outside}; "
                "is the tokenizer another model's, or was it extended without resize_token_embeddings?"
            )


def check_segments(seq_idx: Tensor, shape: tuple[int, int]) -> None:
    """Refuse sequence numbers that do not fit the batch."""
    if seq_idx.shape != shape or seq_idx.is_floating_point():
        raise InputError(
            f"seq_idx must hold an integer for each token, shape (batch_size, sequence_length) = {tuple(shape)}, "
            f"got {seq_idx.dtype} of shape {tuple(seq_idx.shape)}"
        )


def check_labels(labels: Tensor, classes: int, *, what: str, ignore: int | None = -100) -> None:
    """Refuse class ids outside ``0 ... classes - 1`` (``ignore`` apart), where looking costs no transfer from a GPU."""
    if labels.is_floating_point():
        raise InputError(f"labels must be integers here, got {labels.dtype}: they number the {what}")
    if not _can_be_read(labels):
        return
    outside = (labels < 0) | (labels >= classes)
    if ignore is not None:
        outside &= labels != ignore
    if outside.any():
        allowed = "" if ignore is None else f", or be {ignore} where nothing is scored"
        raise InputError(
            f"labels must lie between 0 and {classes - 1}, the {what}{allowed}; got {labels[outside][0].item()}"
        )


def _can_be_read(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.compiler.is_compiling() and not torch.jit.is_tracing()
