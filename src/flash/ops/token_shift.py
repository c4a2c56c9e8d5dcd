"""Token shift: let each position see some channels of its neighbours at no cost in parameters."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad


def shift_tokens(
    x: Float[Tensor, "b n d"],
    channels: int,
    mask: Bool[Tensor, "b n"] | None = None,
    *,
    causal: bool = False,
    segments: Int[Tensor, "b n"] | None = None,
    previous: Float[Tensor, "b channels"] | None = None,
) -> Float[Tensor, "b n d"]:
    """Take the first channels from the token before, the next ones from the token after.

        out[t] = concat(x[t - 1][:channels], x[t + 1][channels : 2 * channels], x[t][2 * channels :])

    A neighbour that does not exist, or is padding, or belongs to another packed sequence, gives zeros; so none of
    these changes a real token. The causal form takes nothing from the token after: its channels stay in place. The
    causal form (past only) is in lucidrains' FLASH-pytorch; both directions serve an encoder.

    Args:
        channels: Number taken from each side; at most ``d / 2``.
        mask: True where a token is real.
        segments: Number of the packed sequence that a token belongs to.
        previous: First ``channels`` of the token before ``x[:, 0]``, when ``x`` continues a sequence.
    """
    if mask is not None:
        x = x * mask[..., None].to(x.dtype)
    before, after, own = x.split([channels, channels, x.shape[-1] - 2 * channels], dim=-1)
    if previous is None:
        before = pad(before, (0, 0, 1, 0))[:, :-1]
    else:
        before = torch.cat((previous[:, None].to(x.dtype), before), dim=1)[:, :-1]
    if not causal:
        after = pad(after, (0, 0, 0, 1))[:, 1:]
    if segments is not None:
        starts = pad(segments[:, 1:] != segments[:, :-1], (1, 0), value=True)  # (b, n)
        before = before.masked_fill(starts[..., None], 0.0)
        if not causal:
            after = after.masked_fill(pad(starts[:, 1:], (0, 1), value=True)[..., None], 0.0)
    return torch.cat((before, after, own), dim=-1)
