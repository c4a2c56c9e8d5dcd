"""Which keys a query may see: real ones, not later ones in a causal model, none of another packed sequence."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def visible_pairs(
    query_length: int,
    key_length: int,
    *,
    device: torch.device | None,
    query_mask: Bool[Tensor, "b n"] | None = None,
    key_mask: Bool[Tensor, "b m"] | None = None,
    segments: Int[Tensor, "b n"] | None = None,
    causal: bool = False,
) -> Bool[Tensor, "#b n m"] | None:
    """Mark the pairs of query and key that count; None when all do.

    Args:
        query_length: The queries are the last ones of the keys' positions.
        query_mask: True where a query is a real token.
        key_mask: True where a key is a real token.
        segments: Number of the packed sequence of each token; needs ``query_length = key_length``.
        causal: Hide the keys behind a query.
    """
    pairs: list[Tensor] = []
    if key_mask is not None:
        pairs.append(key_mask[:, None, :])
    if query_mask is not None:
        pairs.append(query_mask[:, :, None])
    if segments is not None:
        pairs.append(segments[:, :, None] == segments[:, None, :])
    if causal and key_length > 1:
        # only a comparison: torch.tril has no boolean kernel on every device
        queries = torch.arange(key_length - query_length, key_length, device=device)
        pairs.append((torch.arange(key_length, device=device) <= queries[:, None])[None])
    if not pairs:
        return None
    visible = pairs[0]
    for other in pairs[1:]:
        visible = visible & other
    return visible.expand(-1, query_length, key_length)


def visible_counts(pairs: Bool[Tensor, "b n m"], dtype: torch.dtype = torch.float32) -> Float[Tensor, "b n"]:
    """Count the keys that each query sees; 1 where it sees none, so that the count can divide."""
    return pairs.sum(dim=-1).clamp(min=1).to(dtype)
