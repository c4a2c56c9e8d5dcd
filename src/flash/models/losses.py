"""What a head is scored on: refused where it does not fit, and averaged over what is scored, in float32 at least.

Every loss is a sum divided by a count. ``Trainer`` gives the count of all micro-batches of a step, which makes gradient
accumulation exact; without it, the loss counts for itself. A batch in which nothing is scored has the loss 0, not NaN:
one such batch would destroy a model.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from flash.errors import InputError
from flash.models.base_configuration import PROBLEM_TYPES
from flash.models.inputs import is_readable, number_outside

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
    labels = labels.long()
    outside = number_outside(labels.masked_fill(labels == NOT_SCORED, 0), classes)
    if outside is not None:
        raise InputError(
            f"labels must lie between 0 and {classes - 1}, the {what}, or be {NOT_SCORED} where nothing is scored; "
            f"got {outside}"
        )
    return labels


def pick_scored(labels: Tensor, count: int | None = None) -> Tensor:
    """Number the scored positions of flattened labels, in their order; or ``count`` positions, these first.

    With ``count`` the shape of the result does not depend on the labels, which graphs of fixed shapes need; what is
    picked beyond the scored positions is not scored.

    Args:
        labels: Class ids ``(batch_size, sequence_length)``, -100 where not scored.
        count: Positions to pick; at least as many as are scored.

    Raises:
        InputError: More are scored. In a graph, and on a GPU, an assertion of the device says so.
    """
    scored = labels.flatten() != NOT_SCORED
    if count is None:
        return scored.nonzero()[:, 0]
    if not 1 <= count <= labels.numel():
        raise InputError(
            f"scored_logits_only (--scored_positions in training) must lie between 1 and {labels.numel()}, "
            f"the positions of a batch, got {count}"
        )
    found = scored.sum()
    if is_readable(labels) and found > count:
        raise InputError(
            f"scored_logits_only (--scored_positions in training) is {count}, but {found} positions are scored: "
            "raise it, or hide less"
        )
    torch._assert_async(found <= count, f"more than scored_logits_only={count} positions are scored")
    return (~scored).to(torch.uint8).argsort(stable=True)[:count]


def class_loss(logits: Tensor, labels: Tensor, num_items: Tensor | int | None = None) -> Tensor:
    """Average the cross-entropy of ``(..., classes)`` against class ids ``(...)``.

    Args:
        num_items: Number to divide the sum by; default: labels that are scored, at least 1.
    """
    labels = labels.to(logits.device)
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    total = F.cross_entropy(wide.flatten(0, -2), labels.flatten(), ignore_index=NOT_SCORED, reduction="sum")
    return total / _count((labels != NOT_SCORED).sum(), num_items, logits.device)


def value_loss(logits: Tensor, values: Tensor, problem_type: str, num_items: Tensor | int | None = None) -> Tensor:
    """Average the squared error, or the binary cross-entropy of several labels, over all numbers.

    Args:
        logits: ``(batch_size, num_labels)``.
        values: The same shape, or ``(batch_size,)`` for one label.
        problem_type: ``regression`` or ``multi_label_classification``.
        num_items: Number to divide the sum by; default: how many numbers there are.
    """
    if problem_type not in PROBLEM_TYPES:  # the configuration checks it when made, not when set later
        raise InputError(f"problem_type must be one of {', '.join(PROBLEM_TYPES)}, got {problem_type!r}")
    several = logits.shape[1] > 1
    wanted = logits.shape if several else logits.shape[:1]
    if values.shape not in {wanted, logits.shape}:
        raise InputError(
            f"labels must have the shape {tuple(wanted)}, a number for each sequence{' and label' if several else ''}, "
            f"got {tuple(values.shape)}"
        )
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    values = values.reshape(logits.shape).to(wide)
    if problem_type == "regression":
        total = F.mse_loss(wide, values, reduction="sum")
    else:
        if is_readable(values) and not ((values >= 0.0) & (values <= 1.0)).all():
            outside = values[(values < 0.0) | (values > 1.0)][0].item()
            raise InputError(f"labels must lie between 0 and 1 where several may hold, got {outside}")
        total = F.binary_cross_entropy_with_logits(wide, values, reduction="sum")
    return total / _count(torch.tensor(values.numel()), num_items, logits.device)


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
        positions = positions.reshape(batch_size).long()
        losses.append(class_loss(logits, torch.where(positions < length, positions, NOT_SCORED)))
    return (losses[0] + losses[1]) / 2


def _count(own: Tensor, given: Tensor | int | None, device: torch.device) -> Tensor | int:
    if given is None:
        return own.clamp(min=1).to(device)
    return given.clamp(min=1).to(device) if isinstance(given, Tensor) else max(given, 1)
