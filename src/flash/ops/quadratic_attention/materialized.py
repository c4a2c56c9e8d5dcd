"""Squared-ReLU attention by the library's matrix products: the weights of a panel of queries are written out.

The products with values and output gradients, where nearly all arithmetic is, run at the library's rate, which no
kernel of ours reaches; writing and reading ``n^2`` weights costs little beside ``2 n^2 e`` operations while e is large.
Sequences of equal length run together. Others run one after the other, and their lengths are read from the device,
which waits for it. No pair is left out, so a causal model computes twice what it needs.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

from flash.ops.quadratic_attention.kernel_launch import (
    Problem,
    blocks_of,
    fill_with_score_gradients,
    new_panel,
    prepare,
    prepare_backward,
    rows_of_panels,
)
from flash.ops.quadratic_attention.kernel_op import Inputs, attend, register
from flash.ops.quadratic_attention.kernels_forward import weights_kernel
from flash.ops.quadratic_attention.kernels_tuning import launch

P = TypeVar("P", bound=Problem)
# Weights held at a time, twice as many numbers in the backward: 256 MiB each in half precision.
MOST_WEIGHTS = 2**27


def _forward(inputs: Inputs) -> tuple[Tensor, Tensor]:
    problem, row_sums = prepare(inputs)
    out = problem.value.new_empty(problem.value.shape)
    for group, tokens in _equal_lengths(problem):
        value, sums = _by_sequence(problem.value[tokens], group), _by_sequence(out[tokens], group)
        panels = _panels(group)
        for first_row in panels:
            rows = slice(first_row, min(first_row + panels.step, group.longest))
            weights = new_panel(group, rows.stop - rows.start)
            _fill_with_weights(weights, group, first_row)
            torch.bmm(weights, value, out=sums[:, rows])
    return out, row_sums


def _backward(
    inputs: Inputs, grad_out: Tensor, out: Tensor, row_sums: Tensor, diagonals_too: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    problem = prepare_backward(inputs, grad_out, out, row_sums, diagonals_too)
    grad_query, grad_key = problem.query.new_empty(problem.query.shape), problem.key.new_empty(problem.key.shape)
    grad_value = problem.value.new_empty(problem.value.shape)
    for group, tokens in _equal_lengths(problem):
        query, key, value, grad_sums = (
            _by_sequence(tensor[tokens], group)
            for tensor in (problem.query, problem.key, problem.value, problem.grad_out)
        )
        panels = _panels(group)
        # sums over panels of half-precision products are float32
        wide = torch.float32 if len(panels) > 1 else key.dtype
        key_sum, value_sum = torch.zeros_like(key, dtype=wide), torch.zeros_like(value, dtype=wide)
        for first_row in panels:
            rows = slice(first_row, min(first_row + panels.step, group.longest))
            weights, panel = (new_panel(group, rows.stop - rows.start) for _ in range(2))
            torch.bmm(grad_sums[:, rows], value.mT, out=panel)
            fill_with_score_gradients(panel, group, first_row, grad_weights=panel, weights=weights)
            torch.bmm(panel, key, out=_by_sequence(grad_query[tokens], group)[:, rows])
            key_sum += torch.bmm(panel.mT, query[:, rows])
            value_sum += torch.bmm(weights.mT, grad_sums[:, rows])
        grad_key[tokens] = key_sum.flatten(0, 1)
        grad_value[tokens] = value_sum.flatten(0, 1)
    return grad_query, grad_key, grad_value, problem.grad_diagonals


def _equal_lengths(problem: P) -> Iterator[tuple[P, slice]]:
    """Divide a problem into ones whose sequences have equal lengths, and say which tokens are theirs."""
    tokens = problem.query.shape[0]
    if tokens == problem.sequences * problem.longest:  # none is shorter than the longest
        yield problem, slice(0, tokens)
        return
    boundaries = problem.cumulative_lengths.tolist()
    for number, (start, stop) in enumerate(pairwise(boundaries)):
        if start < stop:
            both = problem.cumulative_lengths[number : number + 2]
            yield replace(problem, cumulative_lengths=both, longest=stop - start), slice(start, stop)


def _by_sequence(tensor: Tensor, group: Problem) -> Tensor:
    return tensor.unflatten(0, (group.sequences, group.longest))  # (sequences, longest, width)


def _panels(group: Problem) -> range:
    return rows_of_panels(group.sequences, group.longest, most_numbers=MOST_WEIGHTS)


def _fill_with_weights(panel: Tensor, group: Problem, first_row: int) -> None:
    rows = panel.shape[1]
    launch(
        weights_kernel,
        lambda blocks: (
            blocks_of(blocks["BLOCK_M"], rows) * blocks_of(blocks["BLOCK_N"], group.longest) * group.sequences
        ),
        group.score_arguments()
        | {
            "weights": panel,
            "inverse_divisor": group.inverse_divisor,
            "panel_stride": panel.stride(1),
            "panel": first_row,
            "panel_rows": rows,
        },
        like=panel,
        tuning_key=group.tuning_key,
    )


_operator = register("squared_relu_attention_materialized", _forward, _backward)
squared_relu_attention = partial(attend, _operator)
