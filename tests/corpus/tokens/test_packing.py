from hypothesis import given
from hypothesis import strategies as st

from flash.corpus.tokens.packing import _OPEN_ROWS, pack_sequences

LENGTHS = st.lists(st.integers(1, 20), max_size=400)


@given(LENGTHS)
def test_every_sequence_is_in_one_row_and_no_row_is_too_long(lengths):
    rows = list(pack_sequences(lengths, 20))
    assert sorted(number for row in rows for number in row) == list(range(len(lengths)))
    assert all(sum(lengths[number] for number in row) <= 20 for row in rows)


@given(LENGTHS)
def test_sequences_stand_in_their_order_within_a_row(lengths):
    assert all(list(row) == sorted(row) for row in pack_sequences(lengths, 20))


@given(LENGTHS)
def test_no_two_neighbouring_rows_would_fit_in_one(lengths):
    # best fit leaves no two open rows whose contents fit together
    if len(lengths) <= _OPEN_ROWS:
        filled = sorted(sum(lengths[number] for number in row) for row in pack_sequences(lengths, 20))
        assert len(filled) < 2 or filled[0] + filled[1] > 20


def test_a_sequence_goes_to_the_fullest_row_with_room():
    assert list(pack_sequences([10, 15, 5, 10], 20)) == [[1, 2], [0, 3]]


def test_rows_are_given_out_while_sequences_come():
    rows = pack_sequences((15 for _ in range(10**9)), 20)
    assert next(rows) == [0]
