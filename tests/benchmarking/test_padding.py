import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flash.benchmarking.padding import DISTRIBUTIONS, draw_lengths, pack, packed_batch, padded_batch
from flash.errors import InputError

from helpers import few_examples

LENGTHS = st.lists(st.integers(1, 16), min_size=1, max_size=40)
CPU = torch.device("cpu")


@few_examples
@given(LENGTHS)
def test_every_sequence_is_packed_once_and_no_row_overflows(lengths):
    rows = pack(lengths, 16)
    assert sorted(number for row in rows for number in row) == list(range(len(lengths)))
    used = [sum(lengths[number] for number in row) for row in rows]
    assert max(used) <= 16
    # no two rows would fit into one
    assert len(used) == 1 or sum(sorted(used)[:2]) > 16


@few_examples
@given(LENGTHS)
def test_a_packed_batch_holds_the_tokens_of_the_padded_one(lengths):
    padded = padded_batch(lengths, 16, CPU)
    packed = packed_batch(padded, lengths)
    assert packed["attention_mask"].sum() == padded["attention_mask"].sum() == sum(lengths)
    for number, length in enumerate(lengths):
        here = packed["seq_idx"] == number
        assert here.sum() == length
        for name in ("input_ids", "labels", "attention_mask"):
            assert torch.equal(packed[name][here], padded[name][number, :length])
    rest = packed["seq_idx"] == -1
    assert (packed["labels"][rest] == -100).all()
    assert not packed["attention_mask"][rest].any()


def test_headlines_are_as_long_as_those_of_tnews():
    lengths = draw_lengths("headlines", 20_000, longest=128)
    assert sum(lengths) / len(lengths) == pytest.approx(24.25, rel=0.02)
    assert (min(lengths), max(lengths)) == (DISTRIBUTIONS["headlines"][0], DISTRIBUTIONS["headlines"][-1])
    assert lengths == draw_lengths("headlines", 20_000, longest=128)


def test_lengths_come_from_a_file_and_are_cut_to_the_width(tmp_path):
    file = tmp_path / "lengths.txt"
    file.write_text("3\n5\n900\n", encoding="utf-8")
    assert set(draw_lengths(str(file), 100, longest=64)) == {3, 5, 64}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "neither a file nor one of headlines"),
        (b"", "the file is empty"),
        (b"3\n0\n", "number 2: '0' is no positive number"),
        (b"3\nten\n", "number 2: 'ten' is no positive number"),
        (b"\xff\xfe\x00", "not a text file"),
    ],
)
def test_a_distribution_that_is_none_is_one_line(tmp_path, content, message):
    file = tmp_path / "lengths.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        draw_lengths(str(file), 3, longest=8)
