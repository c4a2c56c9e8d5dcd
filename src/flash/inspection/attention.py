"""Where the attention of each token goes: how far, to how many, to itself, or nowhere."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

from flash.layers.gated_unit import TokenContext
from flash.layers.mixed_chunk_unit import ChunkContext


@dataclass(frozen=True)
class AttentionStatistics:
    """One number for each query that is a real token, ``(queries,)``; NaN where a row without weight defines none.

    Args:
        distance: ``|i - j|`` in tokens, averaged with the weights of the row.
        zero_share: Share of the visible keys whose weight is exactly 0.
        effective_keys: ``exp(entropy of the normalised row)`` over the number of visible keys; 1 for a uniform row.
        self_share: Share of the row's weight on the query's own token.
        empty: 1 where no key has any weight, else 0.
    """

    distance: Tensor
    zero_share: Tensor
    effective_keys: Tensor
    self_share: Tensor
    empty: Tensor


def attention_statistics(weights: Float[Tensor, "r c c"], real: Bool[Tensor, "r c"]) -> AttentionStatistics:
    """Describe each row of the weights of real tokens, over the keys that are real tokens.

    Args:
        weights: Not negative; rows need not sum to 1. ``r`` counts inputs, of FLASH the chunks of all inputs.
        real: True where a position holds a real token. Every one of an input, or chunk, sees every other.
    """
    weights = weights.float() * real[:, None, :]
    visible = real.sum(dim=-1, keepdim=True)  # (r, 1)
    sums = weights.sum(dim=-1)  # (r, c)
    shares = weights / sums[..., None]
    positions = torch.arange(weights.shape[-1], device=weights.device)
    distances = (positions[:, None] - positions).abs().to(shares.dtype)  # (c, c)
    entropy = torch.special.entr(shares).sum(dim=-1)
    zeros = ((weights == 0) & real[:, None, :]).sum(dim=-1)
    return AttentionStatistics(
        distance=(shares * distances).sum(dim=-1)[real],
        zero_share=(zeros / visible)[real],
        effective_keys=(entropy.exp() / visible)[real],
        self_share=shares.diagonal(dim1=-2, dim2=-1)[real],
        empty=(sums == 0)[real].to(shares.dtype),
    )


def rows_of_real_tokens(
    weights: Float[Tensor, "..."], context: TokenContext
) -> tuple[Float[Tensor, "r c c"], Bool[Tensor, "r c"]]:
    """Bring the weights that a layer returns, and which of their positions are real tokens, into one form.

    Weights ``(b, n, n)`` stay as they are. Those of FLASH, ``(b, g, c, c)``, are over the slots of the context's
    layout: its chunks begin with the first real token of a row, so slots are not positions where padding stands on
    the left.
    """
    size = weights.shape[-1]
    slots_mask = context.mask
    if isinstance(context, ChunkContext) and context.layout is not None:
        slots_mask = context.layout.mask
    if slots_mask is None:
        raise ValueError("the context has no mask: pass the model an attention_mask")
    chunks = 1 if weights.dim() == 3 else weights.shape[1]
    slots_mask = pad(slots_mask, (0, chunks * size - slots_mask.shape[1]))  # the last chunk may be short
    return weights.reshape(-1, size, size), slots_mask.reshape(-1, size)
