import torch
from hypothesis import given
from hypothesis import strategies as st

from flash.ops.sequences import Sequences

from helpers import few_examples

CPU = torch.device("cpu")
lengths = st.lists(st.integers(1, 6), min_size=1, max_size=6)


@few_examples
@given(lengths)
def test_runs_bounds_positions_and_numbers_tell_the_same(lengths):
    sequences = Sequences.of_lengths(lengths, CPU)
    assert sequences.lengths == lengths
    assert sequences.longest == max(lengths)
    assert sequences.tokens == sum(lengths)
    assert sequences.cumulative_lengths.diff().tolist() == lengths
    assert sequences.positions().tolist() == [position for length in lengths for position in range(length)]
    assert sequences.numbers().tolist() == [number for number, length in enumerate(lengths) for _ in range(length)]


@few_examples
@given(lengths, st.integers(1, 4))
def test_pieces_of_a_size_make_up_the_sequences(lengths, size):
    pieces = Sequences.of_lengths(lengths, CPU).cut(size)
    assert pieces.longest <= size
    rest = iter(pieces.lengths)
    for length in lengths:
        while length:
            piece = next(rest)
            assert piece == min(size, length)
            length -= piece
    assert next(rest, None) is None


def test_no_sequence_has_no_token():
    for lengths in ([], [0, 0]):
        sequences = Sequences.of_lengths(lengths, CPU)
        assert (sequences.tokens, sequences.longest) == (0, 0)
        assert sequences.cut(2).tokens == 0


def test_rows_are_sequences_of_one_length():
    rows = Sequences.rows(3, 4, CPU)
    assert (rows.runs, rows.cumulative_lengths.tolist()) == (((3, 4),), [0, 4, 8, 12])
    assert rows.cut(2).runs == ((6, 2),)
    assert Sequences.of_lengths([4, 4, 4], CPU).runs == rows.runs
