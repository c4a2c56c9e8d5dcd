"""Triton kernels of the forward: row sums, and the weighted sums of the values."""

from typing import no_type_check

import triton
import triton.language as tl

from flash.ops.quadratic_attention.kernels_tiles import (
    LENGTHS,
    add_weighted_rows,
    any_weight,
    load_numbers,
    load_tokens,
    locate,
    positive_scores_of_queries,
)


@triton.jit(do_not_specialize=LENGTHS)
@no_type_check
def row_sums_kernel(
    query,
    key,
    sums,
    diagonals,
    key_mask,
    cumulative_lengths,
    scale,
    query_stride,
    key_stride,
    reach,
    longest,
    S: tl.constexpr,
    CAUSAL: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Sum the weights of each row: ``sums[i] = sum_j relu(score[i, j])^2``. One program a block of queries."""
    block, _, _, start, length = locate(tl.program_id(0), cumulative_lengths, tl.cdiv(longest, BLOCK_M), 1)
    first_row = block * BLOCK_M
    if first_row < length:
        rows = first_row + tl.arange(0, BLOCK_M)
        queries = load_tokens(query, query_stride, start, first_row, length, S, BLOCK_M, BLOCK_S)
        row_scale = load_numbers(scale, start, rows, length)
        total = tl.zeros((BLOCK_M,), tl.float32)
        end = tl.minimum(length, first_row + BLOCK_M) if CAUSAL else length
        for first in range(0, end, BLOCK_N):
            positive = positive_scores_of_queries(
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
                S,
                CAUSAL,
                PRECISION,
                BLOCK_N,
                BLOCK_S,
            )
            total += tl.sum(positive * positive, axis=1)
        tl.store(sums + start + rows, total, mask=rows < length)


@triton.jit(do_not_specialize=LENGTHS)
@no_type_check
def attend_kernel(
    query,
    key,
    value,
    out,
    diagonals,
    key_mask,
    cumulative_lengths,
    scale,
    inverse_divisor,
    query_stride,
    key_stride,
    value_stride,
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
    """Sum the values of all keys for one block of queries and one tile of the width e.

    Args:
        SKIP: Leave out the products of tiles without weight. Costs a vote of the program for each tile, and the
            values are then not fetched ahead.
    """
    blocks = tl.cdiv(longest, BLOCK_M)
    block, tile, _, start, length = locate(tl.program_id(0), cumulative_lengths, blocks, tl.cdiv(E, BLOCK_E))
    if CAUSAL:
        block = blocks - 1 - block  # the longest rows first, so that the last programs to end are short
    first_row, first_column = block * BLOCK_M, tile * BLOCK_E
    if first_row < length:
        rows = first_row + tl.arange(0, BLOCK_M)
        queries = load_tokens(query, query_stride, start, first_row, length, S, BLOCK_M, BLOCK_S)
        row_scale = load_numbers(scale, start, rows, length)
        inverse = load_numbers(inverse_divisor, start, rows, length)
        total = tl.zeros((BLOCK_M, BLOCK_E), tl.float32)
        end = tl.minimum(length, first_row + BLOCK_M) if CAUSAL else length
        for first in range(0, end, BLOCK_N):
            positive = positive_scores_of_queries(
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
                S,
                CAUSAL,
                PRECISION,
                BLOCK_N,
                BLOCK_S,
            )
            # the divisor comes before the rounding: a squared score of 256 is beyond float16
            weights = (positive * positive * inverse[:, None]).to(value.dtype.element_ty)
            value_tile = value + (start + first) * value_stride + first_column
            if not SKIP or any_weight(positive):
                total = add_weighted_rows(
                    total,
                    weights,
                    value_tile,
                    value_stride,
                    length - first,
                    E - first_column,
                    BLOCK_N,
                    BLOCK_E,
                    E % BLOCK_E == 0,
                    PRECISION,
                )
        columns = first_column + tl.arange(0, BLOCK_E)
        tl.store(
            out + (start + first_row) * E + tl.arange(0, BLOCK_M)[:, None] * E + columns[None, :],
            total.to(out.dtype.element_ty),
            mask=(rows < length)[:, None] & (columns < E)[None, :],
        )


@triton.jit(do_not_specialize=LENGTHS)
@no_type_check
def weights_kernel(
    query,
    key,
    weights,
    diagonals,
    key_mask,
    cumulative_lengths,
    scale,
    inverse_divisor,
    query_stride,
    key_stride,
    panel_stride,
    panel,
    panel_rows,
    reach,
    longest,
    S: tl.constexpr,
    CAUSAL: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Write one tile of the weights into the panel ``weights``, laid out as in ``score_gradients_kernel``."""
    row_block, column_block, sequence, start, length = locate(
        tl.program_id(0), cumulative_lengths, tl.cdiv(panel_rows, BLOCK_M), tl.cdiv(longest, BLOCK_N)
    )
    first_row, first_column = panel + row_block * BLOCK_M, column_block * BLOCK_N
    if (first_row < length) & (first_column < length):
        rows, columns = first_row + tl.arange(0, BLOCK_M), first_column + tl.arange(0, BLOCK_N)
        positive = positive_scores_of_queries(
            load_tokens(query, query_stride, start, first_row, length, S, BLOCK_M, BLOCK_S),
            load_numbers(scale, start, rows, length),
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
            BLOCK_N,
            BLOCK_S,
        )
        inverse = load_numbers(inverse_divisor, start, rows, length)
        first_place = sequence.to(tl.int64) * panel_rows + (first_row - panel)
        tl.store(
            weights + first_place * panel_stride + tl.arange(0, BLOCK_M)[:, None] * panel_stride + columns[None, :],
            (positive * positive * inverse[:, None]).to(weights.dtype.element_ty),
            mask=((rows < length) & (rows < panel + panel_rows))[:, None] & (columns < length)[None, :],
        )
