"""Interpolated modified Kneser-Ney n-gram model of token ids, in sorted arrays.

    P_k(c | context) = max(a - D(a), 0) / A + backoff(context) * P_{k-1}(c | context without its farthest token)

with ``a`` the adjusted count of the k-gram (context, c), ``A`` its sum over c, three discounts ``D`` a level from the
counts of counts, and ``backoff`` the mass that the discounts took. The adjusted count is the count at the highest
level; below it, the number of distinct tokens seen before the k-gram, plus its occurrences at the start of a row,
where nothing can come before. Below the unigrams lies the uniform distribution over the predictable tokens. A context
of which nothing at all is known is another question, answered by plain token frequencies. Source:
Chen and Goodman, "An Empirical Study of Smoothing Techniques for Language Modeling" (1999), section 3; row starts as
in Heafield et al., "Scalable Modified Kneser-Ney Language Model Estimation" (2013), section 3.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flash.errors import InputError

# stands in a context for a token that is not known or not there
UNKNOWN = -1


@dataclass(frozen=True)
class Level:
    """All k-grams of one k, sorted; k-gram = (rank of its first k-1 tokens one level below) * vocab_size + last token.

    The continuations of a context, the rank r below, are the slice ``context_starts[r]:context_starts[r + 1]``.
    """

    keys: NDArray[np.uint64]  # (grams,)
    counts: NDArray[np.int64]  # (grams,) adjusted
    discounts: NDArray[np.float64]  # (4,) by min(adjusted count, 3)
    context_starts: NDArray[np.int64]  # (contexts + 1,)
    context_totals: NDArray[np.float64]  # (contexts,) 1 where nothing continues, so that division is safe
    backoffs: NDArray[np.float64]  # (contexts,) 1 where nothing continues

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the rank of each key, ``UNKNOWN`` where it was not seen."""
        if len(self.keys) == 0:
            return np.full(keys.shape, UNKNOWN)
        ranks = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[ranks] == keys, ranks, UNKNOWN)

    def shares(self, grams: NDArray[np.int64], contexts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the discounted relative frequency of k-grams in their contexts."""
        counts = self.counts[grams]
        return (counts - self.discounts[np.minimum(counts, 3)]) / self.context_totals[contexts]


class KneserNeyModel:
    """P(token | up to ``order - 1`` tokens before it), trained on rows of token ids.

    Args:
        tokens: All rows, one after the other, shape ``(tokens,)``. The first token of a row is only a context.
        row_lengths: Tokens in each row, shape ``(rows,)``.
        predictable: True for a token that may be predicted, shape ``(vocab_size,)``; the others have no unigram
            probability, so none at all unless they were seen to follow something.
        order: Tokens in the longest n-gram; at least 2.

    Raises:
        InputError: An order below 2, or a token outside the vocabulary.
    """

    def __init__(
        self,
        tokens: NDArray[np.integer],
        row_lengths: NDArray[np.integer],
        *,
        predictable: NDArray[np.bool_],
        order: int,
    ) -> None:
        if order < 2:
            raise InputError(f"order must be at least 2, got {order}; it counts the tokens of the longest n-gram")
        self.order = order
        self.vocab_size = len(predictable)
        if len(tokens) and not 0 <= tokens.min() <= tokens.max() < self.vocab_size:
            raise InputError(
                f"token ids must lie in 0 ... {self.vocab_size - 1}, got {tokens.min()} ... {tokens.max()}; pass the "
                "tokenizer that the rows were made with"
            )
        self.levels: list[Level] = []  # of the bigrams, the trigrams, ...
        unigram_counts = self._count(tokens, np.asarray(row_lengths, dtype=np.int64))
        self.unigram_counts = np.where(predictable, unigram_counts, 0)
        self.unigram_discounts = modified_discounts(self.unigram_counts)
        self.unigram = _unigram(self.unigram_counts, self.unigram_discounts, predictable)
        # of each token, for a context of which nothing is known; half an occurrence more keeps it positive
        occurrences = np.where(predictable, np.bincount(tokens, minlength=self.vocab_size) + 0.5, 0.0)
        self.frequencies: NDArray[np.float64] = occurrences / occurrences.sum()

    def context_ranks(self, contexts: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Look up the last 1, 2, ... tokens of each context, shape ``(contexts, order - 1)``, nearest token last.

        Returns:
            For each length the ranks, shape ``(contexts,)``; ``UNKNOWN`` where that many tokens were never seen in a
            row, or one of them is ``UNKNOWN``.
        """
        ranks_by_length = []
        for length in range(1, self.order):
            ranks = contexts[:, -length]
            for level, token in zip(self.levels, range(1 - length, 0), strict=False):
                known = np.flatnonzero((ranks >= 0) & (contexts[:, token] >= 0))
                longer = np.full(len(contexts), UNKNOWN)
                longer[known] = level.find(self._keys(ranks[known], contexts[known, token]))
                ranks = longer
            ranks_by_length.append(ranks)
        return ranks_by_length

    def mixtures(
        self,
        contexts: NDArray[np.int64],
        weights: NDArray[np.float64],
        groups: NDArray[np.int64],
        group_count: int,
    ) -> NDArray[np.float64]:
        """Add up weighted distributions: ``out[g] = sum over the contexts of group g of weight * P(. | context)``.

        Interpolation is linear, so every level only adds the seen continuations of a context, times the weight and
        the backoff of the levels above.

        Args:
            contexts: Shape ``(contexts, order - 1)``, nearest token last, ``UNKNOWN`` where there is none.
            weights: Shape ``(contexts,)``.
            groups: The group of each context, shape ``(contexts,)``.
            group_count: Number of groups.

        Returns:
            Shape ``(groups, vocab_size)``.
        """
        ranks_by_length = self.context_ranks(contexts)
        remaining = np.array(weights, dtype=np.float64)
        cells, masses = [], []
        for level, ranks in zip(reversed(self.levels), reversed(ranks_by_length), strict=True):
            seen = np.flatnonzero(ranks >= 0)
            starts = level.context_starts[ranks[seen]]
            lengths = level.context_starts[ranks[seen] + 1] - starts
            owner = np.repeat(seen, lengths)
            grams = np.arange(len(owner)) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
            tokens = (level.keys[grams] % np.uint64(self.vocab_size)).astype(np.int64)
            cells.append(groups[owner] * self.vocab_size + tokens)
            masses.append(remaining[owner] * level.shares(grams, ranks[owner]))
            remaining[seen] *= level.backoffs[ranks[seen]]
        size = group_count * self.vocab_size
        nothing_known = contexts[:, -1] == UNKNOWN
        out = np.outer(np.bincount(groups, remaining * ~nothing_known, minlength=group_count), self.unigram)
        out += np.outer(np.bincount(groups, remaining * nothing_known, minlength=group_count), self.frequencies)
        out += np.bincount(np.concatenate(cells), np.concatenate(masses), minlength=size).reshape(out.shape)
        return out

    def distributions(self, contexts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return P(. | context) for contexts ``(contexts, order - 1)``, shape ``(contexts, vocab_size)``."""
        return self.mixtures(contexts, np.ones(len(contexts)), np.arange(len(contexts)), len(contexts))

    def probabilities(self, contexts: NDArray[np.int64], tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return P(token | context) for contexts ``(contexts, order - 1)`` and tokens ``(contexts, candidates)``."""
        nothing_known = contexts[:, -1:] == UNKNOWN
        out = np.where(nothing_known, self.frequencies[tokens], self.unigram[tokens])
        for level, ranks in zip(self.levels, self.context_ranks(contexts), strict=True):
            known = np.flatnonzero(ranks >= 0)
            out[known] *= level.backoffs[ranks[known]][:, None]
            grams = level.find(self._keys(ranks[known][:, None], tokens[known]))
            row, candidate = np.nonzero(grams >= 0)
            out[known[row], candidate] += level.shares(grams[row, candidate], ranks[known[row]])
        return out

    def _keys(self, ranks: NDArray[np.int64], tokens: NDArray[np.integer]) -> NDArray[np.uint64]:
        return ranks.astype(np.uint64) * np.uint64(self.vocab_size) + tokens.astype(np.uint64)

    def _count(self, tokens: NDArray[np.integer], row_lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Fill ``levels`` and return the adjusted counts of the unigrams, shape ``(vocab_size,)``."""
        row_ends = np.cumsum(row_lengths)
        left_in_row = np.repeat(row_ends, row_lengths) - np.arange(len(tokens))
        row_starts = row_ends - row_lengths
        ranks = tokens.astype(np.int64)  # of the (k-1)-gram that starts at each position
        gram_count = self.vocab_size
        keys = np.zeros(0, dtype=np.uint64)
        unigram_counts = np.zeros(0, dtype=np.int64)
        context_count = 0
        for size in range(2, self.order + 1):
            starts = np.flatnonzero(left_in_row >= size)
            new_keys, first, new_ranks, occurrences = np.unique(
                self._keys(ranks[starts], tokens[starts + size - 1]),
                return_index=True,
                return_inverse=True,
                return_counts=True,
            )
            # one occurrence of each k-gram says which (k-1)-gram it ends with: one more distinct token before that
            adjusted = np.bincount(ranks[starts[first] + 1], minlength=gram_count)
            at_row_start = row_starts[row_lengths >= size - 1]
            adjusted += np.bincount(ranks[at_row_start], minlength=gram_count)
            if size == 2:
                unigram_counts = adjusted
            else:
                self.levels.append(_level(keys, adjusted, context_count, self.vocab_size))
            context_count, gram_count, keys = gram_count, len(new_keys), new_keys
            ranks[starts] = new_ranks
        self.levels.append(_level(keys, occurrences, context_count, self.vocab_size))
        return unigram_counts


def modified_discounts(counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """Compute the discounts of counts 0, 1, 2 and 3 or more from the counts of counts.

    Where a corpus is too small for the estimate (none of the counts 1 to 4 may be missing, each discount must lie
    between 0 and its count) they are 0.5, 1 and 1.5, KenLM's ``--discount_fallback``.
    """
    n1, n2, n3, n4 = (int(np.count_nonzero(counts == count)) for count in (1, 2, 3, 4))
    if min(n1, n2, n3, n4) > 0:
        y = n1 / (n1 + 2 * n2)
        discounts = np.array([0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
        if np.all((discounts >= 0) & (discounts <= np.arange(4))):
            return discounts
    return np.array([0.0, 0.5, 1.0, 1.5])


def _level(keys: NDArray[np.uint64], counts: NDArray[np.int64], context_count: int, vocab_size: int) -> Level:
    contexts = (keys // np.uint64(vocab_size)).astype(np.int64)
    discounts = modified_discounts(counts)
    continuations = np.bincount(contexts, minlength=context_count)
    totals = np.bincount(contexts, counts, minlength=context_count)
    discounted = np.bincount(contexts, discounts[np.minimum(counts, 3)], minlength=context_count)
    context_totals = np.where(continuations > 0, totals, 1.0)
    return Level(
        keys=keys,
        counts=counts,
        discounts=discounts,
        context_starts=np.concatenate([[0], np.cumsum(continuations)]),
        context_totals=context_totals,
        backoffs=np.where(continuations > 0, discounted / context_totals, 1.0),
    )


def _unigram(
    counts: NDArray[np.int64], discounts: NDArray[np.float64], predictable: NDArray[np.bool_]
) -> NDArray[np.float64]:
    taken = discounts[np.minimum(counts, 3)]
    # with nothing counted, all the mass is the uniform distribution's
    total = counts.sum() or 1
    uniform = predictable / predictable.sum()
    return (counts - taken) / total + (taken.sum() / total if counts.any() else 1.0) * uniform
