"""A second, literal writing-down of the configurable gated attention unit, for the tests to compare the library with.

As ``transcription``, of which this is the continuation, it imports nothing from ``flash`` and was written without
looking at its operations, layers and models. Loops and float64 are on purpose; autograd gives reference gradients.

Axes: b batch, n positions, d model width, e gate and value width, s query and key width. The parameters of a unit
are a flat dict with our own names, as ``dict(unit.named_parameters())`` has them: ``norm.scale``, ``norm.weight`` or
``norm.weight`` and ``norm.bias``; ``in_proj.{weight,bias}`` (rows u, v, z); ``offset_scale.{gain,offset}`` (a row
for each copy of z); ``relative_bias.weight``, or ``relative_bias.{left,right}``; ``attention_norm.weight``;
``out_proj.{weight,bias}``. A mask is (b, n), True or 1 where a token is real; ``segments`` is (b, n), one integer for
the tokens of one packed sequence, None where each row is one sequence.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from transcription import ACTIVATIONS, layer_norm, linear, rotary_product_bias, rotate_by_position, scale_norm

SMALLEST_ROW_SUM = 1e-12


def same_segment(segments: Tensor | None, row: int, i: int, j: int) -> bool:
    """Whether positions i and j of a row belong to one packed sequence."""
    return segments is None or bool(segments[row, i] == segments[row, j])


def visible(mask: Tensor, causal: bool = False, segments: Tensor | None = None) -> Tensor:
    """Whether query i sees key j, (b, n, n): both real, of one sequence and, if causal, j <= i."""
    batch_size, length = mask.shape
    seen = torch.zeros(batch_size, length, length, dtype=torch.bool)
    for row in range(batch_size):
        for i in range(length):
            for j in range(length):
                real = bool(mask[row, i]) and bool(mask[row, j])
                seen[row, i, j] = real and same_segment(segments, row, i, j) and (j <= i or not causal)
    return seen


def laplace(x: Tensor) -> Tensor:
    """(1 + erf((x - mu) / (sigma sqrt(2)))) / 2 with mu = sqrt(1/2), sigma = sqrt(1 / (4 pi)); arXiv 2209.10655."""
    mu, sigma = math.sqrt(1 / 2), math.sqrt(1 / (4 * math.pi))
    return (1 + torch.erf((x - mu) / (sigma * math.sqrt(2)))) / 2


def softmax(x: Tensor) -> Tensor:
    """exp(x_j) / sum_k exp(x_k) over a vector."""
    powers = torch.exp(x - x.max().detach())  # the same quotient, without overflow
    return powers / powers.sum()


ELEMENTWISE = {"squared_relu": lambda x: ACTIVATIONS["relu"](x) ** 2, "laplace": laplace}


def weights_of_one_query(
    dots: Tensor,
    bias: Tensor,
    *,
    attention_function: str,
    score_scale: str,
    score_divisor: str,
    length: int,
    key_dim: int,
) -> Tensor:
    """The weights of the N >= 1 keys that a query sees, from their dot products with it and their biases, both (N,)."""
    count = len(dots)
    if attention_function in ("softmax", "entropy_softmax"):
        if (score_scale, score_divisor) != ("inverse_sqrt_dim", "constant"):
            raise ValueError(
                f"{attention_function} needs inverse_sqrt_dim and constant, got {score_scale} and {score_divisor}"
            )
        factor = 1.0 if attention_function == "softmax" else math.log(count) / math.log(length)
        return softmax(factor * dots / math.sqrt(key_dim) + bias)

    function = ELEMENTWISE[attention_function]
    divisor = {"constant": length, "true_length": count, "row_sum": length}[score_divisor]
    if score_scale == "inverse_length":
        weights = function(dots / divisor + bias)
    elif score_scale == "inverse_sqrt_dim":
        weights = function(dots / math.sqrt(key_dim) + bias)
        if score_divisor != "row_sum":
            weights = weights / divisor
    else:
        raise ValueError(f"score_scale must be inverse_length or inverse_sqrt_dim, got {score_scale!r}")
    if score_divisor == "row_sum":
        total = weights.sum()
        weights = weights / (total if total > SMALLEST_ROW_SUM else SMALLEST_ROW_SUM)
    return weights


def weights(
    query: Tensor,
    key: Tensor,
    bias: Tensor,
    visible: Tensor,
    *,
    attention_function: str,
    score_scale: str,
    score_divisor: str,
    length: int,
) -> Tensor:
    """A[i, j] of (b, n, n), 0 where query i does not see key j; N is the number of keys that i sees.

        squared_relu, laplace, with f(x) = relu(x)^2 or laplace(x):
            inverse_length     f(q_i . k_j / length + bias[i, j])
            inverse_sqrt_dim   f(q_i . k_j / sqrt(s) + bias[i, j]) / length
            true_length        the same with N for the length
            row_sum            without the divisor outside f, but each row divided by max(its sum, 1e-12)
        softmax                over the j that i sees of q_i . k_j / sqrt(s) + bias[i, j]
        entropy_softmax        the same with log(N) / log(length) as a factor on the dot products

    Args:
        query: (b, n, s), as `key`.
        bias: (n, n).
        visible: (b, n, n), see the function of that name.
        length: max_position_embeddings, or the length of a chunk.
    """
    rows = []
    for row in range(query.shape[0]):
        for i in range(query.shape[1]):
            seen = visible[row, i].nonzero()[:, 0]
            row_of_weights = torch.zeros(key.shape[1], dtype=torch.float64)
            if len(seen) > 0:
                row_of_weights[seen] = weights_of_one_query(
                    torch.stack([(query[row, i] * key[row, j]).sum() for j in seen]),
                    bias[i, seen],
                    attention_function=attention_function,
                    score_scale=score_scale,
                    score_divisor=score_divisor,
                    length=length,
                    key_dim=query.shape[-1],
                )
            rows.append(row_of_weights)
    return torch.stack(rows).reshape(visible.shape)


def bucket(distance: int, *, buckets: int, max_distance: int, causal: bool) -> int:
    """The bucket of the distance j - i, after T5 (arXiv 1910.10683).

    Both ways: the lower half of the buckets is for j <= i, the upper half for j > i. Causal: all are for j <= i, and
    j > i shares the bucket of distance 0. Of the B buckets of a side the first E = B // 2 hold one distance each; of
    a distance D >= E the bucket is E + floor(log(D / E) / log(max_distance / E) * (B - E)), at most B - 1.
    """
    start = 0
    if causal:
        distance = max(-distance, 0)
    else:
        buckets //= 2
        start = buckets if distance > 0 else 0
        distance = abs(distance)
    exact = buckets // 2
    if exact < 1 or max_distance <= exact:
        raise ValueError(f"{buckets} buckets a side do not divide the distances up to {max_distance}")
    if distance < exact:
        return start + distance
    # the largest step that the logarithm reaches, in whole numbers: a rounded logarithm may fall short of it
    coarse, step = buckets - exact, 0
    while step + 1 < coarse and distance**coarse >= max_distance ** (step + 1) * exact ** (coarse - step - 1):
        step += 1
    return start + exact + step


def bucketed_bias(weight: Tensor, length: int, *, buckets: int, max_distance: int, causal: bool) -> Tensor:
    """bias[i, j] = weight[bucket(j - i)], shape (length, length), from a weight (buckets,)."""
    rows = []
    for i in range(length):
        chosen = [bucket(j - i, buckets=buckets, max_distance=max_distance, causal=causal) for j in range(length)]
        rows.append(torch.stack([weight[index] for index in chosen]))
    return torch.stack(rows)


def clipped_toeplitz_bias(weight: Tensor, length: int) -> Tensor:
    """bias[i, j] = weight[clip(j - i, -(M - 1), M - 1) + M - 1], shape (length, length), from a weight (2M - 1,)."""
    farthest = weight.shape[0] // 2  # M - 1
    rows = []
    for i in range(length):
        clipped = [max(-farthest, min(farthest, j - i)) for j in range(length)]
        rows.append(torch.stack([weight[distance + farthest] for distance in clipped]))
    return torch.stack(rows)


def relative_bias(
    parameters: dict[str, Tensor], kind: str, length: int, *, max_distance: int = 128, causal: bool = False
) -> Tensor:
    """The bias (length, length) of one unit; `kind` is toeplitz, rotary_product, bucketed or none."""
    if kind == "none":
        return torch.zeros(length, length, dtype=torch.float64)
    if kind == "rotary_product":
        left, right = (parameters[f"relative_bias.{side}"].double().flatten() for side in ("left", "right"))
        return rotary_product_bias(left, right, length)
    weight = parameters["relative_bias.weight"].double().flatten()
    if kind == "toeplitz":
        return clipped_toeplitz_bias(weight, length)
    if kind == "bucketed":
        return bucketed_bias(weight, length, buckets=len(weight), max_distance=max_distance, causal=causal)
    raise ValueError(f"kind must be toeplitz, rotary_product, bucketed or none, got {kind!r}")


def neighbour(h: Tensor, mask: Tensor, segments: Tensor | None, row: int, i: int, j: int) -> Tensor:
    """The token at j as the one at i meets it, (d,): zeros if it is missing, padding or of another sequence."""
    if 0 <= j < h.shape[1] and mask[row, j] and same_segment(segments, row, i, j):
        return h[row, j]
    return torch.zeros(h.shape[2], dtype=h.dtype)


def shift(h: Tensor, mask: Tensor, channels: int, *, causal: bool = False, segments: Tensor | None = None) -> Tensor:
    """Take the first `channels` of each token from the one before and, unless causal, the next from the one after.

    All other channels stay. Shape of `h` and of the result: (b, n, d).
    """
    batch_size, length, hidden_size = h.shape
    if 2 * channels > hidden_size:
        raise ValueError(f"two groups of {channels} channels do not fit into {hidden_size}")
    first, second, rest = slice(0, channels), slice(channels, 2 * channels), slice(2 * channels, hidden_size)
    shifted = []
    for row in range(batch_size):
        for i in range(length):
            before = neighbour(h, mask, segments, row, i, i - 1)
            after = h[row, i] if causal else neighbour(h, mask, segments, row, i, i + 1)
            shifted.append(torch.cat([before[first], after[second], h[row, i, rest]]))
    return torch.stack(shifted).reshape(h.shape)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight, with one gain for each channel."""
    return x / torch.sqrt((x * x).mean(dim=-1, keepdim=True) + eps) * weight


def norm(x: Tensor, parameters: dict[str, Tensor], name: str, *, norm_type: str, eps: float) -> Tensor:
    """Norm `x` by the entries of `parameters` that start with `name`."""
    if norm_type == "scale_norm":
        return scale_norm(x, parameters[f"{name}.scale"].double(), eps)
    weight = parameters[f"{name}.weight"].double()
    if norm_type == "rms_norm":
        return rms_norm(x, weight, eps)
    if norm_type == "layer_norm":
        return layer_norm(x, weight, parameters[f"{name}.bias"].double(), eps)
    raise ValueError(f"norm_type must be scale_norm, rms_norm or layer_norm, got {norm_type!r}")


def gated_unit(
    x: Tensor,
    parameters: dict[str, Tensor],
    attention: Callable[..., Sequence[Tensor]],
    *,
    mask: Tensor,
    segments: Tensor | None = None,
    causal: bool = False,
    norm_position: str = "pre",
    norm_type: str = "scale_norm",
    eps: float = 1e-5,
    hidden_act: str = "silu",
    attention_norm: bool = False,
    attention_norm_eps: float | None = None,
    rotary: bool = True,
    token_shift_channels: int = 0,
) -> tuple[Tensor, Sequence[Tensor]]:
    """A gated unit around any attention: its output (b, n, d) and what `attention` returned.

        pre    h = shift(norm(x));  out = x + (u * att) W_out + b_out
        post   h = shift(x);        out = norm(x + (u * att) W_out + b_out)
        u, v, z = split(act(h W_in + b_in), [e, e, s]);  copy_k = rotate(z * gain[k] + offset[k])
        att[i] = sum_j A[i, j] v[j];  with attention_norm then RMSNorm over e (its eps may be its own)

    Args:
        attention: Takes the copies of z, each (b, n, s), and returns matrices (b, n, n) whose sum is A.
    """
    if norm_position not in ("pre", "post"):
        raise ValueError(f"norm_position must be pre or post, got {norm_position!r}")
    x = x.double()
    h = norm(x, parameters, "norm", norm_type=norm_type, eps=eps) if norm_position == "pre" else x
    h = shift(h, mask, token_shift_channels, causal=causal, segments=segments)
    projected = ACTIVATIONS[hidden_act](linear(h, parameters, "in_proj"))
    e = parameters["out_proj.weight"].shape[1]
    gate, value, base = projected[..., :e], projected[..., e : 2 * e], projected[..., 2 * e :]

    copies = []
    for gain, offset in zip(parameters["offset_scale.gain"], parameters["offset_scale.offset"], strict=True):
        copy = base * gain.double() + offset.double()
        copies.append(rotate_by_position(copy) if rotary else copy)
    matrices = attention(*copies)

    attended = torch.einsum("bij,bje->bie", sum(matrices), value)
    if attention_norm:
        own_eps = eps if attention_norm_eps is None else attention_norm_eps
        attended = rms_norm(attended, parameters["attention_norm.weight"].double(), own_eps)
    output = x + linear(gate * attended, parameters, "out_proj")
    if norm_position == "post":
        output = norm(output, parameters, "norm", norm_type=norm_type, eps=eps)
    return output, matrices


def unit(
    x: Tensor,
    parameters: dict[str, Tensor],
    *,
    mask: Tensor,
    segments: Tensor | None = None,
    bias: Tensor,
    length: int,
    attention_function: str = "squared_relu",
    score_scale: str = "inverse_length",
    score_divisor: str = "constant",
    causal: bool = False,
    **form: Any,
) -> tuple[Tensor, Tensor]:
    """One FLASH-Quad unit: its output (b, n, d) and its attention weights (b, n, n).

    The defaults are the published unit.

    Args:
        bias: (n, n), see `relative_bias`.
        length: max_position_embeddings.
        form: Norms, activation, rotary and token shift, see `gated_unit`.
    """

    def attention(query: Tensor, key: Tensor) -> list[Tensor]:
        options = {"attention_function": attention_function, "score_scale": score_scale}
        options |= {"score_divisor": score_divisor}
        return [weights(query, key, bias.double(), visible(mask, causal, segments), length=length, **options)]

    output, (matrix,) = gated_unit(x, parameters, attention, mask=mask, segments=segments, causal=causal, **form)
    return output, matrix
