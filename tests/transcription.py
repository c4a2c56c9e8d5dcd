"""A second, literal writing-down of FLASH-Quad, for the tests to compare the library with.

It imports nothing from ``flash`` and was written without looking at its layers, so a mistake has to be made
twice to go unseen. Loops and float64 are on purpose: each function is one formula, computed the way it reads.
Everything is differentiable by autograd; a checkpoint of leaf tensors gives reference gradients too.

Axes: b batch, n positions, d model width, e gate and value width, s query and key width; L is
max_position_embeddings. A checkpoint is a flat dict with the key names of the earlier FLASHQuad_pytorch code;
the parameters of one unit are that dict cut to one layer (``layer_parameters``). A mask is (b, n), True or 1
where a token is real.
"""

import math

import torch
from torch import Tensor

# Above this many positions the earlier code took the rotary product for the bias and left `w` unused.
LONGEST_TOEPLITZ = 512

ACTIVATIONS = {
    "relu": lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "gelu": lambda x: x * (1 + torch.erf(x / math.sqrt(2))) / 2,
}


def scale_norm(x: Tensor, scala: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * scala, with one scalar for all channels."""
    return x / torch.sqrt((x * x).mean(dim=-1, keepdim=True) + eps) * scala


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias, the variance divided by d and not by d - 1."""
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred / torch.sqrt((centred * centred).mean(dim=-1, keepdim=True) + eps) * weight + bias


def apply_norm(x: Tensor, parameters: dict[str, Tensor], name: str, *, norm_type: str, eps: float) -> Tensor:
    """Norm `x` by the entries of `parameters` that start with `name`, here always some LayerNorm."""
    if norm_type == "scale_norm":
        return scale_norm(x, parameters[f"{name}.scala"].double(), eps)
    if norm_type == "layer_norm":
        return layer_norm(x, parameters[f"{name}.weight"].double(), parameters[f"{name}.bias"].double(), eps)
    raise ValueError(f"norm_type must be scale_norm or layer_norm, got {norm_type!r}")


def linear(x: Tensor, parameters: dict[str, Tensor], name: str) -> Tensor:
    """x W^T + b, with W stored as PyTorch stores it (outputs, inputs)."""
    product = torch.einsum("...i,oi->...o", x, parameters[f"{name}.weight"].double())
    return product + parameters[f"{name}.bias"].double()


def rotate(vector: Tensor, position: int) -> Tensor:
    """Rotate (..., s): channel k with channel k + s/2, by the angle position * 10000^(-k / (s/2))."""
    half = vector.shape[-1] // 2
    first, second = [], []
    for k in range(half):
        angle = position * 10000.0 ** (-k / half)
        x1, x2 = vector[..., k], vector[..., half + k]
        first.append(x1 * math.cos(angle) - x2 * math.sin(angle))
        second.append(x2 * math.cos(angle) + x1 * math.sin(angle))
    return torch.stack(first + second, dim=-1)


def rotate_by_position(x: Tensor) -> Tensor:
    """Rotate each vector of (b, n, s) by its own position 0..n-1."""
    return torch.stack([rotate(x[:, i], i) for i in range(x.shape[1])], dim=1)


def toeplitz_bias(w: Tensor, length: int, max_position_embeddings: int) -> Tensor:
    """bias[i, j] = w[j - i + L - 1], shape (length, length)."""
    if length > max_position_embeddings:
        # a negative index would silently read w from its other end
        raise ValueError(f"length {length} is above max_position_embeddings {max_position_embeddings}")
    rows = []
    for i in range(length):
        rows.append(torch.stack([w[j - i + max_position_embeddings - 1] for j in range(length)]))
    return torch.stack(rows)


def rotary_product_bias(a: Tensor, b: Tensor, length: int) -> Tensor:
    """bias[i, j] = rotate(a, i) . rotate(b, j), shape (length, length), from two vectors (s,)."""
    rotated_a = torch.stack([rotate(a, i) for i in range(length)])
    rotated_b = torch.stack([rotate(b, j) for j in range(length)])
    return torch.einsum("is,js->ij", rotated_a, rotated_b)


def relative_bias(parameters: dict[str, Tensor], length: int, max_position_embeddings: int) -> Tensor:
    """The bias (length, length) of one published unit; L, never the length, decides between the two forms."""
    if max_position_embeddings <= LONGEST_TOEPLITZ:
        return toeplitz_bias(parameters["w"].double(), length, max_position_embeddings)
    return rotary_product_bias(parameters["a"].double()[0], parameters["b"].double()[0], length)


def shift_tokens(h: Tensor, mask: Tensor, channels: int, *, causal: bool = False) -> Tensor:
    """Take the first `channels` of each token from the one before, the next `channels` from the one after.

    A neighbour that is padding or does not exist gives zeros. A causal unit never looks at the token after:
    its second group of channels stays in place. Shape of `h` and of the result: (b, n, d).
    """
    batch_size, length, hidden_size = h.shape
    if 2 * channels > hidden_size:
        raise ValueError(f"two groups of {channels} channels do not fit into {hidden_size}")
    zeros = torch.zeros(channels, dtype=h.dtype)
    rows = []
    for row in range(batch_size):
        for i in range(length):
            before = h[row, i - 1, :channels] if i > 0 and mask[row, i - 1] else zeros
            if causal:
                after = h[row, i, channels : 2 * channels]
            elif i + 1 < length and mask[row, i + 1]:
                after = h[row, i + 1, channels : 2 * channels]
            else:
                after = zeros
            rows.append(torch.cat([before, after, h[row, i, 2 * channels :]]))
    return torch.stack(rows).reshape(h.shape)


def attention_weights(
    query: Tensor, key: Tensor, bias: Tensor, mask: Tensor, *, score_scale: float, causal: bool = False
) -> Tensor:
    """A[i, j] = relu(q_i . k_j * score_scale + bias[i, j])^2 * mask_i * mask_j, shape (b, n, n)."""
    scores = torch.einsum("bis,bjs->bij", query, key) * score_scale + bias
    weights = ACTIVATIONS["relu"](scores) ** 2
    weights = weights * torch.einsum("bi,bj->bij", mask.double(), mask.double())
    if causal:
        length = bias.shape[0]
        weights = weights * torch.tensor([[float(j <= i) for j in range(length)] for i in range(length)])
    return weights


def gated_attention_unit(
    x: Tensor,
    parameters: dict[str, Tensor],
    *,
    mask: Tensor,
    bias: Tensor,
    score_scale: float,
    norm_type: str,
    eps: float = 1e-5,
    hidden_act: str = "silu",
    attention_output_norm: bool = False,
    token_shift_channels: int = 0,
    causal: bool = False,
) -> tuple[Tensor, Tensor]:
    """One unit: its output (b, n, d) and its attention weights (b, n, n).

        h = shift(norm(x));  u, v, z = split(act(h W_in + b_in), [e, e, s])
        q, k = rotate(z * gamma + beta);  out = x + (u * (A v)) W_out + b_out

    The defaults are the published unit. `attention_output_norm` divides A v by its root mean square over e
    (eps inside the root) and multiplies it with the gain `parameters["attention_output_norm.scale"]` (e,),
    before the gate u.

    Args:
        bias: (n, n), added to the scaled scores; zeros for a unit without one.
        score_scale: Factor on q . k; published checkpoints have 1 / max_position_embeddings.
    """
    x = x.double()
    h = apply_norm(x, parameters, "LayerNorm", norm_type=norm_type, eps=eps)
    h = shift_tokens(h, mask, token_shift_channels, causal=causal)
    projected = ACTIVATIONS[hidden_act](linear(h, parameters, "uv"))
    e = parameters["o.weight"].shape[1]
    gate, value, base = projected[..., :e], projected[..., e : 2 * e], projected[..., 2 * e :]

    gamma, beta = parameters["weight"].double(), parameters["bias"].double()  # (2, s): row 0 query, row 1 key
    query = rotate_by_position(base * gamma[0] + beta[0])
    key = rotate_by_position(base * gamma[1] + beta[1])
    weights = attention_weights(query, key, bias.double(), mask, score_scale=score_scale, causal=causal)

    attended = torch.einsum("bij,bje->bie", weights, value)
    if attention_output_norm:
        root_mean_square = torch.sqrt((attended * attended).mean(dim=-1, keepdim=True) + eps)
        attended = attended / root_mean_square * parameters["attention_output_norm.scale"].double()
    return x + linear(gate * attended, parameters, "o"), weights


def layer_parameters(checkpoint: dict[str, Tensor], layer: int) -> dict[str, Tensor]:
    """The entries of one unit, without `flash_quad.encoder.layer.N.`."""
    prefix = f"flash_quad.encoder.layer.{layer}."
    return {name.removeprefix(prefix): value for name, value in checkpoint.items() if name.startswith(prefix)}


def embed(
    checkpoint: dict[str, Tensor], input_ids: Tensor, token_type_ids: Tensor, *, norm_type: str, eps: float
) -> Tensor:
    """norm(word + token type + scaledsin_scalar * sinusoid of the positions 0..n-1), shape (b, n, d)."""
    prefix = "flash_quad.embeddings."
    words = checkpoint[f"{prefix}word_embeddings.weight"].double()[input_ids]
    token_types = checkpoint[f"{prefix}token_type_embeddings.weight"].double()[token_type_ids]
    positions = checkpoint[f"{prefix}position_ids"][0, : input_ids.shape[1]]
    sinusoid = checkpoint[f"{prefix}scaledsin_embeddings"].double()[positions]
    total = words + token_types + checkpoint[f"{prefix}scaledsin_scalar"].double() * sinusoid
    return apply_norm(total, checkpoint, f"{prefix}LayerNorm", norm_type=norm_type, eps=eps)


def masked_lm_head(
    checkpoint: dict[str, Tensor], hidden_states: Tensor, *, norm_type: str, eps: float, hidden_act: str
) -> Tensor:
    """Logits (b, n, vocabulary): dense, activation, norm, decoder."""
    transformed = ACTIVATIONS[hidden_act](linear(hidden_states, checkpoint, "cls.predictions.transform.dense"))
    name = "cls.predictions.transform.LayerNorm"
    transformed = apply_norm(transformed, checkpoint, name, norm_type=norm_type, eps=eps)
    return linear(transformed, checkpoint, "cls.predictions.decoder")


def masked_lm_logits(
    checkpoint: dict[str, Tensor],
    input_ids: Tensor,
    *,
    attention_mask: Tensor | None = None,
    token_type_ids: Tensor | None = None,
    max_position_embeddings: int,
    s: int,
    norm_type: str,
    eps: float = 1e-5,
    hidden_act: str = "silu",
    pad_token_id: int = 0,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Logits, hidden states and attention weights of a published checkpoint, in float64.

    The hidden states are the embeddings and then the output of each unit, (b, n, d); the attention weights
    are (b, n, n), one for each unit. The default mask is `input_ids != pad_token_id`, the token types all 0.
    """
    if attention_mask is None:
        attention_mask = input_ids != pad_token_id
    if token_type_ids is None:
        token_type_ids = torch.zeros_like(input_ids)
    length = input_ids.shape[1]
    hidden_states = [embed(checkpoint, input_ids, token_type_ids, norm_type=norm_type, eps=eps)]
    attentions: list[Tensor] = []
    while parameters := layer_parameters(checkpoint, len(attentions)):
        if parameters["weight"].shape != (2, s):
            raise ValueError(f"weight must be (2, {s}), got {tuple(parameters['weight'].shape)}")
        output, weights = gated_attention_unit(
            hidden_states[-1],
            parameters,
            mask=attention_mask,
            bias=relative_bias(parameters, length, max_position_embeddings),
            score_scale=1 / max_position_embeddings,
            norm_type=norm_type,
            eps=eps,
            hidden_act=hidden_act,
        )
        hidden_states.append(output)
        attentions.append(weights)
    logits = masked_lm_head(checkpoint, hidden_states[-1], norm_type=norm_type, eps=eps, hidden_act=hidden_act)
    return logits, hidden_states, attentions


def sinusoid_table(max_position_embeddings: int, hidden_size: int) -> Tensor:
    """sin(p * 10000^(-k / (d/2))) in the first half of the channels, cos in the second; (L, d), float64."""
    half = hidden_size // 2
    table = []
    for position in range(max_position_embeddings):
        angles = [position * 10000.0 ** (-k / half) for k in range(half)]
        table.append([math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles])
    return torch.tensor(table, dtype=torch.float64)


def random_checkpoint(
    *,
    vocab_size: int,
    hidden_size: int,
    num_hidden_layers: int,
    max_position_embeddings: int,
    type_vocab_size: int = 2,
    expansion_factor: float = 2,
    s: int,
    norm_type: str = "scale_norm",
    seed: int,
) -> dict[str, Tensor]:
    """A float32 state dict as the earlier FLASHQuadForMaskedLM saved it, large enough that every term counts.

    At the earlier initialisation (all ~ 0.02) a unit barely changes its input, so a wrong sign or index in it
    could pass a tolerance. Here scores and bias are of one size and a unit adds about as much as it receives.
    """
    if hidden_size % 2 or s % 2:
        raise ValueError(f"hidden_size and s must be even to be halved, got {hidden_size} and {s}")
    generator = torch.Generator().manual_seed(seed)
    intermediate_size = int(hidden_size * expansion_factor)
    checkpoint: dict[str, Tensor] = {}

    def normal(*shape: int, std: float) -> Tensor:
        return std * torch.randn(*shape, generator=generator)

    def either_sign(*shape: int, size: float) -> Tensor:
        # never near 0: with few channels a product of normal numbers is too often next to nothing
        signs = torch.randint(0, 2, shape, generator=generator) * 2 - 1
        return size * signs * (0.5 + torch.rand(*shape, generator=generator))

    def gain(size: int) -> Tensor:
        return 0.8 + 0.4 * torch.rand(size, generator=generator)

    def add_norm(name: str) -> None:
        if norm_type == "scale_norm":
            checkpoint[f"{name}.scala"] = gain(1)
        elif norm_type == "layer_norm":
            checkpoint[f"{name}.weight"] = gain(hidden_size)
            checkpoint[f"{name}.bias"] = normal(hidden_size, std=0.2)
        else:
            raise ValueError(f"norm_type must be scale_norm or layer_norm, got {norm_type!r}")

    def add_linear(name: str, outputs: int, inputs: int) -> None:
        checkpoint[f"{name}.weight"] = normal(outputs, inputs, std=inputs**-0.5)
        checkpoint[f"{name}.bias"] = normal(outputs, std=0.3)

    prefix = "flash_quad.embeddings."
    embedding_std = hidden_size**-0.5  # logits ~ 1 through the tied decoder, and all three embeddings alike
    checkpoint[f"{prefix}position_ids"] = torch.arange(max_position_embeddings)[None]
    checkpoint[f"{prefix}scaledsin_embeddings"] = sinusoid_table(max_position_embeddings, hidden_size).float()
    checkpoint[f"{prefix}scaledsin_scalar"] = embedding_std * gain(1)
    checkpoint[f"{prefix}word_embeddings.weight"] = normal(vocab_size, hidden_size, std=embedding_std)
    checkpoint[f"{prefix}token_type_embeddings.weight"] = normal(type_vocab_size, hidden_size, std=embedding_std)
    add_norm(f"{prefix}LayerNorm")

    # a score sums s products of two gammas and is divided by L: so it has about the size of w at any L
    gamma = (max_position_embeddings / s) ** 0.5
    for layer in range(num_hidden_layers):
        prefix = f"flash_quad.encoder.layer.{layer}."
        checkpoint[f"{prefix}weight"] = either_sign(2, s, size=gamma)
        checkpoint[f"{prefix}bias"] = normal(2, s, std=0.3 * gamma)
        checkpoint[f"{prefix}w"] = either_sign(2 * max_position_embeddings - 1, size=0.5)
        # b is nearly a turned by 90 degrees, so their product takes both signs at short distances too; with
        # independent vectors it often has one sign for all pairs, and relu keeps all or nothing
        a = either_sign(1, s, size=2 / s**0.5)
        quarter_turn = torch.cat([-a[:, s // 2 :], a[:, : s // 2]], dim=-1)
        checkpoint[f"{prefix}a"] = a
        checkpoint[f"{prefix}b"] = quarter_turn + normal(1, s, std=0.3 * s**-0.5)
        add_linear(f"{prefix}uv", 2 * intermediate_size + s, hidden_size)
        add_linear(f"{prefix}o", hidden_size, intermediate_size)
        add_norm(f"{prefix}LayerNorm")

    prefix = "cls.predictions."
    add_linear(f"{prefix}transform.dense", hidden_size, hidden_size)
    add_norm(f"{prefix}transform.LayerNorm")
    checkpoint[f"{prefix}bias"] = normal(vocab_size, std=0.3)
    # equal values in storage of their own: safetensors refuses to save two names of one tensor
    checkpoint[f"{prefix}decoder.weight"] = checkpoint["flash_quad.embeddings.word_embeddings.weight"].clone()
    checkpoint[f"{prefix}decoder.bias"] = checkpoint[f"{prefix}bias"].clone()
    return checkpoint
