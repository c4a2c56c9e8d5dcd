import pytest
import torch
from torch import nn

from flash.layers.gated_attention_unit import GatedAttentionUnit, QuadraticContext
from flash.layers.norms import build_norm
from flash.layers.offset_scale import OffsetScale
from flash.layers.positions import RotaryProductBias, ToeplitzBias
from flash.ops.quadratic_attention import Weighting
from flash.ops.rotary import rotary_angles
from flash.ops.visibility import visible_pairs

import transcription
from helpers import FLOAT64, normal, relative_error

DIM, INNER_DIM, QUERY_KEY_DIM, LONGEST = 8, 12, 4, 10
EARLIER = {"score_scale": "inverse_length"}  # scores / 4
CURED = {"score_scale": "inverse_sqrt_dim", "attention_norm": True, "shift_channels": 2}  # scores / 2
for_each_unit = pytest.mark.parametrize("options", [EARLIER, CURED], ids=["earlier", "cured"])

# names of the transcription -> ours
NAMES = {
    "LayerNorm.scala": "norm.scale",
    "LayerNorm.weight": "norm.weight",
    "LayerNorm.bias": "norm.bias",
    "weight": "offset_scale.gain",
    "bias": "offset_scale.offset",
    "uv.weight": "in_proj.weight",
    "uv.bias": "in_proj.bias",
    "o.weight": "out_proj.weight",
    "o.bias": "out_proj.bias",
    "attention_output_norm.scale": "attention_norm.weight",
}


def random_unit(
    *, score_scale, norm_type="scale_norm", eps=1e-5, divisor=1, attention_norm=False, dtype=torch.float64, **options
):
    longest = 4 if score_scale == "inverse_length" else divisor
    unit = GatedAttentionUnit(
        dim=DIM,
        inner_dim=INNER_DIM,
        query_key_dim=QUERY_KEY_DIM,
        relative_bias=ToeplitzBias(LONGEST),
        activation=nn.functional.silu,
        norm=build_norm(norm_type, DIM, eps),
        copies=OffsetScale(2, QUERY_KEY_DIM),
        weighting=Weighting("squared_relu", score_scale, "constant", longest, QUERY_KEY_DIM),
        attention_norm_eps=eps if attention_norm else None,
        **options,
    )
    for index, (name, parameter) in enumerate(unit.named_parameters()):
        noise = normal(*parameter.shape, seed=index)
        parameter.data = 1 + 0.3 * noise if "norm" in name else 0.6 * noise
    return unit.to(dtype)


def run(unit, x, mask=None):
    length = x.shape[1]
    rotary = rotary_angles(length, QUERY_KEY_DIM, dtype=x.dtype)
    pairs = visible_pairs(length, length, device=x.device, query_mask=mask, key_mask=mask)
    return unit(x, QuadraticContext(rotary, mask, pairs=pairs))


def transcribed(unit, x, mask, **options):
    ours = dict(unit.named_parameters())
    parameters = {theirs: ours[name] for theirs, name in NAMES.items() if name in ours}
    return transcription.gated_attention_unit(
        x,
        parameters,
        mask=mask,
        bias=transcription.toeplitz_bias(ours["relative_bias.weight"], x.shape[1], LONGEST),
        score_scale={"inverse_length": 1 / 4, "inverse_sqrt_dim": QUERY_KEY_DIM**-0.5}[options["score_scale"]],
        norm_type="layer_norm" if "norm.bias" in ours else "scale_norm",
        eps=unit.norm.eps,
        attention_output_norm=options.get("attention_norm", False),
        token_shift_channels=options.get("shift_channels", 0),
    )


MASK = torch.tensor([[True] * 5 + [False] * 2, [True] * 7])


@for_each_unit
@pytest.mark.parametrize("norm_type", ["scale_norm", "layer_norm"])
def test_output_weights_and_all_gradients_are_those_of_the_transcription(options, norm_type):
    unit = random_unit(norm_type=norm_type, **options)
    x = normal(2, 7, DIM).requires_grad_()
    output, weights = run(unit, x, MASK)
    expected, expected_weights = transcribed(unit, x, MASK, **options)
    torch.testing.assert_close(output, expected, **FLOAT64)
    torch.testing.assert_close(weights, expected_weights, **FLOAT64)
    upstream = normal(2, 7, DIM, seed=1)
    inputs = [x, *unit.parameters()]
    gradients = torch.autograd.grad(output, inputs, upstream)
    expected_gradients = torch.autograd.grad(expected, inputs, upstream)
    torch.testing.assert_close(gradients, expected_gradients, **FLOAT64)
    assert all(gradient.abs().max() > 0 for gradient in gradients)


def test_input_projection_has_the_rows_gate_value_base():
    unit = random_unit(**EARLIER)
    x = normal(1, 1, DIM)
    unit.activation = nn.Identity()
    rows = [torch.full((INNER_DIM,), 2.0), torch.full((INNER_DIM,), 3.0), torch.ones(QUERY_KEY_DIM)]
    unit.in_proj.weight.data.zero_()
    unit.in_proj.bias.data = torch.cat(rows).double()
    unit.offset_scale.gain.data.fill_(1.0)
    unit.offset_scale.offset.data.zero_()
    unit.relative_bias.weight.data.zero_()
    unit.out_proj.weight.data = torch.eye(DIM, INNER_DIM, dtype=torch.float64)
    output, weights = run(unit, x)
    # the one token has q . k = 4, scaled by 1/4
    torch.testing.assert_close(weights, torch.ones(1, 1, 1, dtype=torch.float64), **FLOAT64)
    torch.testing.assert_close(output, x + 2 * 3 + unit.out_proj.bias, **FLOAT64)


def test_no_mask_means_that_every_token_is_real():
    unit = random_unit(**CURED)
    x = normal(2, 7, DIM)
    everything = torch.ones(2, 7, dtype=torch.bool)
    torch.testing.assert_close(run(unit, x), run(unit, x, everything), rtol=0, atol=0)


def test_attention_norm_cancels_any_divisor_of_the_weights():
    plain = random_unit(eps=1e-12, **CURED)
    divided = random_unit(eps=1e-12, divisor=64, **CURED)
    x = normal(2, 7, DIM)
    (output, weights), (divided_output, divided_weights) = run(plain, x), run(divided, x)
    torch.testing.assert_close(divided_weights, weights / 64, **FLOAT64)
    # what is left is eps against the mean square of A v
    torch.testing.assert_close(divided_output, output, rtol=1e-6, atol=1e-6)


def test_attention_norm_makes_the_update_independent_of_the_size_of_the_queries():
    unit = random_unit(eps=1e-12, score_scale="inverse_sqrt_dim", attention_norm=True)
    unit.relative_bias.weight.data.zero_()
    x = normal(2, 7, DIM)
    before, _ = run(unit, x)
    unit.offset_scale.gain.data[0] *= 10
    unit.offset_scale.offset.data[0] *= 10
    after, _ = run(unit, x)
    torch.testing.assert_close(after, before, rtol=1e-6, atol=1e-6)


@for_each_unit
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_unit_keeps_its_dtype_and_stays_close(options, dtype):
    unit = random_unit(**options)
    x = normal(2, 7, DIM)
    exact, _ = run(unit, x, MASK)
    output, weights = run(unit.to(dtype), x.to(dtype), MASK)
    assert (output.dtype, weights.dtype) == (dtype, torch.float32)
    # some ten roundings of half an epsilon, of random sign, on the way through the unit
    assert relative_error(output, exact) < 4 * torch.finfo(dtype).eps


@for_each_unit
def test_dropout_leaves_out_attention_weights_or_channels_of_the_branch_in_training_only(options):
    x = normal(2, 7, DIM)
    plain = run(random_unit(**options), x)
    attention, hidden = (random_unit(**options, **{name: 0.5}) for name in ("attention_dropout", "hidden_dropout"))
    for unit in (attention, hidden):
        torch.testing.assert_close(run(unit.eval(), x), plain, rtol=0, atol=0)
        unit.train()
    torch.manual_seed(0)
    for found, expected in ((run(attention, x)[1], plain[1]), (run(hidden, x)[0] - x, plain[0] - x)):
        kept = found.abs() > 1e-12
        torch.testing.assert_close(found[kept], 2 * expected[kept], **FLOAT64)
        assert 0.3 < kept.sum() / (expected != 0).sum() < 0.7


def test_any_module_that_knows_its_bias_for_a_length_may_be_the_relative_bias():
    unit = random_unit(**EARLIER)
    x = normal(1, 3, DIM)
    unit.relative_bias = RotaryProductBias(QUERY_KEY_DIM).double()
    unit.relative_bias.left.data, unit.relative_bias.right.data = normal(2, 1, QUERY_KEY_DIM)
    _, weights = run(unit, x)
    unit.relative_bias.left.data.zero_()
    _, without = run(unit, x)
    assert (weights - without).abs().max() > 1e-3
