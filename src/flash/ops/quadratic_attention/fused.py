"""Squared-ReLU attention by Triton kernels that keep no weights: memory for them is bounded, forward and backward."""

from functools import partial

from torch import Tensor

from flash.ops.quadratic_attention.kernel_launch import (
    blocks_of,
    fill_with_score_gradients,
    new_panel,
    prepare,
    prepare_backward,
    rows_of_panels,
)
from flash.ops.quadratic_attention.kernel_op import Inputs, attend, register
from flash.ops.quadratic_attention.kernels_backward import (
    key_gradient_kernel,
    query_gradient_kernel,
    value_gradient_kernel,
)
from flash.ops.quadratic_attention.kernels_forward import attend_kernel
from flash.ops.quadratic_attention.kernels_tuning import launch

# The backward holds the gradients of this many scores at a time: 128 MiB in half precision.
MOST_SCORE_GRADIENTS = 2**26


def _forward(inputs: Inputs) -> tuple[Tensor, Tensor]:
    problem, row_sums = prepare(inputs)
    out = problem.value.new_empty(problem.value.shape)
    e = out.shape[1]
    launch(
        attend_kernel,
        lambda blocks: (
            blocks_of(blocks["BLOCK_M"], problem.longest) * blocks_of(blocks["BLOCK_E"], e) * problem.sequences
        ),
        problem.score_arguments()
        | {
            "value": problem.value,
            "out": out,
            "inverse_divisor": problem.inverse_divisor,
            "value_stride": problem.value.stride(0),
            "E": e,
        },
        like=out,
        tuning_key=problem.tuning_key,
    )
    return out, row_sums


def _backward(
    inputs: Inputs, grad_out: Tensor, out: Tensor, row_sums: Tensor, diagonals_too: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    problem = prepare_backward(inputs, grad_out, out, row_sums, diagonals_too)
    tokens, e = problem.value.shape
    s = problem.query.shape[1]
    grad_query, grad_value = problem.query.new_empty((tokens, s)), problem.value.new_empty((tokens, e))
    grad_key = problem.scale.new_zeros((tokens, s))
    launch(
        value_gradient_kernel,
        lambda blocks: (
            blocks_of(blocks["BLOCK_N"], problem.longest) * blocks_of(blocks["BLOCK_E"], e) * problem.sequences
        ),
        problem.score_arguments()
        | {
            "grad_out": problem.grad_out,
            "grad_value": grad_value,
            "inverse_divisor": problem.inverse_divisor,
            "grad_out_stride": problem.grad_out.stride(0),
            "E": e,
        },
        like=grad_value,
        tuning_key=problem.tuning_key,
    )
    panels = rows_of_panels(problem.sequences, problem.longest, most_numbers=MOST_SCORE_GRADIENTS)
    panel = new_panel(problem, panels.step)
    for first_row in panels:
        fill_with_score_gradients(panel, problem, first_row)
        arguments = problem.product_arguments() | {
            "grad_scores": panel,
            "panel_stride": panel.stride(1),
            "panel": first_row,
            "panel_rows": panels.step,
        }
        launch(
            query_gradient_kernel,
            lambda blocks: blocks_of(blocks["BLOCK_M"], panels.step) * problem.sequences,
            arguments | {"key": problem.key, "grad_query": grad_query, "key_stride": problem.key.stride(0)},
            like=panel,
            tuning_key=problem.tuning_key,
        )
        launch(
            key_gradient_kernel,
            lambda blocks: blocks_of(blocks["BLOCK_N"], problem.longest) * problem.sequences,
            arguments | {"query": problem.query, "grad_key": grad_key, "query_stride": problem.query.stride(0)},
            like=panel,
            tuning_key=None,  # it adds to what is there, which trials would repeat
        )
    return grad_query, grad_key.to(problem.key.dtype), grad_value, problem.grad_diagonals


_operator = register("squared_relu_attention_fused", _forward, _backward)
squared_relu_attention = partial(attend, _operator)
