"""Which scale, divisor and function a configuration asks for, as numbers for ``quadratic_attention``."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flash.ops.visibility import visible_counts

SELF_NORMALIZED = ("softmax", "entropy_softmax")


@dataclass(frozen=True)
class Weighting:
    """How scores become weights.

    With ``length`` standing for ``longest``, or for the number of keys that a query sees (``true_length``):

        inverse_length:    f(q.k / length + bias)
        inverse_sqrt_dim:  f(q.k / sqrt(s) + bias) / length
        softmax:           softmax(q.k / sqrt(s) + bias)
        entropy_softmax:   softmax(log(keys seen) / log(longest) * q.k / sqrt(s) + bias)

    ``row_sum`` divides by the sum of the row in place of the ``length`` outside. The entropy of the last form hardly
    depends on the length (https://kexue.fm/archives/8823).

    Args:
        function: ``squared_relu``, ``laplace``, ``softmax`` or ``entropy_softmax``.
        score_scale: ``inverse_length`` or ``inverse_sqrt_dim``.
        score_divisor: ``constant``, ``true_length`` or ``row_sum``.
        longest: Longest length of training ``L``; the chunk size in FLASH.
        dim: Query and key width ``s``.
    """

    function: str
    score_scale: str
    score_divisor: str
    longest: int
    dim: int

    @property
    def counts_keys(self) -> bool:
        """Whether ``arguments`` needs the number of keys that each query sees."""
        return self.function == "entropy_softmax" or (
            self.function != "softmax" and self.score_divisor == "true_length"
        )

    def arguments(self, seen: float | Float[Tensor, "*queries"]) -> dict[str, Any]:
        """Return ``scale``, ``divisor`` and ``row_sum``.

        Args:
            seen: Number of keys that each query sees, in float32 at least; of no account unless ``counts_keys``.
        """
        inverse_root = self.dim**-0.5
        if self.function == "softmax":
            return {"scale": inverse_root}
        if self.function == "entropy_softmax":
            entropy = seen.log() if isinstance(seen, Tensor) else math.log(seen)
            return {"scale": entropy * (inverse_root / math.log(self.longest))}
        row_sum = self.score_divisor == "row_sum"
        length = seen if self.score_divisor == "true_length" else float(self.longest)
        if self.score_scale == "inverse_length":
            return {"scale": 1.0 / length, "row_sum": row_sum}
        divisor = 1.0 if row_sum else length
        return {"scale": inverse_root, "divisor": divisor, "row_sum": row_sum}

    def arguments_of_pairs(
        self, pairs: Bool[Tensor, "b n m"] | None, key_length: int, dtype: torch.dtype = torch.float32
    ) -> dict[str, Any]:
        """Return what ``arguments`` does, and ``function``, for keys of which ``pairs`` count.

        Args:
            dtype: That of queries and keys; the numbers are float32 at least.
        """
        seen: float | Tensor = 1.0
        if self.counts_keys:
            wide = torch.promote_types(dtype, torch.float32)
            seen = float(key_length) if pairs is None else visible_counts(pairs, wide)
        function = "softmax" if self.function in SELF_NORMALIZED else self.function
        return {"function": function} | self.arguments(seen)
