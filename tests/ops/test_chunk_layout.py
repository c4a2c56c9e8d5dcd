import torch
from hypothesis import given
from hypothesis import strategies as st

from flash.ops.chunk_layout import left_aligned_layout, packed_layout

from helpers import few_examples, normal


def test_padding_on_the_left_goes_behind_the_rest():
    mask = torch.tensor([[False, False, True, True], [True, True, True, False], [False] * 4])
    layout = left_aligned_layout(mask)
    assert layout.slots.tolist() == [[2, 3, 0, 1], [0, 1, 2, 3], [0, 1, 2, 3]]
    assert layout.mask.tolist() == [[True, True, False, False], [True, True, True, False], [False] * 4]


def test_each_packed_sequence_begins_a_chunk():
    segments = torch.tensor([[0, 0, 0, 0, 0, 1, 1, 2], [4, 4, 4, 4, 4, 4, 4, 4]])
    layout = packed_layout(segments, None, 4)
    assert layout.slots.tolist() == [[0, 1, 2, 3, 4, 8, 9, 12], list(range(8))]
    assert layout.length == 16
    first, second = layout.segments.tolist()
    assert first[0] == first[1] != first[2] != first[3]
    assert second[0] == second[1]
    assert second[2:] == [-1, -1]


def test_padding_before_the_first_token_of_a_packed_sequence_is_not_counted():
    segments = torch.tensor([[0, 0, 0, 1, 1, 1, 1]])
    mask = torch.tensor([[False, True, True, False, False, True, True]])
    layout = packed_layout(segments, mask, 2)
    # two chunks of padding, and real tokens at the beginning of two others
    assert [slot for slot, real in zip(layout.slots[0].tolist(), mask[0].tolist(), strict=True) if real] == [2, 3, 6, 7]


@few_examples
@given(st.data())
def test_a_layout_gives_back_what_was_placed(data):
    length = data.draw(st.integers(1, 9), label="length")
    cuts = data.draw(st.lists(st.booleans(), min_size=2 * length, max_size=2 * length), label="cuts")
    real = data.draw(st.lists(st.booleans(), min_size=2 * length, max_size=2 * length), label="real")
    mask, segments = torch.tensor(real).reshape(2, -1), torch.tensor(cuts).reshape(2, -1).long().cumsum(dim=1)
    chunk_size = data.draw(st.integers(1, 4), label="chunk size")
    x = normal(2, length, 3)
    for layout in (left_aligned_layout(mask), packed_layout(segments, mask, chunk_size)):
        placed = layout.place(x)
        assert torch.equal(layout.take(placed), x)
        assert torch.equal(layout.mask.sum(dim=1), mask.sum(dim=1))
        assert torch.equal(layout.mask.gather(1, layout.slots), mask)
