"""Fill the masks of a row from both sides, with exponents fitted on held-out text."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from one_sided import LeftToRightFilter

# the positions of a class share their exponents; what a side can say depends most on its nearest token
CLASSES = ("both neighbours visible", "left one masked", "right one masked", "both masked")
FEATURES = ("forward", "backward", "unigram")

BLOCK = 1024  # positions at a time, which bounds the memory of a fit


@dataclass(frozen=True)
class SidePredictions:
    """What each side says of every scored position, as log probabilities ``(positions, fillable tokens)``."""

    forward: NDArray[np.float32]
    backward: NDArray[np.float32]
    classes: NDArray[np.int64]  # (positions,) index in CLASSES

    def features(self, log_unigram: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Return what the exponents of ``FEATURES`` multiply."""
        return [self.forward, self.backward, np.broadcast_to(-log_unigram, self.forward.shape)]


def predict_from_both_sides(
    forward: LeftToRightFilter,
    backward: LeftToRightFilter,
    input_ids: NDArray[np.int64],
    lengths: NDArray[np.int64],
    scored: NDArray[np.bool_],
) -> SidePredictions:
    """Let both models predict the scored positions, in row-major order, from the masked rows alone.

    Args:
        forward: Of a model of rows.
        backward: Of a model of reversed rows.
        input_ids: Masked rows, shape ``(rows, longest)``.
        lengths: Tokens in each row without padding, shape ``(rows,)``.
        scored: True where a prediction is wanted, shape ``(rows, longest)``; never at the ends of a row.
    """
    numbers = np.full(scored.shape, -1)
    numbers[scored] = np.arange(np.count_nonzero(scored))
    position = np.arange(scored.shape[1])
    mirrored = np.where(position < lengths[:, None], lengths[:, None] - 1 - position, position)
    hidden = input_ids == forward.mask_token_id
    rows, columns = np.nonzero(scored)
    return SidePredictions(
        forward=forward.predict(input_ids, lengths, numbers),
        backward=backward.predict(
            np.take_along_axis(input_ids, mirrored, axis=1), lengths, np.take_along_axis(numbers, mirrored, axis=1)
        ),
        classes=hidden[rows, columns - 1] + 2 * hidden[rows, columns + 1],
    )


def combine(
    sides: SidePredictions,
    log_unigram: NDArray[np.float32],
    exponents: NDArray[np.float64],
    observed: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Return the log probability of every fillable token at every scored position.

        p(c) ~ forward(c)^alpha * backward(c)^beta / unigram(c)^lambda * evidence(c)

    With all exponents 1 this is Bayes' rule for sides that are independent given c. At a position that shows [MASK]
    the evidence is 1. At a scored position that shows a token, that token is the true one or a random one of the R
    fillable tokens, with the same probability (10 % and 10 % of the scored tokens), so Bayes' rule gives
    ``evidence(c) = 1/2 [c is shown] + 1/2 / R``: the shown token counts R + 1 times. That the position is scored is
    knowledge beyond the input, but a model trained on scored positions only acts on the same condition.

    Args:
        sides: Log probabilities of both sides.
        log_unigram: Log frequency of the fillable tokens, shape ``(fillable tokens,)``.
        exponents: ``alpha, beta, lambda`` of each class, shape ``(classes, 3)``.
        observed: Index of the shown token among the fillable ones, -1 where [MASK] is shown, shape ``(positions,)``.

    Returns:
        Shape ``(positions, fillable tokens)``.
    """
    # in the features' float32: its rounding is 1e-6 nats, and the arrays are the bulk of the memory
    alpha, beta, lam = exponents.astype(np.float32)[sides.classes].T[:, :, None]
    scores = alpha * sides.forward + beta * sides.backward - lam * log_unigram
    visible = np.flatnonzero(observed >= 0)
    scores[visible, observed[visible]] += np.log(1 + len(log_unigram))
    return scores - _log_sum_exp(scores)[:, None]


def fit_exponents(
    sides: SidePredictions, log_unigram: NDArray[np.float32], targets: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Fit the exponents of each class by maximum likelihood, with a standard normal prior around 1.

    The model is log-linear in them, so the loss is convex and Newton's method finds its one minimum. The prior
    decides only where the text leaves exponents open, as where both neighbours are masked.

    Args:
        sides: Log probabilities of both sides at positions that show [MASK].
        log_unigram: Log frequency of the fillable tokens, shape ``(fillable tokens,)``.
        targets: Index of the true token among the fillable ones, shape ``(positions,)``.

    Returns:
        Shape ``(classes, 3)``, in the order of ``FEATURES``.
    """
    features = sides.features(log_unigram)
    return np.stack([_newton(features, targets, np.flatnonzero(sides.classes == c)) for c in range(len(CLASSES))])


def _newton(
    features: list[NDArray[np.float32]], targets: NDArray[np.int64], members: NDArray[np.int64]
) -> NDArray[np.float64]:
    exponents = np.ones(len(features))
    loss, gradient, hessian = _derivatives(features, targets, members, exponents)
    for _ in range(50):
        step = np.linalg.solve(hessian, gradient)
        if gradient @ step < 1e-6:  # twice what the loss can still fall by, in nats over all positions
            return exponents
        # a full step may pass the minimum; half of it often enough does not
        while (trial := _derivatives(features, targets, members, exponents - step))[0] > loss:
            step /= 2
        exponents -= step
        loss, gradient, hessian = trial
    raise RuntimeError(f"Newton's method found no minimum in 50 steps; the gradient is {gradient}")


def _derivatives(
    features: list[NDArray[np.float32]],
    targets: NDArray[np.int64],
    members: NDArray[np.int64],
    exponents: NDArray[np.float64],
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Return the penalised loss in nats, its gradient ``(3,)`` and its Hessian ``(3, 3)``."""
    offset = exponents - 1
    loss, gradient, hessian = float(offset @ offset) / 2, offset.copy(), np.eye(len(exponents))
    for start in range(0, len(members), BLOCK):
        block = members[start : start + BLOCK]
        values = np.stack([feature[block] for feature in features], axis=-1).astype(np.float64)  # (block, tokens, 3)
        scores = values @ exponents
        log_sums = _log_sum_exp(scores)
        probabilities = np.exp(scores - log_sums[:, None])[:, None]  # (block, 1, tokens)
        true = np.arange(len(block)), targets[block]
        means = (probabilities @ values)[:, 0]  # (block, 3)
        loss += float(np.sum(log_sums - scores[true]))
        gradient += np.sum(means - values[true], axis=0)
        hessian += np.sum((probabilities * values.mT) @ values, axis=0) - means.T @ means
    return loss, gradient, hessian


def _log_sum_exp(scores: NDArray[np.floating]) -> NDArray[np.floating]:
    highest = scores.max(axis=1)
    return highest + np.log(np.exp(scores - highest[:, None]).sum(axis=1))
