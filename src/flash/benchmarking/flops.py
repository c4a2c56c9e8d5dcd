"""Operations of a training step or a forward pass, counted from shapes; a multiply-add is two.

Matrix products only, each counted once as the mathematics has it: what an implementation computes again in its backward
pass, or skips because it is zero or masked, does not change the count. A backward pass has twice the products of its
forward pass. Formulas: docs/costs.md.
"""

from __future__ import annotations

from flash.benchmarking.contestants import Contestant
from flash.benchmarking.families import matched_width
from flash.benchmarking.sizes import VOCABULARY, Size
from flash.models.configuration_gated import LONGEST_TOEPLITZ_BIAS

CHUNK = 256  # of FLASH


def encoder_flops(contestant: Contestant, size: Size, *, rows: int, length: int) -> int:
    """Count the products of a forward pass without head over ``(rows, length)`` tokens."""
    tokens = rows * length
    if contestant.kind.gated:
        d, e, s = size.width, 2 * size.width, size.query_key_dim
        unit = tokens * (2 * d * (2 * e + s) + 2 * e * d)
        if contestant.family == "flash":
            chunk = min(CHUNK, length)
            slots = rows * -(-length // chunk) * chunk  # the last chunk of a row is filled up
            unit += slots * (2 * chunk * (s + e) + 4 * s * e)
        else:
            unit += tokens * 2 * length * (s + e)
        if contestant.family == "earlier" and length > LONGEST_TOEPLITZ_BIAS:
            unit += 2 * length**2 * s  # its bias is a product too, one for all rows
        return size.units * unit
    d, i = size.width, matched_width(contestant.family, size)
    matrices = 2 if contestant.family == "bert" else 3  # of the MLP; a gated one has 3
    return size.layers * tokens * (2 * (4 * d * d + matrices * d * i) + 4 * length * d)


def head_flops(size: Size, positions: int) -> int:
    """Count the products of the masked-language-model head at so many positions: dense layer and vocabulary."""
    return positions * 2 * size.width * (size.width + VOCABULARY)


def step_flops(contestant: Contestant, size: Size, *, mode: str, rows: int, length: int, scored: int) -> int:
    """Count the products of one measured step.

    Args:
        mode: ``training`` (forward and backward, with head) or ``inference`` (forward, without head).
        scored: Positions that labels are given for.
    """
    encoder = encoder_flops(contestant, size, rows=rows, length=length)
    if mode == "inference":
        return encoder
    return 3 * (encoder + head_flops(size, rows * length if contestant.all_logits else scored))
