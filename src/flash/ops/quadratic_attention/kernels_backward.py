"""Triton kernels of the backward: gradients of the scores and the bias, then of queries, keys and values.

With ``p = relu(score)`` and ``w = p^2 / divisor``: ``dv = w^T do`` and ``dscore = 2 p (do . v - delta) / divisor``.
Where the divisor is the sum of the row, ``delta = do . out`` is what the quotient rule takes away; else it is absent.
"""

from typing import no_type_check

import triton
import triton.language as tl

from flash.ops.quadratic_attention.kernels_tiles import (
    LENGTHS,
    add_weighted_rows,
    any_weight,
    load_numbers,
    load_tile,
    load_tokens,
    locate,
    positive_scores,
    positive_scores_of_queries,
    product_over_width,
    seen_keys,
    store_diagonal_sums,
)


@triton.jit(do_not_specialize=LENGTHS)
@no_type_check
def score_gradients_kernel(
    query,
    key,
    value,
    grad_out,
    grad_weights,
    grad_scores,
    weights,
    grad_diagonals,
    diagonals,
    key_mask,
    cumulative_lengths,
    scale,
    inverse_divisor,
    delta,
    query_stride,
    key_stride,
    value_stride,
    grad_out_stride,
    panel_stride,
    panel,
    panel_rows,
    reach,
    longest,
    S: tl.constexpr,
    E: tl.constexpr,
    CAUSAL: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    """Write ``scale[i] * dscore[i, j]`` of one tile of pairs into the panel ``grad_scores``.

    A panel is ``(sequences, panel_rows, panel_stride)``: rows ``panel`` to ``panel + panel_rows - 1`` of each sequence.

    Args:
        grad_weights: A panel of ``do . v``, perhaps ``grad_scores`` itself; None to compute them here.
        weights: A panel to be filled with the weights; or None.
        grad_diagonals: Sums of ``dscore`` along the diagonals of each tile, ``(sequences, row blocks, column blocks, 2,
            BLOCK)`` in the order of ``store_diagonal_sums``; or None. Tiles without weight are left as they were.
    """
    row_blocks, column_blocks = tl.cdiv(panel_rows, BLOCK), tl.cdiv(longest, BLOCK)
    row_block, column_block, sequence, start, length = locate(
        tl.program_id(0), cumulative_lengths, row_blocks, column_blocks
    )
    first_row, first_column = panel + row_block * BLOCK, column_block * BLOCK
    if (first_row < length) & (first_column < length):
        rows, columns = first_row + tl.arange(0, BLOCK), first_column + tl.arange(0, BLOCK)
        row_scale, inverse = (
            load_numbers(scale, start, rows, length),
            load_numbers(inverse_divisor, start, rows, length),
        )
        positive = positive_scores_of_queries(
            load_tokens(query, query_stride, start, first_row, length, S, BLOCK, BLOCK_S),
            row_scale,
            rows,
            key,
            key_stride,
            first_column,
            start,
            length,
            diagonals,
            key_mask,
            reach,
            S,
            CAUSAL,
            PRECISION,
            BLOCK,
            BLOCK_S,
        )
        first_place = sequence.to(tl.int64) * panel_rows + (first_row - panel)
        places = first_place * panel_stride + tl.arange(0, BLOCK)[:, None] * panel_stride + columns[None, :]
        # the rows of the next panel are not this one's, even where the sequence goes on
        inside = ((rows < length) & (rows < panel + panel_rows))[:, None] & (columns < length)[None, :]
        gradient = tl.zeros((BLOCK, BLOCK), tl.float32)
        if any_weight(positive):
            if grad_weights is not None:
                gradient = tl.load(grad_weights + places, mask=inside, other=0.0).to(tl.float32)
            else:
                gradient = product_over_width(
                    grad_out + (start + first_row) * grad_out_stride,
                    value + (start + first_column) * value_stride,
                    grad_out_stride,
                    value_stride,
                    length - first_row,
                    length - first_column,
                    E,
                    BLOCK,
                    BLOCK,
                    BLOCK_E,
                    PRECISION,
                )
            if delta is not None:
                gradient -= load_numbers(delta, start, rows, length)[:, None]
            gradient = tl.where(inside, 2.0 * positive * gradient * inverse[:, None], 0.0)
            if grad_diagonals is not None:
                tile = (sequence.to(tl.int64) * row_blocks + row_block) * column_blocks + column_block
                store_diagonal_sums(grad_diagonals + tile * (2 * BLOCK), gradient, BLOCK)
            gradient *= row_scale[:, None]
        tl.store(grad_scores + places, gradient.to(grad_scores.dtype.element_ty), mask=inside)
        if weights is not None:
            filled = positive * positive * inverse[:, None]
            tl.store(weights + places, filled.to(weights.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=LENGTHS)
@no_type_check
def query_gradient_kernel(
    grad_scores,
    key,
    grad_query,
    cumulative_lengths,
    key_stride,
    panel_stride,
    panel,
    panel_rows,
    longest,
    S: tl.constexpr,
    CAUSAL: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Sum ``grad_scores[i, j] * key[j]`` over all keys for one block of the queries of a panel."""
    block, _, sequence, start, length = locate(tl.program_id(0), cumulative_lengths, tl.cdiv(panel_rows, BLOCK_M), 1)
    first_row = panel + block * BLOCK_M
    end = tl.minimum(length, panel + panel_rows)
    if first_row < end:
        gradients = grad_scores + (sequence.to(tl.int64) * panel_rows + (first_row - panel)) * panel_stride
        total = tl.zeros((BLOCK_M, BLOCK_S), tl.float32)
        last = tl.minimum(length, first_row + BLOCK_M) if CAUSAL else length
        for first in range(0, last, BLOCK_N):
            gradient = load_tile(
                gradients + first, panel_stride, end - first_row, length - first, BLOCK_M, BLOCK_N, False
            )
            keys = load_tokens(key, key_stride, start, first, length, S, BLOCK_N, BLOCK_S)
            total = tl.dot(gradient, keys, total, input_precision=PRECISION)
        rows, width = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_S)
        tl.store(
            grad_query + (start + first_row) * S + rows[:, None] * S + width[None, :],
            total.to(grad_query.dtype.element_ty),
            mask=(rows < end - first_row)[:, None] & (width < S)[None, :],
        )


@triton.jit(do_not_specialize=LENGTHS)
@no_type_check
def key_gradient_kernel(
    grad_scores,
    query,
    grad_key,
    cumulative_lengths,
    query_stride,
    panel_stride,
    panel,
    panel_rows,
    longest,
    S: tl.constexpr,
    CAUSAL: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Add ``grad_scores[i, j] * query[i]``, summed over the queries of a panel, for one block of keys.

    Args:
        grad_key: Float32; begins as zeros. One program has its rows for itself, and panels come one after the other.
    """
    block, _, sequence, start, length = locate(tl.program_id(0), cumulative_lengths, tl.cdiv(longest, BLOCK_N), 1)
    first_column = block * BLOCK_N
    end = tl.minimum(length, panel + panel_rows)
    if first_column < length:
        gradients = grad_scores + sequence.to(tl.int64) * panel_rows * panel_stride + first_column
        rows, width = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_S)
        places = grad_key + (start + first_column) * S + rows[:, None] * S + width[None, :]
        inside = (rows < length - first_column)[:, None] & (width < S)[None, :]
        total = tl.load(places, mask=inside, other=0.0)
        begin = tl.maximum(panel, first_column // BLOCK_M * BLOCK_M) if CAUSAL else panel
        for first in range(begin, end, BLOCK_M):
            gradient = load_tile(
                gradients + (first - panel).to(tl.int64) * panel_stride,
                panel_stride,
                end - first,
                length - first_column,
                BLOCK_M,
                BLOCK_N,
                False,
            )
            queries = load_tokens(query, query_stride, start, first, end, S, BLOCK_M, BLOCK_S)
            total = tl.dot(tl.trans(gradient), queries, total, input_precision=PRECISION)
        tl.store(places, total, mask=inside)


@triton.jit(do_not_specialize=LENGTHS)
@no_type_check
def value_gradient_kernel(
    query,
    key,
    grad_out,
    grad_value,
    diagonals,
    key_mask,
    cumulative_lengths,
    scale,
    inverse_divisor,
    query_stride,
    key_stride,
    grad_out_stride,
    reach,
    longest,
    S: tl.constexpr,
    E: tl.constexpr,
    CAUSAL: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_E: tl.constexpr,
    SKIP: tl.constexpr,
):
    """Sum ``weight[i, j] * grad_out[i]`` over all queries for one block of keys and one tile of the width e.

    Args:
        SKIP: As in ``attend_kernel``.
    """
    blocks = tl.cdiv(longest, BLOCK_N)
    block, tile, _, start, length = locate(tl.program_id(0), cumulative_lengths, blocks, tl.cdiv(E, BLOCK_E))
    first_column, first_width = block * BLOCK_N, tile * BLOCK_E
    if first_column < length:
        columns = first_column + tl.arange(0, BLOCK_N)
        keys = load_tokens(key, key_stride, start, first_column, length, S, BLOCK_N, BLOCK_S)
        seen = seen_keys(key_mask, start, columns, length)
        total = tl.zeros((BLOCK_N, BLOCK_E), tl.float32)
        begin = first_column // BLOCK_M * BLOCK_M if CAUSAL else 0
        for first in range(begin, length, BLOCK_M):
            rows = first + tl.arange(0, BLOCK_M)
            queries = load_tokens(query, query_stride, start, first, length, S, BLOCK_M, BLOCK_S)
            row_scale = load_numbers(scale, start, rows, length)
            inverse = load_numbers(inverse_divisor, start, rows, length)
            positive = positive_scores(
                keys,
                queries,
                row_scale[None, :],
                columns[:, None] - rows[None, :],
                seen[:, None],
                diagonals,
                reach,
                CAUSAL,
                PRECISION,
            )
            weights = (positive * positive * inverse[None, :]).to(grad_out.dtype.element_ty)
            gradient_tile = grad_out + (start + first) * grad_out_stride + first_width
            if not SKIP or any_weight(positive):
                total = add_weighted_rows(
                    total,
                    weights,
                    gradient_tile,
                    grad_out_stride,
                    length - first,
                    E - first_width,
                    BLOCK_M,
                    BLOCK_E,
                    E % BLOCK_E == 0,
                    PRECISION,
                )
        width = first_width + tl.arange(0, BLOCK_E)
        tl.store(
            grad_value + (start + first_column) * E + tl.arange(0, BLOCK_N)[:, None] * E + width[None, :],
            total.to(grad_value.dtype.element_ty),
            mask=(columns < length)[:, None] & (width < E)[None, :],
        )


@triton.jit(do_not_specialize=LENGTHS)
@no_type_check
def row_dots_kernel(
    left,
    right,
    dots,
    left_stride,
    right_stride,
    tokens,
    E: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    """Compute ``dots[i] = sum_e left[i, e] * right[i, e]`` in float32."""
    first_row = tl.program_id(0).to(tl.int64) * BLOCK_M
    total = tl.zeros((BLOCK_M,), tl.float32)
    for first in range(0, E, BLOCK_E):
        left_tile = load_tile(
            left + first_row * left_stride + first, left_stride, tokens - first_row, E - first, BLOCK_M, BLOCK_E, False
        )
        right_tile = load_tile(
            right + first_row * right_stride + first,
            right_stride,
            tokens - first_row,
            E - first,
            BLOCK_M,
            BLOCK_E,
            False,
        )
        total += tl.sum(left_tile.to(tl.float32) * right_tile.to(tl.float32), axis=1)
    rows = tl.arange(0, BLOCK_M)
    tl.store(dots + first_row + rows, total, mask=rows < tokens - first_row)
