import pytest
import torch

from flash.layers.mixed_chunk_state import MixedChunkState
from flash.ops.linear_attention import chunk_sums

from helpers import EXACT, FLOAT64, normal

S, E, CHUNK = 3, 4, 4


def feed(state, keys, values, mask):
    """Give the state tokens as a layer does: one at a time by ``append``, several by ``keep_last_chunk``."""
    plan = state.continuation(mask)
    if state.is_empty:
        state.allocate(keys, values)
    if keys.shape[1] == 1:
        state.append(keys, 2 * keys, values, plan)
        state.finish_chunks(plan)
        return
    slots = state.with_begun_chunk(keys, 2 * keys, values, plan)
    in_chunks = (len(keys), -1, CHUNK)
    chunks = chunk_sums(
        slots.linear_keys.reshape(*in_chunks, S), slots.values.reshape(*in_chunks, E), slots.mask.reshape(in_chunks)
    )
    state.keep_last_chunk(slots, chunks, plan)


# a row that begins at once, one behind padding on the left, one with a hole, one that never begins
MASK = torch.ones(4, 11, dtype=torch.bool)
MASK[1, :3], MASK[2, 5], MASK[3] = False, False, False


def fed(pieces):
    keys, values = normal(4, 11, S), normal(4, 11, E, seed=1)
    state, start = MixedChunkState(CHUNK), 0
    for piece in pieces:
        end = start + piece
        feed(state, keys[:, start:end], values[:, start:end], MASK[:, start:end])
        start = end
    return state


PIECES = [[11], [1] * 11, [2, 9], [5, 1, 5], [4, 4, 3], [3, 1, 1, 6], [8, 1, 1, 1]]


@pytest.mark.parametrize("pieces", PIECES, ids=str)
def test_whole_chunks_are_summed_and_the_rest_is_kept_however_tokens_come(pieces):
    state = fed(pieces)
    keys, values = normal(4, 11, S), normal(4, 11, E, seed=1)
    assert state.position.tolist() == [11, 8, 11, 0]
    first = [0, 3, 0, 0]
    for row, (start, whole, fill) in enumerate(zip(first, [8, 8, 8, 0], [3, 0, 3, 0], strict=True)):
        real = MASK[row, start : start + whole, None].double()
        summed = (2 * keys[row, start : start + whole] * real).mT @ values[row, start : start + whole]
        torch.testing.assert_close(state.sums[row], summed, **FLOAT64)
        assert state.counts[row] == real.sum()
        begun = slice(start + whole, start + whole + fill)
        torch.testing.assert_close(state.chunk.quadratic_keys[row, :fill], keys[row, begun], **EXACT)
        torch.testing.assert_close(state.chunk.linear_keys[row, :fill], 2 * keys[row, begun], **EXACT)
        torch.testing.assert_close(state.chunk.values[row, :fill], values[row, begun], **EXACT)
        assert state.chunk.mask[row].tolist() == [True] * fill + [False] * (CHUNK - fill)
        assert not state.chunk.values[row, fill:].any()


def test_its_size_does_not_depend_on_the_tokens_seen():
    sizes = {sum(x.nbytes for x in fed(pieces).tensors()) for pieces in ([2], [7], [11], [1] * 9)}
    assert len(sizes) == 1


def test_sums_of_half_precision_tokens_are_float32():
    state = MixedChunkState(CHUNK)
    feed(state, normal(4, 11, S).bfloat16(), normal(4, 11, E).bfloat16(), MASK)
    assert state.sums.dtype == torch.float32
    assert state.chunk.values.dtype == torch.bfloat16


def test_a_change_of_rows_reaches_every_tensor():
    state, order = fed([11]), torch.tensor([2, 0])
    before = state.tensors()
    state.change_rows(lambda x: x[order])
    for new, old in zip(state.tensors(), before, strict=True):
        assert torch.equal(new, old[order])


def test_a_step_under_autograd_leaves_the_earlier_tensors_as_they_were():
    state = fed([1])
    before = [x.clone() for x in state.tensors()]
    kept = state.tensors()
    feed(state, normal(4, 1, S).requires_grad_(), normal(4, 1, E), torch.ones(4, 1, dtype=torch.bool))
    assert all(torch.equal(x, y) for x, y in zip(kept, before, strict=True))
    with torch.no_grad():
        values = state.chunk.values
        feed(state, normal(4, 1, S), normal(4, 1, E), torch.ones(4, 1, dtype=torch.bool))
        assert state.chunk.values.data_ptr() == values.data_ptr()  # in place: no copy of a chunk a token
