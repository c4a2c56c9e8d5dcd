"""Squared-ReLU attention in memory linear in the length: a block of queries at a time, recomputed in the backward.

Plain PyTorch on any device, registered as operations: ``torch.compile`` and ``torch.export`` do not look inside.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flash.ops.attention_weights import SMALLEST_ROW_SUM
from flash.ops.differentiable_once import differentiable_once
from flash.ops.sequences import Sequences

# Weights held at once, 8 MiB in bfloat16; a block has at least so many queries. On a CPU, n = 2,048 and e = 1,536,
# forward and backward took 285 ms with this number, 312 with a quarter, 426 with a sixteenth: each block adds to all
# gradients of the values.
BLOCK_WEIGHTS = 1 << 22
FEWEST_QUERIES = 64


@dataclass(frozen=True)
class _Run:
    """Neighbouring sequences of one length: ``count`` of ``length`` tokens, the first of them at token ``begin``."""

    begin: int
    count: int
    length: int

    def rows(self, x: Tensor) -> Tensor:
        """View the tokens of the run as ``(count, length, ...)``."""
        return x[self.begin : self.begin + self.count * self.length].view(self.count, self.length, *x.shape[1:])

    def blocks(self, causal: bool) -> Iterator[tuple[slice, slice]]:
        """Cut the queries; give the slice of each block, and of the keys that it may see."""
        queries = max(FEWEST_QUERIES, BLOCK_WEIGHTS // (self.count * self.length))
        for begin in range(0, self.length, queries):
            end = min(begin + queries, self.length)
            yield slice(begin, end), slice(0, end if causal else self.length)

    def reach(self, queries: slice, keys: slice) -> slice:
        """Say which of the distances, from ``1 - length`` to ``length - 1``, lie between them."""
        return slice(self.length - queries.stop, self.length - 1 - queries.start + keys.stop)


@dataclass(frozen=True)
class _Scores:
    """What decides the scores; see ``blocked_forward`` for the meaning of each."""

    query: Tensor
    key: Tensor
    diagonals: Tensor | None
    key_mask: Tensor | None
    scale: float
    causal: bool

    def line(self, run: _Run) -> Tensor | None:
        """Give the bias of each distance in the run, ``(2 length - 1,)``."""
        return None if self.diagonals is None else line_of_distances(self.diagonals, run.length)

    def roots(self, run: _Run, line: Tensor | None, queries: slice, keys: slice) -> Tensor:
        """Return the positive part of the scores, ``(count, queries, keys)``: its square is the weight."""
        query, key = run.rows(self.query)[:, queries], run.rows(self.key)[:, keys]
        if line is None:
            scores = (query @ key.mT).mul_(self.scale)
        else:
            bias = line[run.reach(queries, keys)].unfold(0, keys.stop, 1).flip(0)  # (queries, keys)
            scores = torch.baddbmm(bias.expand(run.count, -1, -1), query, key.mT, alpha=self.scale)
        roots = scores.relu_()
        if self.key_mask is not None:
            roots.masked_fill_(~run.rows(self.key_mask)[:, None, keys], 0.0)
        if self.causal:
            # among the keys up to the last query of the block, only those beside the queries can be behind one
            roots[..., queries].tril_()
        return roots


@torch.library.custom_op("flash::squared_relu_attention_blocked", mutates_args=())
def blocked_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    diagonals: Tensor | None,
    key_mask: Tensor | None,
    divisor: Tensor | None,
    runs: Sequence[int],
    scale: float,
    row_sum: bool,
    causal: bool,
) -> tuple[Tensor, Tensor]:
    """Sum the values by their weights, ``relu(scale * query[i] . key[j] + bias[j - i])^2``, and divide the sums.

    Args:
        query: ``(t, s)``, like ``key``; ``value`` is ``(t, e)``.
        diagonals: Bias of each distance, ``(2 L - 1,)``, in the dtype of the others.
        key_mask: True where a key counts, ``(t,)``.
        divisor: What each weight is divided by, ``(t,)``, float32 at least.
        runs: Counts and lengths of neighbouring sequences, in turn.
        scale: Factor on the dot products.
        row_sum: Divide by the sum of the weights, once divided by ``divisor``.
        causal: Hide the keys behind a query.

    Returns:
        The sums ``(t, e)``; and what ``row_sum`` divided each by in place of ``divisor``, ``(t,)``, float32 at least,
        empty without it.
    """
    wide = torch.promote_types(value.dtype, torch.float32)
    out = torch.empty_like(value)
    row_sums = value.new_empty(value.shape[0] if row_sum else 0, dtype=wide)
    scores = _Scores(query, key, diagonals, key_mask, scale, causal)
    for run in _runs(runs):
        line = scores.line(run)
        for queries, keys in run.blocks(causal):
            weights = scores.roots(run, line, queries, keys).square_()
            summed = torch.bmm(weights, run.rows(value)[:, keys], out=run.rows(out)[:, queries])
            if row_sum:
                least = _least_sum(None if divisor is None else run.rows(divisor)[:, queries])
                sums = weights.sum(dim=-1, dtype=wide).clamp(min=least)
                run.rows(row_sums)[:, queries] = sums
                summed.div_(sums[..., None])
            elif divisor is not None:
                # behind the sum, in float32: a factor in half precision would be wrong for all weights alike
                summed.div_(run.rows(divisor)[:, queries, None])
    return out, row_sums


@torch.library.custom_op("flash::squared_relu_attention_blocked_backward", mutates_args=())
def blocked_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    diagonals: Tensor | None,
    key_mask: Tensor | None,
    divisor: Tensor | None,
    row_sums: Tensor,
    runs: Sequence[int],
    scale: float,
    causal: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of query, key, value and diagonals; the last is empty where there are none.

    ``row_sums`` are what ``blocked_forward`` returned for the other arguments.
    """
    wide = torch.promote_types(value.dtype, torch.float32)
    row_sum = row_sums.numel() > 0
    grad_query, grad_key, grad_value = (torch.empty_like(x) for x in (query, key, value))
    grad_diagonals = value.new_zeros(0 if diagonals is None else diagonals.shape[0], dtype=wide)
    scores = _Scores(query, key, diagonals, key_mask, scale, causal)
    for run in _runs(runs):
        key_sum, value_sum = _Sum(run.rows(grad_key)), _Sum(run.rows(grad_value))
        line = scores.line(run)
        grad_line = None if line is None else torch.zeros_like(line, dtype=wide)
        for queries, keys in run.blocks(causal):
            roots = scores.roots(run, line, queries, keys)
            grad_out = run.rows(grad)[:, queries]
            weights = roots.square()
            if row_sum:
                # out = (weights v) / sum(weights): all weights of a row have the same gradient through the sum, a mean
                # of the others. It is that of the rounded ones: what a rounding adds would not cancel over the row.
                sums = run.rows(row_sums)[:, queries, None]
                grad_out = grad_out / sums
                grad_weights = grad_out @ run.rows(value).to(wide)[:, keys].mT
                shared = (grad_weights * weights).sum(dim=-1, keepdim=True) / sums
                least = _least_sum(None if divisor is None else run.rows(divisor)[:, queries, None])
                # a sum that was too small to divide by has no gradient
                grad_weights = (grad_weights - shared.where(sums > least, 0.0)).to(value.dtype)
                grad_out = grad_out.to(value.dtype)
            else:
                if divisor is not None:
                    grad_out = (grad_out / run.rows(divisor)[:, queries, None]).to(value.dtype)
                grad_weights = grad_out @ run.rows(value)[:, keys].mT
            value_sum.add(keys, weights.mT, grad_out)
            grad_scores = grad_weights.mul_(roots)  # half of it: d(root^2) = 2 root d(root)
            if grad_line is not None:
                sums = _sum_along_diagonals(grad_scores.sum(dim=0, dtype=wide))
                grad_line[run.reach(queries, keys)].add_(sums, alpha=2.0)
            torch.bmm(grad_scores, run.rows(key)[:, keys], out=run.rows(grad_query)[:, queries])
            key_sum.add(keys, grad_scores.mT, run.rows(query)[:, queries])
        key_sum.finish()
        value_sum.finish()
        if grad_line is not None:
            _add_line(grad_diagonals, grad_line)
    return grad_query.mul_(2.0 * scale), grad_key.mul_(2.0 * scale), grad_value, grad_diagonals


class _Sum:
    """Adds up the products of blocks in float32 at least, and without a copy where there is only one."""

    def __init__(self, result: Tensor) -> None:
        self.result = result
        self.total: Tensor | None = None
        self.blocks = 0

    def add(self, rows: slice, left: Tensor, right: Tensor) -> None:
        """Add ``left @ right`` to the first rows."""
        self.blocks += 1
        if self.blocks == 1 and left.shape[1] == self.result.shape[1]:
            torch.bmm(left, right, out=self.result)
            return
        if self.total is None:
            wide = torch.promote_types(right.dtype, torch.float32)
            self.total = torch.zeros_like(self.result, dtype=wide)
            if self.blocks > 1:
                self.total.copy_(self.result)
        self.total[:, rows] += left @ right

    def finish(self) -> None:
        """Write the sum."""
        if self.total is not None:
            self.result.copy_(self.total)


def _runs(runs: Sequence[int]) -> Iterator[_Run]:
    begin = 0
    for count, length in zip(runs[::2], runs[1::2], strict=True):
        if count and length:
            yield _Run(begin, count, length)
        begin += count * length


def _least_sum(divisor: Tensor | None) -> float | Tensor:
    """Say which sum of a row's weights is the smallest to divide by: ``SMALLEST_ROW_SUM`` behind the division."""
    return SMALLEST_ROW_SUM if divisor is None else SMALLEST_ROW_SUM * divisor


def line_of_distances(diagonals: Tensor, length: int) -> Tensor:
    """Give the bias of each distance between ``length`` positions, ``(2 length - 1,)``, as ``toeplitz_bias`` does."""
    longest = diagonals.shape[0] // 2 + 1
    if length <= longest:
        return diagonals[longest - length : longest + length - 1]
    beyond = length - longest
    return torch.cat((diagonals[:1].expand(beyond), diagonals, diagonals[-1:].expand(beyond)))


def _add_line(grad_diagonals: Tensor, grad_line: Tensor) -> None:
    """Add the gradient of ``line_of_distances``."""
    length, longest = grad_line.shape[0] // 2 + 1, grad_diagonals.shape[0] // 2 + 1
    if length <= longest:
        grad_diagonals[longest - length : longest + length - 1] += grad_line
        return
    beyond = length - longest
    grad_diagonals += grad_line[beyond:-beyond]
    grad_diagonals[0] += grad_line[:beyond].sum()
    grad_diagonals[-1] += grad_line[-beyond:].sum()


def _sum_along_diagonals(x: Tensor) -> Tensor:
    """Sum the entries ``(q, m)`` of each distance ``column - row``, from ``1 - q`` to ``m - 1``."""
    rows, columns = x.shape
    # with one entry less a row, each row moves one column to the right of the one before
    skewed = torch.nn.functional.pad(x.flip(0), (0, rows)).flatten()[:-rows]
    return skewed.view(rows, rows + columns - 1).sum(dim=0)


@blocked_forward.register_fake
def _(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    diagonals: Tensor | None,
    key_mask: Tensor | None,
    divisor: Tensor | None,
    runs: Sequence[int],
    scale: float,
    row_sum: bool,
    causal: bool,
) -> tuple[Tensor, Tensor]:
    wide = torch.promote_types(value.dtype, torch.float32)
    return torch.empty_like(value), value.new_empty(value.shape[0] if row_sum else 0, dtype=wide)


@blocked_backward.register_fake
def _(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    diagonals: Tensor | None,
    key_mask: Tensor | None,
    divisor: Tensor | None,
    row_sums: Tensor,
    runs: Sequence[int],
    scale: float,
    causal: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    wide = torch.promote_types(value.dtype, torch.float32)
    grad_diagonals = value.new_empty(0 if diagonals is None else diagonals.shape[0], dtype=wide)
    return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), grad_diagonals


def _setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    query, key, value, diagonals, key_mask, divisor, ctx.runs, ctx.scale, _, ctx.causal = inputs
    _, row_sums = output
    ctx.save_for_backward(query, key, value, diagonals, key_mask, divisor, row_sums)
    ctx.mark_non_differentiable(row_sums)


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    # once only: gradient checkpointing recomputes what is saved when it is read
    saved = ctx.saved_tensors
    diagonals = saved[3]
    with torch.autocast(grad.device.type, enabled=False):
        *grads, grad_diagonals = blocked_backward(grad.contiguous(), *saved, list(ctx.runs), ctx.scale, ctx.causal)
    bias = None if diagonals is None else grad_diagonals.to(diagonals.dtype)
    return (*grads, bias, None, None, None, None, None, None)


blocked_forward.register_autograd(_backward, setup_context=_setup_context)
differentiable_once(blocked_backward, "squared_relu_attention_blocked")


def squared_relu_attention(
    query: Float[Tensor, "t s"],
    key: Float[Tensor, "t s"],
    value: Float[Tensor, "t e"],
    diagonals: Float[Tensor, " distances"] | None,
    *,
    sequences: Sequences,
    scale: float | Float[Tensor, " t"],
    divisor: float | Float[Tensor, " t"] = 1.0,
    row_sum: bool = False,
    key_mask: Bool[Tensor, " t"] | None = None,
    causal: bool = False,
) -> Float[Tensor, "t e"]:
    """Compute what ``flash.ops.quadratic_attention.packed.squared_relu_attention`` describes.

    Scores and weights have the dtype of ``value``; float16, which could not hold them, is computed in float32.
    """
    dtype = value.dtype
    working = torch.float32 if dtype == torch.float16 else dtype
    row_divisor = None
    if isinstance(divisor, Tensor):
        row_divisor = divisor.to(torch.promote_types(working, torch.float32))
    elif divisor != 1.0:
        # relu(x)^2 / divisor = relu(x / sqrt(divisor))^2: no pass of its own, and nothing leaves the range
        scale = scale * divisor**-0.5
        diagonals = None if diagonals is None else diagonals * divisor**-0.5
    if isinstance(scale, Tensor):
        query, scale = query * scale[:, None], 1.0
    query, key, value = (x.to(working).contiguous() for x in (query, key, value))
    diagonals = None if diagonals is None else diagonals.to(working)
    runs = [number for run in sequences.runs for number in run]
    with torch.autocast(value.device.type, enabled=False):
        out, _ = blocked_forward(query, key, value, diagonals, key_mask, row_divisor, runs, scale, row_sum, causal)
    return out.to(dtype)
