"""Facts about the units of ``transcription_attention`` and ``transcription_flash`` alone."""

import pytest
import torch
import torch.nn.functional as F

import transcription
from transcription_attention import relative_bias, unit, visible
from transcription_flash import chunk_indices, linear_weights, visible_to_linear, visible_within_chunk
from transcription_flash import unit as flash_unit

ROUNDING = {"rtol": 1e-12, "atol": 1e-12}
POSITIONS, CHUNK = 12, 3
HIDDEN, WIDE, KEY_DIM = 8, 16, 4

PUBLISHED = {"attention_function": "squared_relu", "score_scale": "inverse_length", "score_divisor": "constant"}
FORMS = {
    "published": PUBLISHED,
    "cured": PUBLISHED | {"score_scale": "inverse_sqrt_dim", "attention_norm": True, "token_shift_channels": 2},
    "true_length": PUBLISHED | {"score_divisor": "true_length", "norm_type": "rms_norm", "kind": "rotary_product"},
    "laplace_row_sum": {
        "attention_function": "laplace",
        "score_scale": "inverse_sqrt_dim",
        "score_divisor": "row_sum",
        "kind": "bucketed",
        "rotary": False,
    },
    "entropy_softmax_post": {
        "attention_function": "entropy_softmax",
        "score_scale": "inverse_sqrt_dim",
        "score_divisor": "constant",
        "norm_position": "post",
        "norm_type": "layer_norm",
        "token_shift_channels": 3,
        "kind": "none",
    },
}


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def random_parameters(*, copies, toeplitz_positions, seed=0):
    """All entries that any form of a unit reads, float64, large enough that every term counts."""
    names = {
        "norm.scale": (1,),
        "norm.weight": (HIDDEN,),
        "norm.bias": (HIDDEN,),
        "in_proj.weight": (2 * WIDE + KEY_DIM, HIDDEN),
        "in_proj.bias": (2 * WIDE + KEY_DIM,),
        "offset_scale.gain": (copies, KEY_DIM),
        "offset_scale.offset": (copies, KEY_DIM),
        "attention_norm.weight": (WIDE,),
        "out_proj.weight": (HIDDEN, WIDE),
        "out_proj.bias": (HIDDEN,),
        "toeplitz": (2 * toeplitz_positions - 1,),
        "bucketed": (8,),
        "left": (1, KEY_DIM),
        "right": (1, KEY_DIM),
    }
    values = {name: normal(*shape, seed=seed + place) for place, (name, shape) in enumerate(names.items())}
    for name in ("in_proj.weight", "out_proj.weight"):
        values[name] = values[name] * values[name].shape[1] ** -0.5
    for name in ("norm.scale", "norm.weight", "attention_norm.weight"):
        values[name] = 1 + 0.3 * values[name]
    values["offset_scale.gain"] = 3 * values["offset_scale.gain"]
    return values


def run(family, x, *, form, mask=None, segments=None, causal=False, parameters=None, **changes):
    """Output and the summed weights of one unit of either family, on parameters that depend on nothing else."""
    form = form | changes
    kind = form.pop("kind", "toeplitz")
    quadratic = family == "flash_quad"
    if parameters is None:
        parameters = random_parameters(
            copies=2 if quadratic else 4, toeplitz_positions=POSITIONS if quadratic else CHUNK
        )
    named = dict(parameters)
    for side in ("left", "right"):
        named[f"relative_bias.{side}"] = named[side]
    if kind in ("toeplitz", "bucketed"):
        named["relative_bias.weight"] = named[kind]
    mask = torch.ones(x.shape[:2], dtype=torch.bool) if mask is None else mask
    bias = relative_bias(named, kind, x.shape[1], max_distance=9, causal=causal)
    form |= {"mask": mask, "segments": segments, "causal": causal, "bias": bias}
    if quadratic:
        return unit(x, named, length=POSITIONS, **form)
    sizes = {"chunk_size": CHUNK, "max_position_embeddings": POSITIONS}
    output, within, across = flash_unit(x, named, **(sizes | form))
    return output, within + across


@pytest.fixture(params=["flash_quad", "flash"])
def family(request):
    return request.param


@pytest.fixture(params=FORMS.values(), ids=FORMS.keys())
def form(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["both_ways", "causal"])
def causal(request):
    return request.param


def test_padding_on_either_side_changes_no_real_token(family, form, causal):
    x = normal(1, 7, HIDDEN)
    alone, alone_weights = run(family, x, form=form, causal=causal)
    padded = torch.cat([torch.full((1, 2, HIDDEN), 90.0), x, torch.full((1, 3, HIDDEN), -50.0)], dim=1)
    mask = torch.tensor([[False] * 2 + [True] * 7 + [False] * 3])
    output, padded_weights = run(family, padded, form=form, causal=causal, mask=mask)
    torch.testing.assert_close(output[:, 2:9], alone, **ROUNDING)
    torch.testing.assert_close(padded_weights[:, 2:9, 2:9], alone_weights, **ROUNDING)
    assert padded_weights.count_nonzero() == alone_weights.count_nonzero() > 0


def test_packed_sequences_equal_the_same_sequences_apart(family, form, causal):
    first, second = normal(1, 5, HIDDEN, seed=1), normal(1, 4, HIDDEN, seed=2)
    packed = torch.cat([first, second, 7 + first[:, :1]], dim=1)
    mask = torch.tensor([[True] * 9 + [False]])
    segments = torch.tensor([[4] * 5 + [1] * 4 + [1]])
    output, _ = run(family, packed, form=form, causal=causal, mask=mask, segments=segments)
    apart = [run(family, x, form=form, causal=causal)[0] for x in (first, second)]
    torch.testing.assert_close(output[:, :9], torch.cat(apart, dim=1), **ROUNDING)
    one_sequence, _ = run(family, packed, form=form, causal=causal, mask=mask)
    assert (one_sequence - output)[:, 5:9].abs().max() > 1e-3


def test_a_causal_unit_sees_neither_what_comes_after_nor_how_much(family, form):
    x = normal(1, 8, HIDDEN)
    whole, matrix = run(family, x, form=form, causal=True)
    start, _ = run(family, x[:, :5], form=form, causal=True)
    torch.testing.assert_close(whole[:, :5], start, **ROUNDING)
    assert not matrix.triu(1).any()
    both_ways = [run(family, part, form=form)[0] for part in (x, x[:, :5])]
    assert (both_ways[0][:, :5] - both_ways[1]).abs().max() > 1e-3


def test_a_batch_equals_its_rows(family, form, causal):
    x = normal(2, 6, HIDDEN)
    mask = torch.tensor([[True] * 6, [False, True, True, False, True, True]])
    together, _ = run(family, x, form=form, causal=causal, mask=mask)
    rows = [run(family, x[row : row + 1], form=form, causal=causal, mask=mask[row : row + 1])[0] for row in (0, 1)]
    torch.testing.assert_close(together, torch.cat(rows), **ROUNDING)


@pytest.mark.parametrize("form", [FORMS["cured"], FORMS["entropy_softmax_post"]], ids=["cured", "entropy_softmax_post"])
def test_autograd_agrees_with_finite_differences(family, form, causal):
    mask = torch.tensor([[False, True, True, True, True]])
    parameters = random_parameters(copies=2 if family == "flash_quad" else 4, toeplitz_positions=POSITIONS)
    read = {name for name in parameters if name.startswith(("in_proj", "offset_scale", "out_proj"))}
    read |= {"norm.scale", "attention_norm.weight", "toeplitz"} if form.get("attention_norm") else {"norm.bias"}
    names = sorted(read)

    def output(x, *values):
        chosen = parameters | dict(zip(names, values, strict=True))
        return run(family, x, form=form, mask=mask, causal=causal, parameters=chosen)[0]

    inputs = [value.requires_grad_() for value in (normal(1, 5, HIDDEN), *(parameters[name] for name in names))]
    assert torch.autograd.gradcheck(output, inputs, fast_mode=True)


@pytest.mark.parametrize("cured", [False, True], ids=["published", "cured"])
def test_both_transcriptions_agree_on_the_published_unit_and_its_cures(cured, causal):
    x, mask = normal(2, 6, HIDDEN), torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    parameters = random_parameters(copies=2, toeplitz_positions=POSITIONS)
    old_names = {"norm.scale": "LayerNorm.scala", "offset_scale.gain": "weight", "offset_scale.offset": "bias"}
    old_names |= {f"in_proj.{part}": f"uv.{part}" for part in ("weight", "bias")}
    old_names |= {f"out_proj.{part}": f"o.{part}" for part in ("weight", "bias")}
    old_names |= {"attention_norm.weight": "attention_output_norm.scale"}
    earlier = {old_names[name]: value for name, value in parameters.items() if name in old_names}
    options = {"mask": mask, "bias": transcription.toeplitz_bias(parameters["toeplitz"], 6, POSITIONS)}
    options |= {"causal": causal, "token_shift_channels": 2 if cured else 0}
    expected, expected_weights = transcription.gated_attention_unit(
        x, earlier, score_scale=1 / POSITIONS, norm_type="scale_norm", attention_output_norm=cured, **options
    )
    output, matrix = unit(x, parameters, length=POSITIONS, attention_norm=cured, **options)
    torch.testing.assert_close(output, expected, **ROUNDING)
    torch.testing.assert_close(matrix, expected_weights, **ROUNDING)


def test_without_rotation_and_bias_a_unit_knows_no_order():
    x, order = normal(1, 5, HIDDEN), [3, 0, 4, 1, 2]
    for rotary in (False, True):
        options = {"form": PUBLISHED, "kind": "none", "rotary": rotary}
        output, _ = run("flash_quad", x, **options)
        reordered, _ = run("flash_quad", x[:, order], **options)
        assert torch.allclose(reordered, output[:, order], rtol=0, atol=1e-12) != rotary


def test_post_norm_norms_the_sum_and_pre_norm_leaves_the_residual_alone():
    x = normal(1, 4, HIDDEN)
    parameters = random_parameters(copies=2, toeplitz_positions=POSITIONS)
    parameters |= {f"out_proj.{part}": 0 * parameters[f"out_proj.{part}"] for part in ("weight", "bias")}
    options = {"form": PUBLISHED, "parameters": parameters, "norm_type": "rms_norm", "eps": 0.5}
    assert torch.equal(run("flash_quad", x, **options)[0], x)
    expected = x / (x.square().mean(dim=-1, keepdim=True) + 0.5).sqrt() * parameters["norm.weight"]
    torch.testing.assert_close(run("flash_quad", x, norm_position="post", **options)[0], expected, **ROUNDING)


def test_chunks_are_counted_from_the_first_real_token_of_each_sequence():
    mask = torch.tensor([[0, 1, 1, 0, 1, 1, 1, 1, 1, 0]])
    assert chunk_indices(mask, 3) == [[None, 0, 0, None, 1, 1, 1, 2, 2, None]]
    segments = torch.tensor([[1, 1, 1, 1, 1, 1, 2, 2, 2, 2]])
    assert chunk_indices(mask, 2, segments) == [[None, 0, 0, None, 1, 2, 0, 0, 1, None]]


def test_causal_quadratic_and_linear_parts_share_the_visible_pairs():
    mask, segments = torch.tensor([[0] + [1] * 4 + [0] + [1] * 5]), torch.tensor([[3] * 6 + [5] * 5])
    within = visible_within_chunk(mask, 2, causal=True, segments=segments)
    across = visible_to_linear(mask, 2, causal=True, segments=segments)
    assert within.any()
    assert across.any()
    assert torch.equal(within.int() + across.int(), visible(mask, True, segments).int())
    assert torch.equal(visible_to_linear(mask, 2, segments=segments), visible(mask, False, segments))


def test_a_single_chunk_has_the_quadratic_weights_of_flash_quad(form, causal):
    x = normal(1, 6, HIDDEN)
    parameters = random_parameters(copies=4, toeplitz_positions=POSITIONS)
    parameters["offset_scale.gain"][2:] = parameters["offset_scale.offset"][2:] = 0.0  # no linear part
    first_two = {name: value[:2] if "offset_scale" in name else value for name, value in parameters.items()}
    expected = run("flash_quad", x, form=form, causal=causal, parameters=first_two)
    sizes = {"chunk_size": POSITIONS, "max_position_embeddings": 99}
    actual = run("flash", x, form=form, causal=causal, parameters=parameters, **sizes)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, **ROUNDING)
    several_chunks, _ = run("flash", x, form=form, causal=causal, parameters=parameters)
    assert (several_chunks - expected[0]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("divisor", "both_ways", "per_chunk"), [("true_length", 8, [1, 3, 6]), ("constant", 9, [9] * 3)]
)
def test_linear_weights_sum_to_products_with_chunk_sums(divisor, both_ways, per_chunk):
    query, key, value = normal(3, 1, 8, KEY_DIM)
    options = {"linear_divisor": divisor, "max_position_embeddings": 9}
    mask = torch.ones(1, 8)
    matrix = linear_weights(query, key, visible_to_linear(mask, 3), **options)
    torch.testing.assert_close(matrix @ value, query @ (key.mT @ value) / both_ways, **ROUNDING)
    causal_matrix = linear_weights(query, key, visible_to_linear(mask, 3, causal=True), **options)
    for chunk, count in enumerate(per_chunk):
        here, before = slice(3 * chunk, 3 * chunk + 3), slice(0, 3 * chunk)
        expected = query[:, here] @ (key[:, before].mT @ value[:, before]) / count
        torch.testing.assert_close((causal_matrix @ value)[:, here], expected, **ROUNDING)


def test_the_last_two_copies_of_z_are_the_linear_query_and_key():
    x = normal(1, 7, HIDDEN)
    parameters = random_parameters(copies=4, toeplitz_positions=CHUNK)
    options = {"mask": torch.ones(1, 7), "bias": torch.zeros(7, 7), "chunk_size": CHUNK, "eps": 0.0, "rotary": False}
    _, _, matrix = flash_unit(x, parameters, max_position_embeddings=POSITIONS, **options)
    h = x / x.square().mean(dim=-1, keepdim=True).sqrt() * parameters["norm.scale"]
    z = F.silu(F.linear(h, parameters["in_proj.weight"], parameters["in_proj.bias"]))[..., 2 * WIDE :]
    query, key = (z * parameters["offset_scale.gain"][k] + parameters["offset_scale.offset"][k] for k in (2, 3))
    torch.testing.assert_close(matrix, query @ key.mT / 7, **ROUNDING)


def test_what_does_not_fit_is_refused():
    x, options = normal(1, 2, HIDDEN), {"form": FORMS["entropy_softmax_post"]}
    with pytest.raises(ValueError, match="entropy_softmax needs inverse_sqrt_dim and constant, got inverse_length"):
        run("flash_quad", x, score_scale="inverse_length", **options)
    with pytest.raises(ValueError, match="norm_position must be pre or post, got 'middle'"):
        run("flash_quad", x, norm_position="middle", **options)
    with pytest.raises(ValueError, match="two groups of 5 channels do not fit into 8"):
        run("flash_quad", x, token_shift_channels=5, **options)
    with pytest.raises(ValueError, match="linear_divisor must be true_length or constant, got 'row_sum'"):
        run("flash", x, linear_divisor="row_sum", **options)
