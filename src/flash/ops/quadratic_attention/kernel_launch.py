"""The inputs of one call in the layout that the kernels read, and the launches that all ways of running them share."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from flash.ops.attention_weights import SMALLEST_ROW_SUM
from flash.ops.quadratic_attention.diagonal_gradient import add_diagonal_sums
from flash.ops.quadratic_attention.kernel_inputs import check_inputs, readable
from flash.ops.quadratic_attention.kernel_op import Inputs
from flash.ops.quadratic_attention.kernels_backward import row_dots_kernel, score_gradients_kernel
from flash.ops.quadratic_attention.kernels_forward import row_sums_kernel
from flash.ops.quadratic_attention.kernels_tuning import launch, runs_in_interpreter

# Rows of a panel lie a multiple of this many numbers apart: 16 bytes are read at once, in every dtype.
ROW_ALIGNMENT = 16


def next_power_of_2(number: int) -> int:
    """Return the smallest power of two that is not below a positive number."""
    return 1 << (number - 1).bit_length()


@dataclass(frozen=True)
class Problem:
    """What the kernels read; ``inverse_divisor`` multiplies each row of squared scores, one number a token."""

    query: Tensor
    key: Tensor
    value: Tensor
    diagonals: Tensor | None
    key_mask: Tensor | None
    cumulative_lengths: Tensor
    scale: Tensor
    inverse_divisor: Tensor
    longest: int
    causal: bool

    @property
    def sequences(self) -> int:
        """Number of sequences, empty ones counted."""
        return len(self.cumulative_lengths) - 1

    @property
    def tuning_key(self) -> tuple[Any, ...]:
        """What decides which tiling is best: widths, rounded length, and what is done with a score."""
        length = next_power_of_2(self.longest)
        options = (self.diagonals is None, self.key_mask is None, self.causal)
        return (self.query.shape[1], self.value.shape[1], length, *options)

    def product_arguments(self) -> dict[str, Any]:
        """Arguments of every kernel that multiplies with queries or keys."""
        s = self.query.shape[1]
        tf32 = torch.backends.cuda.matmul.fp32_precision == "tf32"
        return {
            "cumulative_lengths": self.cumulative_lengths,
            "longest": self.longest,
            "S": s,
            "CAUSAL": self.causal,
            "PRECISION": "tf32" if tf32 else "ieee",
            "BLOCK_S": max(next_power_of_2(s), 16),  # products of fewer than 16 terms do not exist
        }

    def score_arguments(self) -> dict[str, Any]:
        """Arguments of every kernel that computes scores."""
        return self.product_arguments() | {
            "query": self.query,
            "key": self.key,
            "diagonals": self.diagonals,
            "key_mask": self.key_mask,
            "scale": self.scale,
            "query_stride": self.query.stride(0),
            "key_stride": self.key.stride(0),
            "reach": 0 if self.diagonals is None else self.diagonals.shape[0] // 2,
        }


def prepare(inputs: Inputs, row_sums: Tensor | None = None) -> tuple[Problem, Tensor]:
    """Check the inputs and lay them out; also return the sums of the rows, computed here unless given.

    Raises:
        InputError: See ``kernel_inputs``.
    """
    check_inputs(
        inputs.query,
        inputs.key,
        inputs.value,
        inputs.diagonals,
        inputs.key_mask,
        inputs.cumulative_lengths,
        inputs.longest,
        interpreted=runs_in_interpreter(),
    )
    problem = Problem(
        query=readable(inputs.query),
        key=readable(inputs.key),
        value=readable(inputs.value),
        diagonals=None if inputs.diagonals is None else inputs.diagonals.contiguous(),
        key_mask=None if inputs.key_mask is None else inputs.key_mask.contiguous(),
        cumulative_lengths=inputs.cumulative_lengths.contiguous(),
        scale=inputs.scale,
        inverse_divisor=inputs.divisor.reciprocal(),
        longest=inputs.longest,
        causal=inputs.causal,
    )
    if not inputs.row_sum:
        return problem, inputs.scale.new_empty(0)
    if row_sums is None:
        row_sums = _row_sums(problem)
    # as in the reference, a row whose weights after the division add up to less than the smallest sum fades out
    sums = inputs.divisor * (row_sums / inputs.divisor).clamp(min=SMALLEST_ROW_SUM)
    return replace(problem, inverse_divisor=sums.reciprocal()), row_sums


@dataclass(frozen=True)
class BackwardProblem(Problem):
    """What the kernels read in the backward.

    Args:
        delta: What the quotient rule takes from the gradients of each row; None without row sums.
        grad_diagonals: To be added to; empty if not asked for.
    """

    grad_out: Tensor
    delta: Tensor | None
    grad_diagonals: Tensor


def prepare_backward(
    inputs: Inputs, grad_out: Tensor, out: Tensor, row_sums: Tensor, diagonals_too: bool
) -> BackwardProblem:
    """Lay out the inputs of the backward; see ``kernel_op.Backward``."""
    problem, _ = prepare(inputs, row_sums)
    grad_out = readable(grad_out)
    grad_diagonals = problem.scale.new_empty(0)
    if diagonals_too and inputs.diagonals is not None:
        grad_diagonals = torch.zeros_like(inputs.diagonals)
    return BackwardProblem(
        **vars(problem),
        grad_out=grad_out,
        delta=_row_corrections(grad_out, out, inputs.divisor, row_sums) if inputs.row_sum else None,
        grad_diagonals=grad_diagonals,
    )


def _row_sums(problem: Problem) -> Tensor:
    sums = torch.zeros_like(problem.scale)
    launch(
        row_sums_kernel,
        lambda blocks: blocks_of(blocks["BLOCK_M"], problem.longest) * problem.sequences,
        problem.score_arguments() | {"sums": sums},
        like=problem.query,
        tuning_key=problem.tuning_key,
    )
    return sums


def _row_corrections(grad_out: Tensor, out: Tensor, divisor: Tensor, row_sums: Tensor) -> Tensor:
    """Return ``grad_out . out`` of each row: what dividing by the sum of the row takes from its gradients.

    0 where the sum was too small to divide by.
    """
    tokens, e = out.shape
    dots = torch.empty_like(divisor)
    launch(
        row_dots_kernel,
        lambda blocks: blocks_of(blocks["BLOCK_M"], tokens),
        {
            "left": grad_out,
            "right": out,
            "dots": dots,
            "left_stride": grad_out.stride(0),
            "right_stride": out.stride(0),
            "tokens": tokens,
            "E": e,
        },
        like=out,
        tuning_key=(),
    )
    return torch.where(row_sums / divisor >= SMALLEST_ROW_SUM, dots, 0.0)


def rows_of_panels(sequences: int, longest: int, *, most_numbers: int) -> range:
    """Return the first rows of panels of at most ``most_numbers`` weights; their step is the height of a panel.

    A panel holds the same rows of all sequences: all rows, or blocks of 128 and at least one.
    """
    fitting = most_numbers // max(sequences * padded(longest), 1)
    return range(0, longest, min(longest, max(fitting // 128 * 128, 128)) if longest else 1)


def blocks_of(size: int, length: int) -> int:
    """Count the blocks of a size that cover a length."""
    return -(-length // size)


def padded(length: int) -> int:
    """Round a length up to the distance between the rows of a panel."""
    return blocks_of(ROW_ALIGNMENT, length) * ROW_ALIGNMENT


def new_panel(problem: Problem, rows: int) -> Tensor:
    """Make room for ``rows`` rows of the weights of each sequence, ``(sequences, rows, longest)``."""
    return problem.query.new_empty((problem.sequences, rows, padded(problem.longest)))[:, :, : problem.longest]


def fill_with_score_gradients(
    panel: Tensor,
    problem: BackwardProblem,
    first_row: int,
    *,
    grad_weights: Tensor | None = None,
    weights: Tensor | None = None,
) -> None:
    """Fill a panel with the gradients of the dot products; see ``score_gradients_kernel``.

    Adds to ``problem.grad_diagonals`` what the panel holds of the gradient of the weights of the distances.
    """
    rows = panel.shape[1]
    # products over the width want large tiles; in float32, or of wide keys, these would not fit into the registers
    half = problem.query.dtype.itemsize == 2
    large = half and grad_weights is None and problem.longest > 64 and problem.query.shape[1] <= 128
    block = 128 if large else 64 if half else 32
    row_blocks, column_blocks = blocks_of(block, rows), blocks_of(block, problem.longest)
    tiles = None
    if problem.grad_diagonals.numel():
        tiles = problem.scale.new_zeros((problem.sequences, row_blocks, column_blocks, 2, block))
    launch(
        score_gradients_kernel,
        lambda _: row_blocks * column_blocks * problem.sequences,
        problem.score_arguments()
        | {
            "value": problem.value,
            "grad_out": problem.grad_out,
            "grad_weights": grad_weights,
            "grad_scores": panel,
            "weights": weights,
            "grad_diagonals": tiles,
            "inverse_divisor": problem.inverse_divisor,
            "delta": problem.delta,
            "value_stride": problem.value.stride(0),
            "grad_out_stride": problem.grad_out.stride(0),
            "panel_stride": panel.stride(1),
            "panel": first_row,
            "panel_rows": rows,
            "E": problem.value.shape[1],
            "BLOCK": block,
        },
        like=problem.query,
        # in place, a second trial would begin with what the first one wrote
        tuning_key=problem.tuning_key if grad_weights is None else None,
    )
    if tiles is not None:
        add_diagonal_sums(problem.grad_diagonals, tiles, first_row)
