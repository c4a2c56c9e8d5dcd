"""What a head is scored on: refused where it does not fit, and averaged over what is scored.

A batch in which nothing is scored has the loss 0, not NaN: one such batch would destroy a model.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from flash.errors import InputError
from flash.models.inputs import number_outside

NOT_SCORED = -100


def class_ids(labels: Tensor, shape: tuple[int, ...], classes: int, *, what: str) -> Tensor:
    """Return labels as int64 after refusing what does not fit.

    Args:
        labels: Integers of shape ``shape`` between 0 and ``classes - 1``, or -100 where not scored.
        what: What the labels number, for the message.
    """
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise InputError(f"labels must be integers here, got {labels.dtype}: they number the {what}")
    if labels.shape != shape:
        raise InputError(f"labels must have the shape {tuple(shape)}, got {tuple(labels.shape)}")
    outside = number_outside(labels.masked_fill(labels == NOT_SCORED, 0), classes)
    if outside is not None:
        raise InputError(
            f"labels must lie between 0 and {classes - 1}, the {what}, or be {NOT_SCORED} where nothing is scored; "
            f"got {outside}"
        )
    return labels.long()


def scored_items(labels: Tensor) -> Tensor:
    """Count the labels that are scored, at least 1, so that the count can divide."""
    return (labels != NOT_SCORED).sum().clamp(min=1)


def span_loss(start_logits: Tensor, end_logits: Tensor, start_positions: Tensor, end_positions: Tensor) -> Tensor:
    """Average the cross-entropies of first and last token, ``(batch_size, sequence_length)``.

    Args:
        start_positions: ``(batch_size,)``; a position at or beyond the end of the input is not scored.
        end_positions: The same for the last token.
    """
    batch_size, length = start_logits.shape
    losses = []
    for name, logits, positions in (
        ("start_positions", start_logits, start_positions),
        ("end_positions", end_logits, end_positions),
    ):
        if positions.is_floating_point() or positions.shape not in {(batch_size,), (batch_size, 1)}:
            raise InputError(
                f"{name} must hold an integer for each row, shape ({batch_size},), "
                f"got {positions.dtype} of shape {tuple(positions.shape)}"
            )
        negative = number_outside(positions.clamp(max=0), 1)
        if negative is not None:
            raise InputError(f"{name} must not be negative, got {negative}; one beyond the input is not scored")
        positions = positions.reshape(batch_size).long().to(logits.device)
        positions = torch.where(positions < length, positions, NOT_SCORED)
        total = cross_entropy(logits.float(), positions, ignore_index=NOT_SCORED, reduction="sum")
        losses.append(total / scored_items(positions))
    return (losses[0] + losses[1]) / 2
