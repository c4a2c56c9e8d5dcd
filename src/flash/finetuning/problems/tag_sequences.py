"""The likeliest sequence of tags among those that make sense: no I- without a B- or I- of its label before it.

Taking each token's likeliest tag by itself breaks entities to pieces where the model is unsure of a label. What is
maximised here is the sum of the tags' log probabilities, by Viterbi's algorithm (A. Viterbi 1967) with transitions that
cost nothing or are impossible.
"""

from collections.abc import Sequence

import numpy as np

from flash.finetuning.problems.problem import log_softmax

_AT_ONCE = 1024  # sequences, so that memory does not grow with their number


def likeliest_tags(logits: Sequence[np.ndarray], *, may_go_on: Sequence[bool]) -> list[np.ndarray]:
    """Find the likeliest sensible tags of each sequence.

    Args:
        logits: One array (tokens, tags) a sequence; the tags are O, B- and I- of the first label, of the second, ...
        may_go_on: Whether a sequence may begin inside an entity, because it is no text's beginning.

    Returns:
        One array (tokens,) of tags a sequence; of equally likely sequences one.
    """
    order = sorted(range(len(logits)), key=lambda index: len(logits[index]))  # of like length together: less padding
    found: list[np.ndarray] = [np.zeros(0, np.int64)] * len(logits)
    for begin in range(0, len(order), _AT_ONCE):
        part = [index for index in order[begin : begin + _AT_ONCE] if len(logits[index])]
        if part:
            tags = _padded_tags([logits[index] for index in part], np.array([may_go_on[index] for index in part]))
            for index, of_sequence in zip(part, tags, strict=True):
                found[index] = of_sequence
    return found


def _padded_tags(logits: Sequence[np.ndarray], may_go_on: np.ndarray) -> list[np.ndarray]:
    lengths = np.array([len(rows) for rows in logits])
    scores = np.zeros((len(logits), lengths.max(), logits[0].shape[-1]))
    for row, values in zip(scores, logits, strict=True):
        row[: len(values)] = log_softmax(values)
    begins, inside = np.arange(1, scores.shape[-1], 2), np.arange(2, scores.shape[-1], 2)
    best = scores[:, 0].copy()  # of all sequences that end with a tag
    best[np.ix_(~may_go_on, inside)] = -np.inf
    came_from = np.zeros(scores.shape, np.int16)
    for place in range(1, scores.shape[1]):
        came_from[:, place] = best.argmax(axis=1)[:, None]
        came_from[:, place, inside] = np.where(best[:, begins] >= best[:, inside], begins, inside)
        reached = np.take_along_axis(best, came_from[:, place].astype(np.int64), axis=1) + scores[:, place]
        best = np.where((place < lengths)[:, None], reached, best)
    tags = np.zeros(scores.shape[:2], np.int64)
    tag = best.argmax(axis=1)
    for place in range(scores.shape[1] - 1, -1, -1):
        tags[:, place] = tag
        tag = np.where(place < lengths, came_from[np.arange(len(tag)), place, tag], tag)
    return [row[:length] for row, length in zip(tags, lengths, strict=True)]
