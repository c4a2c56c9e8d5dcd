"""Token shift: let each position see some channels of its neighbours at no cost in parameters."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def shift_tokens(
    x: Float[Tensor, "b n d"], channels: int, mask: Bool[Tensor, "b n"] | None = None
) -> Float[Tensor, "b n d"]:
    """Take the first channels from the token before, the next ones from the token after.

        out[t] = concat(x[t - 1][:channels], x[t + 1][channels : 2 * channels], x[t][2 * channels :])

    A neighbour that does not exist, or is padding, gives zeros; so padding changes no real token. The causal form
    (past only) is in lucidrains' FLASH-pytorch; both directions here, because the model is an encoder.

    Args:
        channels: Number taken from each side; at most ``d / 2``.
        mask: True where a token is real.
    """
    if mask is not None:
        x = x * mask[..., None].to(x.dtype)
    before, after, own = x.split([channels, channels, x.shape[-1] - 2 * channels], dim=-1)
    before = torch.nn.functional.pad(before, (0, 0, 1, 0))[:, :-1]
    after = torch.nn.functional.pad(after, (0, 0, 0, 1))[:, 1:]
    return torch.cat((before, after, own), dim=-1)
