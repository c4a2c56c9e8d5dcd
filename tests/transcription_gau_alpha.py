"""A second, literal writing-down of the GAU-alpha masked language model, for the tests to compare the library with.

It imports nothing from ``flash`` and was written without looking at its layers and models. A checkpoint is a flat
dict with the published key names. There are no biases, no positions in the embeddings, no gains in the norms.

Axes: b batch, n positions, d model width, e gate and value width, s query and key width.
"""

import math

import torch
from torch import Tensor

from transcription import ACTIVATIONS


def norm(x: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps): the root mean square norm, without a gain."""
    return x / torch.sqrt((x * x).mean(dim=-1, keepdim=True) + eps)


def rotate_interleaved(vector: Tensor, position: int) -> Tensor:
    """Rotate (..., s): channel 2k with channel 2k + 1, by the angle position * 10000^(-2k / s).

    The turned even channels come first and the turned odd channels after them. That order is not the one of the
    input; a dot product of two turned vectors does not mind.
    """
    s = vector.shape[-1]
    first, second = [], []
    for k in range(s // 2):
        angle = position * 10000.0 ** (-2 * k / s)
        x1, x2 = vector[..., 2 * k], vector[..., 2 * k + 1]
        first.append(x1 * math.cos(angle) - x2 * math.sin(angle))
        second.append(x1 * math.sin(angle) + x2 * math.cos(angle))
    return torch.stack(first + second, dim=-1)


def attention_weights(
    query: Tensor, key: Tensor, mask: Tensor, *, normalization: str, max_position_embeddings: int
) -> Tensor:
    """A[i, j] over the N real tokens of a row, 0 where i or j is padding; shape (b, n, n).

    softmax_plus    softmax_j(log(N) / log(max_position_embeddings) * q_i . k_j / sqrt(s))
    softmax         softmax_j(q_i . k_j / sqrt(s))
    squared_relu    relu(q_i . k_j / sqrt(s))^2 / N

    The published code lets a padding query attend too; its row is 0 here, so compare with that code at real tokens.
    """
    batch_size, length, s = query.shape
    zero = torch.zeros((), dtype=torch.float64)
    rows = []
    for row in range(batch_size):
        real = [j for j in range(length) if mask[row, j]]
        for i in range(length):
            if i not in real:
                rows.append(torch.stack([zero] * length))
                continue
            scores = {j: (query[row, i] * key[row, j]).sum() / math.sqrt(s) for j in real}
            if normalization == "squared_relu":
                chosen = {j: ACTIVATIONS["relu"](score) ** 2 / len(real) for j, score in scores.items()}
            elif normalization in ("softmax", "softmax_plus"):
                plus = normalization == "softmax_plus"
                factor = math.log(len(real)) / math.log(max_position_embeddings) if plus else 1.0
                powers = {j: torch.exp(factor * score) for j, score in scores.items()}
                chosen = {j: power / sum(powers.values()) for j, power in powers.items()}
            else:
                raise ValueError(f"normalization must be softmax_plus, softmax or squared_relu, got {normalization!r}")
            rows.append(torch.stack([chosen.get(j, zero) for j in range(length)]))
    return torch.stack(rows).reshape(batch_size, length, length)


def gated_attention_unit(
    x: Tensor,
    parameters: dict[str, Tensor],
    *,
    mask: Tensor,
    normalization: str,
    max_position_embeddings: int,
    eps: float,
    hidden_act: str,
) -> tuple[Tensor, Tensor]:
    """One unit: its output (b, n, d) and its attention weights (b, n, n).

    u, v, z = split(act(x W_in), [e, e, s]);  q, k = rotate(z * gain_q), rotate(z * gain_k)
    out = norm(x + (u * (A v)) W_out)
    """
    values = {name: value.double() for name, value in parameters.items()}
    projected = ACTIVATIONS[hidden_act](torch.einsum("bnd,od->bno", x, values["i_dense.weight"]))
    e = values["o_dense.weight"].shape[1]
    gate, value, base = projected[..., :e], projected[..., e : 2 * e], projected[..., 2 * e :]
    query, key = (base * values[f"{side}_scaleoffset.weight"] for side in ("q", "k"))
    query, key = (
        torch.stack([rotate_interleaved(copy[:, i], i) for i in range(x.shape[1])], dim=1) for copy in (query, key)
    )
    weights = attention_weights(
        query, key, mask, normalization=normalization, max_position_embeddings=max_position_embeddings
    )
    attended = torch.einsum("bij,bje->bie", weights, value)
    return norm(x + torch.einsum("bne,de->bnd", gate * attended, values["o_dense.weight"]), eps), weights


def masked_lm_logits(
    checkpoint: dict[str, Tensor],
    input_ids: Tensor,
    *,
    attention_mask: Tensor | None = None,
    token_type_ids: Tensor | None = None,
    max_position_embeddings: int = 512,
    normalization: str = "softmax_plus",
    eps: float = 1e-12,
    hidden_act: str = "silu",
    pad_token_id: int = 0,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Logits, hidden states and attention weights of a published checkpoint, in float64.

    The hidden states are the embeddings and then the output of each unit, (b, n, d); the attention weights
    are (b, n, n), one for each unit. The default mask is `input_ids != pad_token_id`, the token types all 0.
    The logits are read off `cls.predictions.decoder.weight`, which a published checkpoint ties to the words.
    """
    if attention_mask is None:
        attention_mask = input_ids != pad_token_id
    if token_type_ids is None:
        token_type_ids = torch.zeros_like(input_ids)
    words = checkpoint["gau_alpha.embeddings.word_embeddings.weight"].double()
    token_types = checkpoint["gau_alpha.embeddings.token_type_embeddings.weight"].double()
    hidden_states = [norm(words[input_ids] + token_types[token_type_ids], eps)]
    attentions: list[Tensor] = []

    def layer_parameters(layer: int) -> dict[str, Tensor]:
        prefix = f"gau_alpha.encoder.layer.{layer}.gau."
        return {name.removeprefix(prefix): value for name, value in checkpoint.items() if name.startswith(prefix)}

    while parameters := layer_parameters(len(attentions)):
        output, weights = gated_attention_unit(
            hidden_states[-1],
            parameters,
            mask=attention_mask,
            normalization=normalization,
            max_position_embeddings=max_position_embeddings,
            eps=eps,
            hidden_act=hidden_act,
        )
        hidden_states.append(output)
        attentions.append(weights)
    logits = torch.einsum("bnd,vd->bnv", hidden_states[-1], checkpoint["cls.predictions.decoder.weight"].double())
    return logits, hidden_states, attentions


def random_checkpoint(
    *,
    vocab_size: int,
    hidden_size: int,
    num_hidden_layers: int,
    type_vocab_size: int = 2,
    expansion_factor: float = 2,
    s: int,
    seed: int,
) -> dict[str, Tensor]:
    """A float32 state dict with the published names, large enough that every term counts.

    Scores are spread over a few units, so the weights are far from even, and a unit adds about as much as it
    receives; at an ordinary initialisation a wrong sign or index could pass a tolerance.
    """
    if s % 2:
        raise ValueError(f"s must be even to be rotated in pairs, got {s}")
    generator = torch.Generator().manual_seed(seed)
    intermediate_size = int(hidden_size * expansion_factor)

    def normal(*shape: int, std: float) -> Tensor:
        return std * torch.randn(*shape, generator=generator)

    def gain() -> Tensor:
        # never near 0, and of either sign: z = silu(..) is mostly positive, so equal signs would give equal scores
        signs = torch.randint(0, 2, (s,), generator=generator) * 2 - 1
        return 3 * signs * (0.5 + torch.rand(s, generator=generator))

    prefix = "gau_alpha.embeddings."
    checkpoint = {
        f"{prefix}word_embeddings.weight": normal(vocab_size, hidden_size, std=hidden_size**-0.5),
        f"{prefix}token_type_embeddings.weight": normal(type_vocab_size, hidden_size, std=hidden_size**-0.5),
    }
    for layer in range(num_hidden_layers):
        prefix = f"gau_alpha.encoder.layer.{layer}.gau."
        in_shape = (2 * intermediate_size + s, hidden_size)
        checkpoint[f"{prefix}i_dense.weight"] = normal(*in_shape, std=hidden_size**-0.5)
        # u * (A v) is about 1/4: without the factor the residual would drown it
        checkpoint[f"{prefix}o_dense.weight"] = normal(hidden_size, intermediate_size, std=4 * intermediate_size**-0.5)
        checkpoint[f"{prefix}q_scaleoffset.weight"] = gain()
        checkpoint[f"{prefix}k_scaleoffset.weight"] = gain()
    # equal values in storage of their own: safetensors refuses to save two names of one tensor
    words = checkpoint["gau_alpha.embeddings.word_embeddings.weight"]
    checkpoint["cls.predictions.decoder.weight"] = words.clone()
    return checkpoint
