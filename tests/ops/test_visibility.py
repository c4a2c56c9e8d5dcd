import torch
from hypothesis import given
from hypothesis import strategies as st

from flash.ops.visibility import visible_counts, visible_pairs

import transcription_attention
from helpers import few_examples

CPU = torch.device("cpu")


def test_nothing_to_hide_needs_no_mask():
    assert visible_pairs(3, 5, device=CPU) is None
    assert visible_pairs(1, 1, device=CPU, causal=True) is None


@few_examples
@given(st.data())
def test_pairs_are_those_of_the_transcription(data):
    length = data.draw(st.integers(1, 7), label="length")
    mask = torch.tensor(data.draw(st.lists(st.booleans(), min_size=2 * length, max_size=2 * length))).reshape(2, -1)
    causal = data.draw(st.booleans(), label="causal")
    cuts = data.draw(st.lists(st.booleans(), min_size=2 * length, max_size=2 * length), label="cuts")
    segments = torch.tensor(cuts).reshape(2, -1).long().cumsum(dim=1)
    pairs = visible_pairs(length, length, device=CPU, query_mask=mask, key_mask=mask, segments=segments, causal=causal)
    expected = transcription_attention.visible(mask, causal, segments)
    assert torch.equal(pairs, expected)
    assert torch.equal(visible_counts(pairs), expected.sum(dim=-1).clamp(min=1).float())


def test_new_queries_are_the_last_ones_of_the_keys():
    whole = visible_pairs(6, 6, device=CPU, causal=True)
    assert torch.equal(visible_pairs(2, 6, device=CPU, causal=True), whole[:, 4:])
