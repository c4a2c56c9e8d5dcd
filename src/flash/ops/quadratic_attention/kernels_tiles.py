"""Steps that the kernels share: where a program works, one tile of scores, one tile of a product over the width.

``no_type_check``: the annotations of a kernel tell Triton what is known when it compiles; they are no types of Python.
"""

from typing import no_type_check

import triton
import triton.language as tl

# Numbers that differ from batch to batch. To know that one is 1 or a multiple of 16 makes no kernel faster, and each
# would be compiled again for it.
LENGTHS = ("longest", "panel_rows", "reach", "tokens")


@triton.jit
@no_type_check
def locate(program, cumulative_lengths, blocks, tiles):
    """Return the block, the tile, the first token and the length of the sequence that a program works on.

    Blocks run fastest, so that programs at work together read the same values.
    """
    block = program % blocks
    tile = (program // blocks) % tiles
    sequence = program // (blocks * tiles)
    start = tl.load(cumulative_lengths + sequence)
    length = tl.load(cumulative_lengths + sequence + 1) - start
    return block, tile, sequence, start.to(tl.int64), length


@triton.jit
@no_type_check
def load_tile(pointer, stride, rows_left, columns_left, ROWS: tl.constexpr, COLUMNS: tl.constexpr, WHOLE: tl.constexpr):
    """Load ``(ROWS, COLUMNS)`` numbers from ``pointer`` on; 0 beyond the rows and columns that are left.

    Args:
        WHOLE: No column is ever beyond; saves the comparison.
    """
    rows, columns = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    inside = (rows < rows_left) & (columns >= 0) if WHOLE else (rows < rows_left) & (columns < columns_left)
    return tl.load(pointer + rows * stride + columns, mask=inside, other=0.0)


@triton.jit
@no_type_check
def load_tokens(pointer, stride, start, first, length, WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Load the vectors of ``ROWS`` tokens of a sequence, from its token ``first`` on, as a tile ``COLUMNS`` wide."""
    return load_tile(pointer + (start + first) * stride, stride, length - first, WIDTH, ROWS, COLUMNS, WIDTH == COLUMNS)


@triton.jit
@no_type_check
def load_numbers(pointer, start, tokens, length):
    """Load one number of each of the ``tokens`` of a sequence; 0 behind its end."""
    return tl.load(pointer + start + tokens, mask=tokens < length, other=0.0)


@triton.jit
@no_type_check
def seen_keys(key_mask, start, keys, length):
    """Mark the ``keys`` of a sequence that are inside it and not masked."""
    seen = keys < length
    if key_mask is not None:
        seen = seen & (tl.load(key_mask + start + keys, mask=seen, other=0) != 0)
    return seen


@triton.jit
@no_type_check
def positive_scores(
    left, right, scale, distances, seen, diagonals, reach, CAUSAL: tl.constexpr, PRECISION: tl.constexpr
):
    """Compute ``relu(scale * left . right + diagonals[distance])``, 0 where the key is hidden from the query.

    Left are the queries and right the keys, or the other way round; ``scale``, ``distances`` (key minus query) and
    ``seen`` are laid out to match.

    Args:
        reach: ``L - 1``, the longest distance with a weight of its own.
    """
    scores = tl.dot(left, tl.trans(right), input_precision=PRECISION) * scale
    if diagonals is not None:
        scores += tl.load(diagonals + (tl.minimum(tl.maximum(distances, -reach), reach) + reach))
    if CAUSAL:
        seen = seen & (distances <= 0)
    # a score that is no number must reach the loss, as in PyTorch, and not count as negative
    positive = tl.maximum(scores, 0.0, propagate_nan=tl.PropagateNan.ALL)
    return tl.where(seen, positive, 0.0)


@triton.jit
@no_type_check
def positive_scores_of_queries(
    queries,
    row_scale,
    rows,
    key,
    key_stride,
    first,
    start,
    length,
    diagonals,
    key_mask,
    reach,
    S: tl.constexpr,
    CAUSAL: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_S: tl.constexpr,
):
    """Compute ``positive_scores`` of the ``queries`` at ``rows`` and the keys from ``first`` on."""
    columns = first + tl.arange(0, BLOCK_N)
    return positive_scores(
        queries,
        load_tokens(key, key_stride, start, first, length, S, BLOCK_N, BLOCK_S),
        row_scale[:, None],
        columns[None, :] - rows[:, None],
        seen_keys(key_mask, start, columns, length)[None, :],
        diagonals,
        reach,
        CAUSAL,
        PRECISION,
    )


@triton.jit
@no_type_check
def any_weight(positive):
    """Ask whether any pair of a tile counts; a score that is no number does."""
    return tl.sum(positive) != 0.0


@triton.jit
@no_type_check
def add_weighted_rows(
    total,
    weights,
    pointer,
    stride,
    rows_left,
    columns_left,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WHOLE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Add to ``total`` the rows from ``pointer`` on, each times its weights; see ``load_tile``."""
    tile = load_tile(pointer, stride, rows_left, columns_left, ROWS, COLUMNS, WHOLE)
    return tl.dot(weights, tile, total, input_precision=PRECISION)


@triton.jit
@no_type_check
def product_over_width(
    left,
    right,
    left_stride,
    right_stride,
    left_rows,
    right_rows,
    E: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK_E: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Sum ``left[i, e] * right[j, e]`` over all ``e``."""
    product = tl.zeros((ROWS, COLUMNS), tl.float32)
    for first in range(0, E, BLOCK_E):
        left_tile = load_tile(left + first, left_stride, left_rows, E - first, ROWS, BLOCK_E, E % BLOCK_E == 0)
        right_tile = load_tile(right + first, right_stride, right_rows, E - first, COLUMNS, BLOCK_E, E % BLOCK_E == 0)
        product = tl.dot(left_tile, tl.trans(right_tile), product, input_precision=PRECISION)
    return product


@triton.jit
@no_type_check
def store_diagonal_sums(pointer, tile, BLOCK: tl.constexpr):
    """Sum a square tile along its diagonals: distances ``0 ... BLOCK - 1`` first, then ``-BLOCK ... -1``.

    Turning row ``i`` left by ``i`` brings a diagonal into one column; what turns round belongs to the diagonal that
    lies ``BLOCK`` lower. No atomics, so the order of the sums is fixed.
    """
    distances = tl.arange(0, BLOCK)
    ends = tl.arange(0, BLOCK)[:, None] + distances[None, :]
    turned = tl.gather(tile, ends % BLOCK, axis=1)
    tl.store(pointer + distances, tl.sum(tl.where(ends < BLOCK, turned, 0.0), axis=0))
    tl.store(pointer + BLOCK + distances, tl.sum(tl.where(ends < BLOCK, 0.0, turned), axis=0))
