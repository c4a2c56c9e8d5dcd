"""Squared-ReLU attention by Triton kernels that keep no weights: memory for them is bounded, forward and backward."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from flash.ops.quadratic_attention.kernel_inputs import readable
from flash.ops.quadratic_attention.kernel_launch import (
    blocks_of,
    fill_with_score_gradients,
    new_panel,
    prepare,
    row_corrections,
    rows_of_panels,
)
from flash.ops.quadratic_attention.kernel_op import Inputs, call, register
from flash.ops.quadratic_attention.kernels_backward import (
    key_gradient_kernel,
    query_gradient_kernel,
    value_gradient_kernel,
)
from flash.ops.quadratic_attention.kernels_forward import attend_kernel
from flash.ops.quadratic_attention.kernels_tuning import launch

# The backward holds the gradients of this many scores at a time: 128 MiB in half precision.
MOST_SCORE_GRADIENTS = 2**26


def squared_relu_attention(
    query: Float[Tensor, "t s"],
    key: Float[Tensor, "t s"],
    value: Float[Tensor, "t e"],
    diagonals: Float[Tensor, " distances"] | None = None,
    *,
    cumulative_lengths: Int[Tensor, " sequences_and_one"],
    longest: int,
    scale: float | Float[Tensor, " t"],
    divisor: float | Float[Tensor, " t"] = 1.0,
    row_sum: bool = False,
    key_mask: Bool[Tensor, " t"] | None = None,
    causal: bool = False,
) -> Float[Tensor, "t e"]:
    """Sum the values of each packed sequence, weighted by squared positive scores.

        score[i, j] = scale[i] * query[i] . key[j] + diagonals[clip(j - i, -(L - 1), L - 1) + L - 1]
        out[i] = sum_j relu(score[i, j])^2 * value[j] / divisor[i]

    over the keys ``j`` of the sequence of ``i`` that are real and, in a causal model, not behind it. Products have the
    dtype of the inputs and are summed in float32; scores and weights are float32; float32 products are exact unless
    ``torch.backends.cuda.matmul`` allows TF32. Differentiable once, by query, key, value and diagonals; gradients are
    the same bits on every run of one tiling (docs/kernels.md). A tile of pairs without a positive score may be left
    out, values that are not finite with it. Source: arXiv 2202.10447, section 3.1.

    Args:
        diagonals: One weight a distance (key minus query), of length ``2 L - 1``.
        cumulative_lengths: Where each sequence begins, and the end: int32, 0 first. Equal neighbours are an empty one.
        longest: Length of the longest sequence.
        divisor: Number outside the square, positive.
        row_sum: Divide each row of weights, once divided by ``divisor``, by its sum.
        key_mask: True where a key is a real token.

    Raises:
        InputError: What the kernels cannot compute, see ``kernel_inputs``.
    """
    return call(
        _operator,
        query,
        key,
        value,
        diagonals,
        cumulative_lengths=cumulative_lengths,
        longest=longest,
        scale=scale,
        divisor=divisor,
        row_sum=row_sum,
        key_mask=key_mask,
        causal=causal,
    )


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
    problem, _ = prepare(inputs, row_sums)
    grad_out = readable(grad_out)
    delta = row_corrections(grad_out, out, inputs.divisor, row_sums) if inputs.row_sum else None
    tokens, e = problem.value.shape
    s = problem.query.shape[1]
    grad_query, grad_value = problem.query.new_empty((tokens, s)), problem.value.new_empty((tokens, e))
    grad_key = problem.scale.new_zeros((tokens, s))
    grad_diagonals = None if inputs.diagonals is None or not diagonals_too else torch.zeros_like(inputs.diagonals)
    launch(
        value_gradient_kernel,
        lambda blocks: (
            blocks_of(blocks["BLOCK_N"], problem.longest) * blocks_of(blocks["BLOCK_E"], e) * problem.sequences
        ),
        problem.score_arguments()
        | {
            "grad_out": grad_out,
            "grad_value": grad_value,
            "inverse_divisor": problem.inverse_divisor,
            "grad_out_stride": grad_out.stride(0),
            "E": e,
        },
        like=grad_value,
        tuning_key=problem.tuning_key,
    )
    panels = rows_of_panels(problem.sequences, problem.longest, most_numbers=MOST_SCORE_GRADIENTS)
    panel = new_panel(problem, panels.step)
    for first_row in panels:
        fill_with_score_gradients(
            panel, problem, grad_out, first_row=first_row, delta=delta, grad_diagonals=grad_diagonals
        )
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
    if grad_diagonals is None:
        grad_diagonals = problem.scale.new_empty(0)
    return grad_query, grad_key.to(problem.key.dtype), grad_value, grad_diagonals


_operator = register("squared_relu_attention_fused", _forward, _backward)
