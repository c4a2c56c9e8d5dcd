"""One operator for ``torch.compile`` and ``torch.export`` from a pair of functions that launch kernels."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from flash.ops.differentiable_once import differentiable_once
from flash.ops.quadratic_attention.kernel_inputs import per_row


class Inputs(NamedTuple):
    """Arguments of an operator, as the schema below has them; ``scale`` and ``divisor`` are one number a token."""

    query: Tensor
    key: Tensor
    value: Tensor
    diagonals: Tensor | None
    key_mask: Tensor | None
    cumulative_lengths: Tensor
    scale: Tensor
    divisor: Tensor
    longest: int
    row_sum: bool
    causal: bool


_SCHEMA = (
    "Tensor query, Tensor key, Tensor value, Tensor? diagonals, Tensor? key_mask, Tensor cumulative_lengths, "
    "Tensor scale, Tensor divisor, SymInt longest, bool row_sum, bool causal"
)

# (out, sums of the rows, or an empty tensor without row_sum)
Forward = Callable[[Inputs], tuple[Tensor, Tensor]]
# (inputs, grad_out, out, sums of the rows, whether the diagonals need theirs) ->
# gradients of query, key, value and diagonals, the last empty if not needed
Backward = Callable[[Inputs, Tensor, Tensor, Tensor, bool], tuple[Tensor, Tensor, Tensor, Tensor]]
Operator = Callable[..., tuple[Tensor, Tensor]]


def register(name: str, forward: Forward, backward: Backward) -> Operator:
    """Make the operator ``flash::name`` with ``forward``, and ``flash::name_backward`` for its gradients.

    They compute in the dtype of their inputs, under autocast too. A gradient of the gradients is refused.
    """

    def run(*inputs: Any) -> tuple[Tensor, Tensor]:
        return forward(Inputs(*inputs)) if inputs[2].numel() else _empty(*inputs)

    def run_backward(
        grad_out: Tensor, out: Tensor, row_sums: Tensor, diagonals_too: bool, *inputs: Any
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if not grad_out.numel():
            gradients = _empty_gradients(grad_out, out, row_sums, diagonals_too, *inputs)
            for gradient in gradients:
                gradient.zero_()
            return gradients
        with torch.autocast(grad_out.device.type, enabled=False):
            return backward(Inputs(*inputs), grad_out, out, row_sums, diagonals_too)

    operator = torch.library.custom_op(
        f"flash::{name}", run, mutates_args=(), schema=f"({_SCHEMA}) -> (Tensor, Tensor)"
    )
    operator.register_fake(_empty)
    operator_backward = torch.library.custom_op(
        f"flash::{name}_backward",
        run_backward,
        mutates_args=(),
        schema=f"(Tensor grad_out, Tensor out, Tensor row_sums, bool diagonals_too, {_SCHEMA}) "
        "-> (Tensor, Tensor, Tensor, Tensor)",
    )
    operator_backward.register_fake(_empty_gradients)

    differentiable_once(operator_backward, name)

    def remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        arguments, (out, row_sums) = Inputs(*inputs), output
        ctx.mark_non_differentiable(row_sums)
        # only the quotient rule needs the output; else it need not be kept
        ctx.save_for_backward(out if arguments.row_sum else row_sums, row_sums, *arguments[:8])
        ctx.options = arguments[8:]

    def differentiate(ctx: Any, grad_out: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        diagonals_too = ctx.needs_input_grad[3]
        out, row_sums, *tensors = ctx.saved_tensors
        *grads, grad_diagonals = operator_backward(grad_out, out, row_sums, diagonals_too, *tensors, *ctx.options)
        return (*grads, grad_diagonals if diagonals_too else None, *(None,) * 7)

    operator.register_autograd(differentiate, setup_context=remember)
    return operator


def attend(
    operator: Operator,
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
    """Sum by an operator of ``register`` the values of each packed sequence, weighted by squared positive scores.

        score[i, j] = scale[i] * query[i] . key[j] + diagonals[clip(j - i, -(L - 1), L - 1) + L - 1]
        out[i] = sum_j relu(score[i, j])^2 * value[j] / divisor[i]

    over the keys ``j`` of the sequence of ``i`` that are real and, in a causal model, not behind it. Products have the
    dtype of the inputs and are summed in float32; scores and weights are float32; float32 products are exact unless
    ``torch.backends.cuda.matmul`` allows TF32. Differentiable once, by query, key, value and diagonals; gradients are
    the same bits on every run of one tiling (docs/kernels.md). A tile of pairs without a positive score may be left
    out, values that are not finite with it. Source: arXiv 2202.10447, section 3.1.

    Args:
        operator: Which kernels compute it; ``fused`` and ``materialized`` give theirs.
        diagonals: One weight a distance (key minus query), of length ``2 L - 1``.
        cumulative_lengths: Where each sequence begins, and the end: int32, 0 first. Equal neighbours are an empty one.
        longest: Length of the longest sequence.
        divisor: Number outside the square, positive.
        row_sum: Divide each row of weights, once divided by ``divisor``, by its sum.
        key_mask: True where a key is a real token.

    Raises:
        InputError: What the kernels cannot compute, see ``kernel_inputs``.
    """
    out, _ = operator(
        query,
        key,
        value,
        None if diagonals is None else diagonals.float(),
        key_mask,
        cumulative_lengths,
        per_row(scale, query),
        per_row(divisor, query),
        longest,
        row_sum,
        causal,
    )
    return out


def _empty(*inputs: Any) -> tuple[Tensor, Tensor]:
    """Make room for the results of an operator."""
    value, scale, row_sum = inputs[2], inputs[6], inputs[9]
    return value.new_empty(value.shape), scale.new_empty(scale.shape if row_sum else (0,))


def _empty_gradients(
    grad_out: Tensor, out: Tensor, row_sums: Tensor, diagonals_too: bool, *inputs: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Make room for the gradients."""
    query, key, value = (tensor.new_empty(tensor.shape) for tensor in inputs[:3])
    return query, key, value, row_sums.new_empty(inputs[3].shape if diagonals_too else (0,))
