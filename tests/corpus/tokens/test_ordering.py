import numpy as np

from flash.corpus.tokens.ordering import document_key


def keys(seed):
    return [document_key(file, offset, seed) for file in range(40) for offset in range(0, 100_000, 100)]


def test_without_a_seed_keys_count_up_through_the_input():
    assert keys(None) == sorted(set(keys(None)))


def test_with_a_seed_no_two_documents_share_a_key():
    assert len(set(keys(1))) == len(keys(1))
    assert set(keys(1)).isdisjoint(keys(2))


def test_with_a_seed_keys_spread_evenly():
    drawn = keys(3)
    counts, _ = np.histogram(np.array(drawn, dtype=np.float64) / 2**64, bins=100, range=(0, 1))
    expected = len(drawn) / 100
    # chi-squared of 99 degrees of freedom: 160 is passed once in ten thousand
    assert ((counts - expected) ** 2 / expected).sum() < 160
    ranks = np.argsort(drawn)
    assert abs(np.corrcoef(ranks, np.arange(len(ranks)))[0, 1]) < 0.02
