"""What a model is given: refused where it makes no sense, completed where something is left out."""

import torch
from torch import Tensor

from flash.errors import InputError
from flash.ops.chunk_layout import leading_padding, position_in_run, text_runs


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
    if is_readable(new) and not ((new == 0) | (new == 1)).all():
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
    if segments is not None:
        return position_in_run(text_runs(segments, mask))
    positions = torch.arange(length, device=device).expand(batch_size, length)
    if mask is not None:
        return (positions - leading_padding(mask)[:, None]).clamp(min=0)
    return positions


def check_input_ids(input_ids: Tensor, vocab_size: int) -> None:
    """Refuse ids outside the vocabulary."""
    if input_ids.is_floating_point() or input_ids.dtype == torch.bool:
        raise InputError(f"input_ids must be integers, got {input_ids.dtype}; pass embeddings as inputs_embeds")
    if input_ids.dim() != 2 or not input_ids.numel():
        raise InputError(
            "input_ids must have the shape (batch_size, sequence_length) with at least one row and at least one token, "
            f"got {tuple(input_ids.shape)}"
        )
    outside = number_outside(input_ids, vocab_size)
    if outside is not None:
        raise InputError(
            f"input_ids must lie between 0 and vocab_size - 1 = {vocab_size - 1}, got {outside}; "
            "is the tokenizer another model's, or was it extended without resize_token_embeddings?"
        )


def check_inputs_embeds(inputs_embeds: Tensor, hidden_size: int) -> None:
    """Refuse embeddings of another width, and none."""
    if inputs_embeds.dim() != 3 or not inputs_embeds.numel() or inputs_embeds.shape[2] != hidden_size:
        raise InputError(
            f"inputs_embeds must have the shape (batch_size, sequence_length, hidden_size) with hidden_size = "
            f"{hidden_size}, at least one row and at least one token, got {tuple(inputs_embeds.shape)}"
        )


def check_token_types(token_type_ids: Tensor, shape: tuple[int, int], type_vocab_size: int) -> None:
    """Refuse token types that there are no embeddings for."""
    _check_integers("token_type_ids", token_type_ids, shape)
    outside = number_outside(token_type_ids, type_vocab_size)
    if outside is not None:
        raise InputError(
            f"token_type_ids must lie between 0 and type_vocab_size - 1 = {type_vocab_size - 1}, got {outside}"
        )


def check_positions(position_ids: Tensor, shape: tuple[int, int]) -> None:
    """Refuse positions that do not fit the batch, one row for all or one each."""
    _check_integers("position_ids", position_ids, shape, one_row=True)
    if is_readable(position_ids) and (position_ids < 0).any():
        raise InputError(f"position_ids must not be negative, got {position_ids.min().item()}")


def number_segments(seq_idx: Tensor, shape: tuple[int, int]) -> Tensor:
    """Number the packed sequences of each row; a sequence is a run of equal numbers.

    A number that comes again behind others names another sequence.
    """
    _check_integers("seq_idx", seq_idx, shape)
    return _count_begins(seq_idx[:, 1:] != seq_idx[:, :-1])


def segments_of_positions(position_ids: Tensor | None, attention_mask: Tensor | None) -> Tensor | None:
    """Number the sequences of rows in which positions begin anew; None where none does, with a mask, and in a graph.

    That is how rows are packed by ``DataCollatorWithFlattening`` for other models of transformers. On a GPU this waits
    for it, as finding out what is padding does.
    """
    if position_ids is None or position_ids.dim() != 2 or attention_mask is not None or torch.compiler.is_compiling():
        return None
    before, after = position_ids[:, :-1], position_ids[:, 1:]
    begins = (after <= before) & (after != before).any(dim=1, keepdim=True)  # one position for all tokens packs nothing
    return _count_begins(begins) if begins.any() else None


def _count_begins(begins: Tensor) -> Tensor:
    return torch.nn.functional.pad(begins, (1, 0)).long().cumsum(dim=1)


def number_outside(x: Tensor, end: int) -> int | None:
    """Find a number below 0 or from ``end`` on, where looking costs no transfer from a GPU (CUDA itself asserts)."""
    if not is_readable(x):
        return None
    smallest, largest = x.min().item(), x.max().item()
    if smallest >= 0 and largest < end:
        return None
    return int(smallest if smallest < 0 else largest)


def _check_integers(name: str, x: Tensor, shape: tuple[int, int], *, one_row: bool = False) -> None:
    fits = x.shape == shape or (one_row and x.shape == (1, shape[1]))
    if fits and not x.is_floating_point() and x.dtype != torch.bool:
        return
    raise InputError(
        f"{name} must hold an integer for each token, shape (batch_size, sequence_length) = {tuple(shape)}, "
        f"got {x.dtype} of shape {tuple(x.shape)}"
    )


def is_readable(x: Tensor) -> bool:
    """Tell whether the numbers may be looked at: on a GPU that would wait for it, in a graph it cannot be done."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()
