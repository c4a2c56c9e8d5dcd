"""Packed sequences for the Triton kernels: inputs, the definition to compare with, gradients."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flash.ops.quadratic_attention import quadratic_attention
from flash.ops.relative_bias import toeplitz_bias
from flash.ops.visibility import visible_pairs

from helpers import normal

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass
class Batch:
    """Float64 inputs of packed sequences, and what goes with them."""

    inputs: list[Tensor]
    lengths: list[int]
    options: dict[str, Any]

    @property
    def bounds(self) -> dict[str, Any]:
        cumulative = torch.tensor([0, *self.lengths]).cumsum(0).int().to(DEVICE)
        return {"cumulative_lengths": cumulative, "longest": max(self.lengths, default=0)}


def batch(lengths, *, s=5, e=12, bias=False, key_mask=False, rows=False, seed=0, dtype=torch.float32, **options):
    """Draw inputs that ``dtype`` holds exactly."""
    tokens = sum(lengths)
    inputs = [normal(tokens, width, seed=seed + place) for place, width in enumerate((s, s, e))]
    if bias:
        # fewer distances than the longest sequence has; to be divided by its sum, a row must have some weight
        inputs.append(normal(2 * 20 - 1, seed=seed + 3) + (6.0 if options.get("row_sum") else 0.5))
    options |= {"scale": 0.7, "divisor": 3.0}
    if rows:
        options |= {"scale": normal(tokens, seed=seed + 4).abs() + 0.1, "divisor": normal(tokens, seed=5).abs() + 1.0}
    if key_mask:
        options["key_mask"] = normal(tokens, seed=seed + 6) > -0.5
    return Batch([tensor.to(dtype).double() for tensor in inputs], lengths, options)


def cast(options, dtype):
    """Put the options on the device, and float64 numbers into ``dtype``."""
    return {
        name: given.to(DEVICE, dtype if given.is_floating_point() else given.dtype) if torch.is_tensor(given) else given
        for name, given in options.items()
    }


def by_reference(*inputs, lengths, causal=False, key_mask=None, **options):
    """Run the definition over one sequence after the other."""
    query, key, value, *bias = inputs
    outputs, start = [], 0
    for length in lengths:
        own = slice(start, start + length)
        start += length
        pairs = visible_pairs(
            length,
            length,
            device=query.device,
            causal=causal,
            key_mask=None if key_mask is None else key_mask[None, own],
        )
        if length:
            output, _ = quadratic_attention(
                query[None, own],
                key[None, own],
                value[None, own],
                toeplitz_bias(bias[0], length) if bias else None,
                pairs=pairs,
                **{name: given[None, own] if torch.is_tensor(given) else given for name, given in options.items()},
            )
            outputs.append(output[0])
    return torch.cat(outputs)


def with_gradients(function, inputs, dtype, **options):
    """Return the output and the gradients of a weighted sum of it."""
    leaves = [tensor.to(DEVICE, dtype).requires_grad_() for tensor in inputs]
    output = function(*leaves, **options)
    weight = normal(*output.shape, seed=9).to(torch.bfloat16).to(DEVICE, dtype)
    return [output.detach(), *torch.autograd.grad(output, leaves, weight)]
