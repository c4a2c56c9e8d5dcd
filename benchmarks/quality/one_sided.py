"""What a one-directional n-gram model predicts at hidden positions, whose contexts have hidden tokens themselves."""

import numpy as np
from numpy.typing import NDArray

from kneser_ney import UNKNOWN, KneserNeyModel

# keeps the hypotheses of a row alive at a visible token that none of them allows
LEAST_LIKELIHOOD = 1e-30


class LeftToRightFilter:
    """Read rows from the left and predict chosen positions from all that was visible before them.

    A hidden token is kept as a beam of weighted hypotheses, as in forward filtering of a hidden Markov model:

        P(c at t | visible before t) ~ sum over hypotheses h of weight[h] * P(c | last tokens, filled in as h says)

    At a hidden position the likeliest (hypothesis, token) pairs go on, and one more hypothesis, whose context stops
    at the hidden token, stands for all others; at a visible position each hypothesis is weighted by the probability
    that it gave the visible token. ``beam_width`` 0 leaves only the contexts that stop: a position just behind a
    hidden token is then predicted by token frequency alone.

    Args:
        model: For reading from the right, a model of reversed rows, given reversed rows.
        fillable_ids: Ids that a hidden token can have, ascending.
        mask_token_id: Id that stands for a hidden token.
        beam_width: Hypotheses kept for each row, beside the one for all others.
    """

    def __init__(
        self, model: KneserNeyModel, *, fillable_ids: NDArray[np.int64], mask_token_id: int, beam_width: int
    ) -> None:
        self.model = model
        self.fillable_ids = fillable_ids
        self.mask_token_id = mask_token_id
        self.beam_width = beam_width

    def predict(
        self, input_ids: NDArray[np.int64], lengths: NDArray[np.int64], numbers: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the log probabilities of the fillable tokens at the numbered positions.

        Args:
            input_ids: Masked rows, shape ``(rows, longest)``.
            lengths: Tokens in each row without padding, shape ``(rows,)``.
            numbers: Row of the output for each position, -1 where none is wanted, shape ``(rows, longest)``.

        Returns:
            Shape ``(numbered positions, fillable tokens)``; each row is normalised over the fillable tokens.
        """
        row_count, longest = input_ids.shape
        out = np.empty((int(numbers.max(initial=-1)) + 1, len(self.fillable_ids)), dtype=np.float32)
        slots = self.beam_width + 1
        contexts = np.full((row_count, slots, self.model.order - 1), UNKNOWN)
        weights = np.zeros((row_count, slots))
        weights[:, 0] = 1.0
        last_hidden = np.full(row_count, -self.model.order)
        for t in range(longest):
            # all hypotheses of a row agree again once its last hidden token has left the contexts
            weights[last_hidden <= t - self.model.order] = np.eye(1, slots)
            tokens = np.repeat(input_ids[:, t, None], slots, axis=1)  # (rows, slots): what each hypothesis appends
            inside = t < lengths
            hidden = inside & (input_ids[:, t] == self.mask_token_id)
            wanted = np.flatnonzero(hidden | (inside & (numbers[:, t] >= 0)))
            masses = self._predict(contexts[wanted], weights[wanted])
            numbered = numbers[wanted, t] >= 0
            predictions = masses[numbered] / masses[numbered].sum(axis=1, keepdims=True)
            out[numbers[wanted[numbered], t]] = np.log(predictions)

            unsure = np.flatnonzero(inside & ~hidden & (np.count_nonzero(weights, axis=1) > 1))
            if len(unsure):
                likelihoods = self._likelihoods(contexts[unsure], tokens[unsure, :1])[:, :, 0]
                weights[unsure] *= likelihoods + LEAST_LIKELIHOOD
                weights[unsure] /= weights[unsure].sum(axis=1, keepdims=True)
            rows = np.flatnonzero(hidden)
            if len(rows):
                parents, tokens[rows], weights[rows] = self._extend(
                    contexts[rows], weights[rows], masses[hidden[wanted]]
                )
                contexts[rows] = contexts[rows[:, None], parents]
                last_hidden[rows] = t
            contexts = np.concatenate([contexts[:, :, 1:], tokens[:, :, None]], axis=2)
        return out

    def _predict(self, contexts: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mix the hypotheses of each row, ``(rows, slots, order - 1)``, into ``(rows, fillable tokens)``."""
        row, slot = np.nonzero(weights > 0)
        mixed = self.model.mixtures(contexts[row, slot], weights[row, slot], row, len(contexts))
        return mixed[:, self.fillable_ids]

    def _likelihoods(self, contexts: NDArray[np.int64], tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return P(token | hypothesis) of tokens ``(rows, candidates)``, shape ``(rows, slots, candidates)``."""
        rows, slots, width = contexts.shape
        of_each = np.repeat(tokens, slots, axis=0)
        return self.model.probabilities(contexts.reshape(-1, width), of_each).reshape(rows, slots, tokens.shape[1])

    def _extend(
        self, contexts: NDArray[np.int64], weights: NDArray[np.float64], masses: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return slot to go on from, token to append and weight of the next hypotheses, each ``(rows, slots)``."""
        candidates = self.fillable_ids[_highest(masses, self.beam_width)]  # (rows, candidates)
        joint = (weights[:, :, None] * self._likelihoods(contexts, candidates)).reshape(len(weights), -1)
        kept = _highest(joint, self.beam_width)
        total = masses.sum(axis=1, keepdims=True)
        kept_weights = np.take_along_axis(joint, kept, axis=1) / total
        parents, candidate = np.divmod(kept, max(candidates.shape[1], 1))
        tokens = np.take_along_axis(candidates, candidate, axis=1)
        rest = np.maximum(1 - kept_weights.sum(axis=1, keepdims=True), 0)
        return (
            np.pad(parents, ((0, 0), (0, 1))),  # a context that stops at its last token may come from any slot
            np.pad(tokens, ((0, 0), (0, 1)), constant_values=UNKNOWN),
            np.concatenate([kept_weights, rest], axis=1),
        )


def _highest(values: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Return the indices of the ``count`` highest values of each row, or of all if there are no more, unsorted."""
    if values.shape[1] <= count:
        return np.broadcast_to(np.arange(values.shape[1]), values.shape)
    return np.argpartition(-values, count, axis=1)[:, :count]
