"""Spans of whole words: how often each may begin, so that every word is masked with the same probability."""

from functools import lru_cache
from math import prod

# SpanBERT's: short spans are the most frequent ones
_GEOMETRIC = 0.2


@lru_cache
def reach_probabilities(mask_probability: float, longest: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Say how probable it is that a span reaches so many words, at the first word of a row and at any other.

    A span begins at any word with a probability ``q``, whatever the others do, and takes ``n`` words, ``1 <= n <=
    longest``, with probability proportional to ``(1 - 0.2) ** n`` (a geometric distribution cut off, as in SpanBERT,
    arXiv 1907.10529, section 3.1). A word is masked if a span reaches it, and ``q`` solves

        1 - prod_{k < longest} (1 - q P(n > k)) = mask_probability

    so that each word is masked with exactly ``mask_probability``; SpanBERT draws spans until a budget is spent instead.
    At the first word of a row the probabilities are those of the farthest of all spans that would have come from before
    it, so that words at the beginning are masked as often as others.

    Args:
        mask_probability: Share of the words to mask.
        longest: Most words in a span; 1: words are chosen independently.

    Returns:
        For ``k = 0 ... longest - 1`` the probability that more than ``k`` words from here on are reached: at the first
        word of a row, and at any other by the spans that begin there.
    """
    weights = [(1 - _GEOMETRIC) ** n for n in range(1, longest + 1)]
    longer_than = [sum(weights[k:]) / sum(weights) for k in range(longest)]
    low, high = 0.0, 1.0
    for _ in range(64):  # bisection down to a rounding
        begin = (low + high) / 2
        too_often = 1 - prod(1 - begin * share for share in longer_than) > mask_probability
        low, high = (low, begin) if too_often else (begin, high)
    others = tuple(begin * share for share in longer_than)
    first = tuple(1 - prod(1 - share for share in others[k:]) for k in range(longest))
    return first, others
