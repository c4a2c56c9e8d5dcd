"""How much a layer changes the residual stream, for each token."""

from jaxtyping import Float
from torch import Tensor


def cosine_similarity(a: Float[Tensor, "... d"], b: Float[Tensor, "... d"]) -> Float[Tensor, "..."]:
    """Compare directions; exactly 1 for equal vectors, NaN where one is zero. Computed in float64."""
    a, b = a.double(), b.double()
    # the root of a product of equal squares gives that square back without rounding; a product of two roots does not
    return (a * b).sum(dim=-1) / (a.square().sum(dim=-1) * b.square().sum(dim=-1)).sqrt()


def relative_update(before: Float[Tensor, "... d"], after: Float[Tensor, "... d"]) -> Float[Tensor, "..."]:
    """Measure ``|after - before| / |before|``; NaN or infinite where ``before`` is zero. Computed in float64."""
    before, after = before.double(), after.double()
    return (after - before).norm(dim=-1) / before.norm(dim=-1)


def root_mean_square(x: Float[Tensor, "... d"]) -> Float[Tensor, "..."]:
    """Measure the size of a channel. Computed in float64."""
    return x.double().square().mean(dim=-1).sqrt()
