"""What tells a position: the scaled sinusoid of the embeddings and the learned relative biases."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from flash.ops.relative_bias import (
    bucketed_bias,
    distance_buckets,
    rotary_product_bias,
    rotary_product_diagonals,
    toeplitz_bias,
)
from flash.ops.rotary import position_angles


class ScaledSinusoid(nn.Module):
    """Sine half, cosine half, times one learned scalar; computed for any position, so no table can run out.

        out[t] = scale * concat(sin(t * 10000^(-i / (d / 2))), cos(t * 10000^(-i / (d / 2))))

    Source: arXiv 2202.10447, appendix (``ScaledSin``); the scalar starts at ``d^-0.5``.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.scale = nn.Parameter(torch.full((1,), dim**-0.5))

    def forward(self, position_ids: Int[Tensor, "*batch n"]) -> Float[Tensor, "*batch n d"]:
        """Embed each position."""
        angles = position_angles(position_ids, self.dim)
        return torch.cat((angles.sin(), angles.cos()), dim=-1).to(self.scale.dtype) * self.scale


class RelativeBias(nn.Module, ABC):
    """Bias of the scores by the distance between query and key, laid out over all pairs or by distance.

    Both come from a call of the module: weights that ``device_map`` keeps elsewhere are fetched for a call only.
    """

    def forward(
        self, query_length: int, key_length: int | None = None, *, by_distance: bool = False
    ) -> Float[Tensor, "n m"] | Float[Tensor, " distances"]:
        """Return the bias of the last ``query_length`` of ``key_length`` positions (all by default).

        Args:
            by_distance: Return the bias of each distance between ``query_length`` positions instead.
        """
        return self.diagonals(query_length) if by_distance else self.pairs(query_length, key_length)

    @abstractmethod
    def pairs(self, query_length: int, key_length: int | None) -> Float[Tensor, "n m"]:
        """Return the bias of the last ``query_length`` of ``key_length`` positions."""

    @abstractmethod
    def diagonals(self, length: int) -> Float[Tensor, " distances"]:
        """Return the bias of each distance between ``length`` positions, or of all distances that have one."""


class ToeplitzBias(RelativeBias):
    """One learned weight for each distance from ``-(L - 1)`` to ``L - 1``."""

    def __init__(self, longest: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2 * longest - 1))

    def pairs(self, query_length: int, key_length: int | None) -> Float[Tensor, "n m"]:
        """Return the bias of the last ``query_length`` of ``key_length`` positions."""
        return toeplitz_bias(self.weight, query_length, key_length)

    def diagonals(self, length: int) -> Float[Tensor, " distances"]:
        """Return the bias of each distance, an odd number of them; those beyond have that of the longest one."""
        return self.weight

    def extra_repr(self) -> str:
        """Show the number of distances in ``print(model)``."""
        return f"distances={self.weight.shape[0]}"


class BucketedBias(RelativeBias):
    """One learned weight for each bucket of distances."""

    def __init__(self, buckets: int, *, max_distance: int, causal: bool) -> None:
        super().__init__()
        self.max_distance = max_distance
        self.causal = causal
        self.weight = nn.Parameter(torch.zeros(buckets))

    def pairs(self, query_length: int, key_length: int | None) -> Float[Tensor, "n m"]:
        """Return the bias of the last ``query_length`` of ``key_length`` positions."""
        return bucketed_bias(self.weight, query_length, key_length, max_distance=self.max_distance, causal=self.causal)

    def diagonals(self, length: int) -> Float[Tensor, " distances"]:
        """Return the bias of each distance between ``length`` positions."""
        distances = torch.arange(1 - length, length, device=self.weight.device)
        return self.weight[
            distance_buckets(distances, self.weight.shape[0], max_distance=self.max_distance, causal=self.causal)
        ]


class RotaryProductBias(RelativeBias):
    """Inner products of two learned vectors rotated to their positions; defined at every distance."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.left = nn.Parameter(torch.zeros(1, dim))
        self.right = nn.Parameter(torch.zeros(1, dim))

    def pairs(self, query_length: int, key_length: int | None) -> Float[Tensor, "n m"]:
        """Return the bias of the last ``query_length`` of ``key_length`` positions."""
        return rotary_product_bias(self.left, self.right, query_length, key_length)

    def diagonals(self, length: int) -> Float[Tensor, " distances"]:
        """Return the bias of each distance between ``length`` positions."""
        return rotary_product_diagonals(self.left, self.right, length)
