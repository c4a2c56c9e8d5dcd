import math

import pytest
import torch
import torch.nn.functional as F

from transcription import (
    ACTIVATIONS,
    embed,
    gated_attention_unit,
    layer_norm,
    layer_parameters,
    masked_lm_logits,
    random_checkpoint,
    relative_bias,
    rotary_product_bias,
    rotate,
    shift_tokens,
    sinusoid_table,
    toeplitz_bias,
)

EXACT = {"rtol": 0, "atol": 1e-12}
VOCABULARY = 20
# on both sides of the 512 where the earlier code changes its bias
TOEPLITZ_POSITIONS, ROTARY_POSITIONS = 16, 513


def small_checkpoint(*, positions=TOEPLITZ_POSITIONS, seed=0, **options):
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2, "s": 8}
    return random_checkpoint(max_position_embeddings=positions, seed=seed, **(sizes | options))


def run(checkpoint, input_ids, *, positions=TOEPLITZ_POSITIONS, s=8, norm_type="scale_norm", **options):
    options |= {"max_position_embeddings": positions, "s": s, "norm_type": norm_type}
    return masked_lm_logits(checkpoint, input_ids, **options)


def random_tokens(*shape, seed=0):
    return torch.randint(1, VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def random_unit(*, length, batch_size=2, hidden_size=8, s=4, seed=0):
    """Input, parameters (with the gain of the norm on A v), a full mask and a Toeplitz bias, all float64."""
    checkpoint = small_checkpoint(hidden_size=hidden_size, s=s, seed=seed)
    parameters = {name: value.double() for name, value in layer_parameters(checkpoint, 0).items()}
    parameters["attention_output_norm.scale"] = 1 + 0.3 * normal(2 * hidden_size, seed=seed)
    x = normal(batch_size, length, hidden_size, seed=seed)
    bias = toeplitz_bias(parameters["w"], length, TOEPLITZ_POSITIONS)
    return x, parameters, torch.ones(batch_size, length, dtype=torch.bool), bias


PUBLISHED = {"score_scale": 1 / TOEPLITZ_POSITIONS, "norm_type": "scale_norm"}
CURED = PUBLISHED | {"attention_output_norm": True, "token_shift_channels": 2}


@pytest.fixture(params=[PUBLISHED, CURED], ids=["published", "cured"])
def options(request):
    return request.param


def test_activations_and_layer_norm_are_those_of_pytorch():
    x = torch.linspace(-5, 5, 42, dtype=torch.float64).reshape(7, 6)
    for name, activation in ACTIVATIONS.items():
        torch.testing.assert_close(activation(x), getattr(F, name)(x), **EXACT)
    weight, bias = normal(2, 6)
    expected = F.layer_norm(x, (6,), weight, bias, eps=1e-3)
    torch.testing.assert_close(layer_norm(x, weight, bias, eps=1e-3), expected, **EXACT)


def test_toeplitz_bias_reads_w_from_lower_left_to_upper_right():
    w = torch.arange(5.0)
    assert toeplitz_bias(w, 3, 3).tolist() == [[2, 3, 4], [1, 2, 3], [0, 1, 2]]
    assert toeplitz_bias(w, 2, 3).tolist() == [[2, 3], [1, 2]]


@pytest.mark.parametrize("position", [0, 1, 7, 500])
def test_rotation_is_a_complex_product(position):
    vector = normal(6)
    angles = position * 10000.0 ** (-torch.arange(3, dtype=torch.float64) / 3)
    turned = torch.complex(vector[:3], vector[3:]) * torch.exp(1j * angles)
    torch.testing.assert_close(rotate(vector, position), torch.cat([turned.real, turned.imag]), **EXACT)


def test_rotary_product_bias_depends_on_the_signed_distance_alone():
    a, b = normal(2, 8)
    bias = rotary_product_bias(a, b, 6)
    torch.testing.assert_close(bias[1:, 1:], bias[:-1, :-1], **EXACT)
    torch.testing.assert_close(bias[0, 0], a @ b, **EXACT)
    # one pair of channels, a = (1, 0) and b = (0, 1): (cos i, sin i) . (-sin j, cos j)
    bias = rotary_product_bias(*torch.eye(2, dtype=torch.float64), 3)
    torch.testing.assert_close(bias[2], torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64).sin(), **EXACT)


@pytest.mark.parametrize(("positions", "used"), [(512, {"w"}), (513, {"a", "b"})])
def test_max_position_embeddings_and_not_the_length_chooses_the_bias(positions, used):
    checkpoint = small_checkpoint(positions=positions)
    parameters = {name: value.requires_grad_() for name, value in layer_parameters(checkpoint, 0).items()}
    relative_bias(parameters, 3, positions).sum().backward()
    assert {name for name, value in parameters.items() if value.grad is not None} == used


def test_sinusoid_has_sines_before_cosines():
    table = sinusoid_table(3, 4)
    expected = [math.sin(2), math.sin(2 / 100), math.cos(2), math.cos(2 / 100)]
    torch.testing.assert_close(table[2], torch.tensor(expected, dtype=torch.float64), **EXACT)


def test_embeddings_add_word_type_and_scaled_position_then_norm():
    checkpoint = small_checkpoint()
    names = ["word_embeddings.weight", "token_type_embeddings.weight", "LayerNorm.scala"]
    names += ["scaledsin_scalar", "scaledsin_embeddings"]
    values = [checkpoint[f"flash_quad.embeddings.{name}"].double() for name in names]
    word, token_type, gain, scalar, table = values
    total = word[7] + token_type[1] + scalar * table[2]
    expected = gain * total / (total.square().mean() + 1e-5).sqrt()
    input_ids, token_type_ids = torch.tensor([[3, 4, 7]]), torch.tensor([[0, 0, 1]])
    embedded = embed(checkpoint, input_ids, token_type_ids, norm_type="scale_norm", eps=1e-5)
    torch.testing.assert_close(embedded[0, 2], expected, **EXACT)


# d = 2, e = 1, s = 2; ScaleNorm leaves the input alone when eps is 0
TWO_TOKENS = torch.tensor([[[1.0, 1.0], [1.0, -1.0]]], dtype=torch.float64)
TWO_TOKEN_UNIT = {
    "LayerNorm.scala": torch.ones(1),
    "uv.weight": torch.tensor([[1.0, 0.0], [2.0, 1.0], [1.0, 0.0], [0.0, 1.0]]),  # u, v, z
    "uv.bias": torch.tensor([1.0, 0.0, 0.0, 0.0]),
    "weight": torch.tensor([[1.0, 1.0], [1.0, 2.0]]),
    "bias": torch.tensor([[0.0, 0.0], [0.0, 1.0]]),
    "o.weight": torch.tensor([[1.0], [-1.0]]),
    "o.bias": torch.tensor([0.0, 0.5]),
}


def run_two_tokens(bias, **changes):
    return gated_attention_unit(
        TWO_TOKENS,
        TWO_TOKEN_UNIT | changes,
        mask=torch.ones(1, 2),
        bias=bias,
        score_scale=1 / 4,
        norm_type="scale_norm",
        eps=0.0,
        hidden_act="relu",
        attention_output_norm="attention_output_norm.scale" in changes,
    )


def test_two_tokens_by_hand():
    w = torch.tensor([9.0, 9.0, 0.25, 0.5, -0.6, 9.0, 9.0], dtype=torch.float64)  # L = 4, so w[3] is j = i
    output, weights = run_two_tokens(toeplitz_bias(w, 2, 4))
    # h = x; u = 2, 2; v = 3, 1; z = (1, 1), (1, 0); q = (1, 1), (1, 0); k = (1, 3), (1, 1);
    # position 1 turns by 1 rad: q = (1, 1), (cos, sin); k = (1, 3), (cos - sin, cos + sin)
    cos, sin = math.cos(1), math.sin(1)
    assert 2 * cos / 4 - 0.6 < 0  # the score of the pair (0, 1), so its weight is 0
    expected = [[(4 / 4 + 0.5) ** 2, 0.0], [((cos + 3 * sin) / 4 + 0.25) ** 2, (1 / 4 + 0.5) ** 2]]
    torch.testing.assert_close(weights[0], torch.tensor(expected, dtype=torch.float64), **EXACT)
    first, second = (2 * (3 * row[0] + 1 * row[1]) for row in expected)
    expected_output = [[1 + first, 1 - first + 0.5], [1 + second, -1 - second + 0.5]]
    torch.testing.assert_close(output[0], torch.tensor(expected_output, dtype=torch.float64), **EXACT)


def test_attention_output_norm_divides_by_the_root_mean_square_and_applies_the_gain():
    output, _ = run_two_tokens(
        torch.full((2, 2), 0.5),
        **{
            "uv.weight": torch.zeros(6, 2),
            # e = 2; every token has u = (1, 5), v = (3, 4), z = (1, 1)
            "uv.bias": torch.tensor([1.0, 5.0, 3.0, 4.0, 1.0, 1.0]),
            "o.weight": torch.eye(2),
            "o.bias": torch.zeros(2),
            "attention_output_norm.scale": torch.tensor([2.0, 7.0]),
        },
    )
    # A v is a multiple of (3, 4), whose mean square is 12.5
    expected = torch.tensor([1 * 2 * 3, 5 * 7 * 4], dtype=torch.float64) / math.sqrt(12.5)
    torch.testing.assert_close(output - TWO_TOKENS, expected.expand(1, 2, 2), **EXACT)


def test_token_shift_takes_from_both_neighbours():
    h = torch.tensor([[[1, 10, 100], [2, 20, 200], [3, 30, 300], [4, 40, 400]]], dtype=torch.float64)
    mask = torch.tensor([[True, True, True, False]])
    assert shift_tokens(h, mask, 1)[0, :3].tolist() == [[0, 20, 100], [1, 30, 200], [2, 0, 300]]
    assert shift_tokens(h, mask, 1, causal=True)[0, :3].tolist() == [[0, 10, 100], [1, 20, 200], [2, 30, 300]]
    assert torch.equal(shift_tokens(h, mask, 0), h)


def test_attention_output_norm_cancels_the_size_of_the_weights():
    x, parameters, mask, bias = random_unit(length=5)
    options = {"mask": mask, "norm_type": "scale_norm", "eps": 1e-30, "attention_output_norm": True}
    plain, weights = gated_attention_unit(x, parameters, bias=bias, score_scale=0.1, **options)
    scaled, large_weights = gated_attention_unit(x, parameters, bias=3 * bias, score_scale=0.3, **options)
    torch.testing.assert_close(large_weights, 9 * weights, **EXACT)
    torch.testing.assert_close(scaled, plain, **EXACT)


def test_padding_on_either_side_changes_no_real_token(options):
    x, parameters, mask, bias = random_unit(length=5)
    alone, _ = gated_attention_unit(x, parameters, mask=mask, bias=bias, **options)
    left, right = 100 * torch.ones(2, 2, 8), -50 * torch.ones(2, 3, 8)
    padded = torch.cat([left, x, right], dim=1)
    padded_mask = torch.tensor([[False] * 2 + [True] * 5 + [False] * 3] * 2)
    padded_bias = toeplitz_bias(parameters["w"], 10, TOEPLITZ_POSITIONS)
    output, weights = gated_attention_unit(padded, parameters, mask=padded_mask, bias=padded_bias, **options)
    torch.testing.assert_close(output[:, 2:7], alone, **EXACT)
    assert weights[:, 2:7, 2:7].count_nonzero() == weights.count_nonzero() > 0


def test_padding_itself_receives_the_output_bias_alone(options):
    x, parameters, mask, bias = random_unit(length=4)
    mask[:, 3] = False
    output, _ = gated_attention_unit(x, parameters, mask=mask, bias=bias, **options)
    torch.testing.assert_close(output[:, 3], x[:, 3] + parameters["o.bias"], **EXACT)


def test_a_causal_unit_ignores_what_comes_after(options):
    x, parameters, mask, bias = random_unit(length=6)
    changed = x.clone()
    changed[:, 4:] += 1.0
    before, weights = gated_attention_unit(x, parameters, mask=mask, bias=bias, causal=True, **options)
    after, _ = gated_attention_unit(changed, parameters, mask=mask, bias=bias, causal=True, **options)
    torch.testing.assert_close(after[:, :4], before[:, :4], **EXACT)
    assert weights.diagonal(dim1=1, dim2=2).any()  # but not itself
    both_ways, _ = gated_attention_unit(changed, parameters, mask=mask, bias=bias, **options)
    assert (both_ways[:, :4] - before[:, :4]).abs().max() > 1e-2


@pytest.mark.parametrize("causal", [False, True], ids=["both ways", "causal"])
def test_autograd_agrees_with_finite_differences_in_the_unit(options, causal):
    x, parameters, mask, bias = random_unit(length=3, batch_size=1, hidden_size=4, s=2)
    mask[0, 2] = False
    names = [name for name in parameters if name not in {"w", "a", "b"}]  # the bias is an argument here

    def unit(x, bias, *values):
        chosen = parameters | dict(zip(names, values, strict=True))
        return gated_attention_unit(x, chosen, mask=mask, bias=bias, causal=causal, **options)

    inputs = [value.requires_grad_() for value in (x, bias, *(parameters[name] for name in names))]
    assert torch.autograd.gradcheck(unit, inputs)


@pytest.mark.parametrize(("norm_type", "parts"), [("scale_norm", {"scala"}), ("layer_norm", {"weight", "bias"})])
def test_checkpoint_has_the_names_and_shapes_of_the_earlier_code(norm_type, parts):
    checkpoint = small_checkpoint(
        positions=5, norm_type=norm_type, vocab_size=11, hidden_size=6, type_vocab_size=3, s=4
    )
    embeddings, head = "flash_quad.embeddings.", "cls.predictions."
    expected = {
        embeddings + "word_embeddings.weight": (11, 6),
        embeddings + "token_type_embeddings.weight": (3, 6),
        embeddings + "scaledsin_scalar": (1,),
        embeddings + "position_ids": (1, 5),
        embeddings + "scaledsin_embeddings": (5, 6),
        head + "transform.dense.weight": (6, 6),
        head + "transform.dense.bias": (6,),
        head + "decoder.weight": (11, 6),
        head + "decoder.bias": (11,),
        head + "bias": (11,),
    }
    norms = [embeddings, head + "transform."]
    for layer in range(2):
        prefix = f"flash_quad.encoder.layer.{layer}."
        expected |= {prefix + name: (2, 4) for name in ("weight", "bias")}
        expected |= {prefix + "w": (9,), prefix + "a": (1, 4), prefix + "b": (1, 4)}
        expected |= {prefix + "uv.weight": (28, 6), prefix + "uv.bias": (28,)}
        expected |= {prefix + "o.weight": (6, 12), prefix + "o.bias": (6,)}
        norms.append(prefix)
    size = (1,) if norm_type == "scale_norm" else (6,)
    expected |= {f"{norm}LayerNorm.{part}": size for norm in norms for part in parts}

    assert {name: tuple(value.shape) for name, value in checkpoint.items()} == expected
    position_ids = checkpoint.pop(embeddings + "position_ids")
    assert position_ids.dtype == torch.int64
    assert position_ids.tolist() == [[0, 1, 2, 3, 4]]
    assert {value.dtype for value in checkpoint.values()} == {torch.float32}
    assert torch.equal(checkpoint[head + "decoder.weight"], checkpoint[embeddings + "word_embeddings.weight"])
    assert torch.equal(checkpoint[head + "decoder.bias"], checkpoint[head + "bias"])


def test_the_seed_decides_the_checkpoint():
    first, same, other = small_checkpoint(seed=3), small_checkpoint(seed=3), small_checkpoint(seed=4)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["cls.predictions.bias"], other["cls.predictions.bias"])


@pytest.mark.parametrize("norm_type", ["scale_norm", "layer_norm"])
@pytest.mark.parametrize("positions", [TOEPLITZ_POSITIONS, ROTARY_POSITIONS])
def test_every_entry_of_a_random_checkpoint_matters(positions, norm_type):
    checkpoint = small_checkpoint(positions=positions, norm_type=norm_type, num_hidden_layers=1)
    options = {"positions": positions, "norm_type": norm_type, "token_type_ids": torch.tensor([[0, 0, 0, 1, 1]])}
    input_ids = random_tokens(1, 5)
    logits, _, _ = run(checkpoint, input_ids, **options)
    unmoved = set()
    for name, value in checkpoint.items():
        changed = value.roll(1) if name.endswith("position_ids") else 1.05 * value
        other, _, _ = run(checkpoint | {name: changed}, input_ids, **options)
        if (other - logits).abs().max() < 1e-3:
            unmoved.add(name.removeprefix("flash_quad.encoder.layer.0."))
    idle = {"a", "b"} if positions == TOEPLITZ_POSITIONS else {"w"}
    # cls.predictions.bias is stored twice and read as decoder.bias
    assert unmoved == idle | {"cls.predictions.bias"}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("positions", [TOEPLITZ_POSITIONS, ROTARY_POSITIONS])
def test_attention_of_a_random_checkpoint_is_sparse_and_strong(positions, seed):
    checkpoint = small_checkpoint(positions=positions, seed=seed)
    input_ids = random_tokens(2, 10, seed=seed)
    _, hidden_states, attentions = run(checkpoint, input_ids, positions=positions)
    active = torch.stack(attentions).gt(0).double().mean()
    assert 0.2 < active < 0.9
    for layer, attended in enumerate(hidden_states[1:]):
        output_bias = checkpoint[f"flash_quad.encoder.layer.{layer}.o.bias"]
        assert (attended - hidden_states[layer] - output_bias).abs().mean() > 1e-2


def test_logits_are_dense_activation_norm_decoder_of_the_last_hidden_state():
    checkpoint = small_checkpoint(norm_type="layer_norm")
    logits, hidden_states, _ = run(checkpoint, random_tokens(2, 6), norm_type="layer_norm")
    head = {name: value.double() for name, value in checkpoint.items() if name.startswith("cls.")}
    dense, norm, decoder = (
        [head[f"cls.predictions.{name}.{part}"] for part in ("weight", "bias")]
        for name in ("transform.dense", "transform.LayerNorm", "decoder")
    )
    transformed = F.silu(F.linear(hidden_states[-1], *dense))
    transformed = F.layer_norm(transformed, (16,), *norm)
    torch.testing.assert_close(logits, F.linear(transformed, *decoder), **EXACT)


def test_one_hidden_state_more_than_attentions_all_in_float64():
    logits, hidden_states, attentions = run(small_checkpoint(), random_tokens(2, 6))
    assert [tuple(hidden.shape) for hidden in hidden_states] == [(2, 6, 16)] * 3
    assert [tuple(weights.shape) for weights in attentions] == [(2, 6, 6)] * 2
    assert {tensor.dtype for tensor in (logits, *hidden_states, *attentions)} == {torch.float64}


@pytest.mark.parametrize("positions", [TOEPLITZ_POSITIONS, ROTARY_POSITIONS])
def test_padding_after_a_sentence_changes_none_of_its_logits(positions):
    checkpoint = small_checkpoint(positions=positions)
    input_ids = random_tokens(1, 5)
    alone, _, _ = run(checkpoint, input_ids, positions=positions)
    padded_ids = F.pad(input_ids, (0, 3), value=0)
    padded, _, _ = run(checkpoint, padded_ids, positions=positions)
    torch.testing.assert_close(padded[:, :5], alone, **EXACT)


def test_an_attention_mask_replaces_the_one_made_from_the_padding_token():
    checkpoint = small_checkpoint()
    input_ids = torch.tensor([[5, 6, 0, 7]])
    by_default, _, _ = run(checkpoint, input_ids)
    same, _, _ = run(checkpoint, input_ids, attention_mask=torch.tensor([[1, 1, 0, 1]]))
    all_real, _, _ = run(checkpoint, input_ids, attention_mask=torch.ones(1, 4))
    other_padding, _, _ = run(checkpoint, input_ids, pad_token_id=19)
    assert torch.equal(by_default, same)
    assert torch.equal(all_real, other_padding)
    assert (all_real - by_default)[0, 0].abs().max() > 1e-3


def test_a_batch_equals_its_rows():
    checkpoint = small_checkpoint(norm_type="layer_norm")
    input_ids = random_tokens(3, 6)
    input_ids[1, 4:] = 0
    together, _, _ = run(checkpoint, input_ids, norm_type="layer_norm")
    one_by_one = [run(checkpoint, row[None], norm_type="layer_norm")[0] for row in input_ids]
    torch.testing.assert_close(together, torch.cat(one_by_one), **EXACT)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="length 4 is above max_position_embeddings 3"):
        toeplitz_bias(torch.arange(5.0), 4, 3)
    with pytest.raises(ValueError, match="two groups of 2 channels do not fit into 3"):
        shift_tokens(torch.zeros(1, 2, 3), torch.ones(1, 2), 2)
    with pytest.raises(ValueError, match=r"weight must be \(2, 4\), got \(2, 8\)"):
        run(small_checkpoint(), random_tokens(1, 3), s=4)
    with pytest.raises(ValueError, match="norm_type must be scale_norm or layer_norm, got 'rms_norm'"):
        run(small_checkpoint(), random_tokens(1, 3), norm_type="rms_norm")
    with pytest.raises(ValueError, match="hidden_size and s must be even to be halved, got 16 and 3"):
        small_checkpoint(s=3)


@pytest.mark.parametrize("positions", [4, ROTARY_POSITIONS])
def test_autograd_agrees_with_finite_differences_in_the_model(positions):
    checkpoint = small_checkpoint(positions=positions, vocab_size=4, hidden_size=4, num_hidden_layers=1, s=2)
    # the buffers are constants, and an input that nothing reads has no gradient to compare
    idle = {"w"} if positions == ROTARY_POSITIONS else {"a", "b"}
    idle |= {"position_ids", "scaledsin_embeddings"}
    names = [name for name in checkpoint if name.rpartition(".")[2] not in idle]
    names.remove("cls.predictions.bias")

    def logits(*values):
        chosen = checkpoint | dict(zip(names, values, strict=True))
        return run(chosen, torch.tensor([[1, 3, 0]]), positions=positions, s=2)[0]

    inputs = [checkpoint[name].double().requires_grad_() for name in names]
    assert torch.autograd.gradcheck(logits, inputs)
