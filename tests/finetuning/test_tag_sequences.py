"""The tags found are the likeliest of all that make sense, by an enumeration of all there are."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flash.finetuning.problems import tag_sequences
from flash.finetuning.problems.tag_sequences import likeliest_tags


def makes_sense(tags, *, may_go_on):
    """Say whether each I- (2, 4, ...) follows the B- before it in number, or itself."""
    begins_well = may_go_on or tags[0] == 0 or tags[0] % 2 == 1
    return begins_well and all(tag == 0 or tag % 2 == 1 or before in (tag - 1, tag) for before, tag in pairwise(tags))


def score(tags, logits):
    """Sum the log probabilities of the tags."""
    return sum(row[tag] - np.logaddexp.reduce(row) for row, tag in zip(logits, tags, strict=True))


def best_score(logits, *, may_go_on):
    """Try all sequences that make sense."""
    tokens, tags = logits.shape
    sensible = (each for each in product(range(tags), repeat=tokens) if makes_sense(each, may_go_on=may_go_on))
    return max(score(each, logits) for each in sensible)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), labels=st.integers(1, 2), lengths=st.lists(st.integers(0, 4), max_size=6))
def test_no_sensible_sequence_is_likelier(seed, labels, lengths):
    generator = np.random.default_rng(seed)
    logits = [3.0 * generator.standard_normal((length, 1 + 2 * labels)) for length in lengths]
    may_go_on = [bool(generator.integers(2)) for _ in lengths]
    found = likeliest_tags(logits, may_go_on=may_go_on)
    assert [len(tags) for tags in found] == lengths
    for tags, rows, open_ in zip(found, logits, may_go_on, strict=True):
        if len(tags):
            assert makes_sense(tags, may_go_on=open_)
            assert score(tags, rows) == pytest.approx(best_score(rows, may_go_on=open_))


def test_the_number_of_sequences_changes_none_of_them(monkeypatch):
    generator = np.random.default_rng(0)
    logits = [generator.standard_normal((1 + index % 7, 5)).astype(np.float16) for index in range(40)]
    may_go_on = [index % 3 == 0 for index in range(40)]
    together = likeliest_tags(logits, may_go_on=may_go_on)
    monkeypatch.setattr(tag_sequences, "_AT_ONCE", 3)
    for one, other in zip(together, likeliest_tags(logits, may_go_on=may_go_on), strict=True):
        np.testing.assert_array_equal(one, other)
