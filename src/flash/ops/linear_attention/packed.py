"""Linear attention over sequences that lie one behind the other, by the matrix products of the library."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from flash.ops.linear_attention.reference import chunk_sums, linear_attention
from flash.ops.sequences import Sequences


def packed_linear_attention(
    query: Float[Tensor, "t s"],
    key: Float[Tensor, "t s"],
    value: Float[Tensor, "t e"],
    *,
    sequences: Sequences,
    chunk_size: int,
    causal: bool,
    divisor: float | None = None,
) -> Float[Tensor, "t e"]:
    """Apply each query to the summed products of its sequence, as ``flash.ops.linear_attention`` does.

        causal:      out[i] = query[i] . (sum of key[j] (x) value[j] over the chunks before that of i) / divisor
        not causal:  out[i] = query[i] . (sum of key[j] (x) value[j] over all j) / divisor

    Args:
        sequences: Which tokens make a sequence; chunks are counted from its first token.
        divisor: None divides by the number of tokens summed.
    """
    runs = [run for run in sequences.runs if all(run)]  # of sequences without a token nothing is asked
    sizes = [count * length for count, length in runs]
    parts = []
    for run, *tokens in zip(runs, *(x.split(sizes) for x in (query, key, value)), strict=True):
        run_query, run_key, run_value = (x.view(*run, x.shape[1]) for x in tokens)
        if causal:
            out = _before(run_query, run_key, run_value, chunk_size, divisor)
        else:
            out = _all(run_query, run_key, run_value, float(run[1]) if divisor is None else divisor)
        parts.append(out.flatten(0, 1))
    if not parts:
        return value
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _all(query: Tensor, key: Tensor, value: Tensor, divisor: float) -> Tensor:
    factor = 1.0 / divisor
    if torch.compiler.is_compiling():
        # a compiled product may be rounded before it is scaled: half of the division on either side, so that a sum over
        # a long sequence stays in the range of float16
        query, key, factor = query * factor**0.5, key * factor**0.5, 1.0
    length, dim, width = key.shape[1], key.shape[2], value.shape[2]
    if length * (dim + width) < 2 * dim * width:
        return _scaled_product(query, key.mT, factor) @ value
    return query @ _scaled_product(key.mT, value, factor)


def _scaled_product(left: Tensor, right: Tensor, factor: float) -> Tensor:
    """Compute ``factor * left @ right``, in half precision rounded once.

    Numbers that are rounded already and scaled by a factor next to a power of two are mostly rounded the same way.
    """
    return torch.baddbmm(left.new_zeros(1), left, right, beta=0, alpha=factor)


def _before(query: Tensor, key: Tensor, value: Tensor, chunk_size: int, divisor: float | None) -> Tensor:
    count, length, width = value.shape
    if length <= chunk_size:
        return torch.zeros_like(value)
    chunks = -(-length // chunk_size)
    query, key, value = (
        pad(x, (0, 0, 0, chunks * chunk_size - length)).view(count, chunks, chunk_size, -1) for x in (query, key, value)
    )
    recalled = linear_attention(query, chunk_sums(key, value), causal=True, divisor=divisor)
    return recalled.reshape(count, chunks * chunk_size, width)[:, :length]
