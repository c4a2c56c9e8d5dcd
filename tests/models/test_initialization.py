"""Every parameter starts as ``FLASHQuadConfig.initialization`` says, however the model is built."""

import itertools
import math

import pytest
import torch
from safetensors.torch import save_file

from flash import (
    FLASHConfig,
    FLASHModel,
    FLASHQuadConfig,
    FLASHQuadForMaskedLM,
    FLASHQuadForSequenceClassification,
    FLASHQuadModel,
)

from every_class import FAMILIES, build
from helpers import tiny_config

LARGE_ENOUGH = {"vocab_size": 300, "hidden_size": 64, "query_key_dim": 32, "type_vocab_size": 40}
STD = 0.05
for_each_start = pytest.mark.parametrize(
    "settings",
    [
        {"initialization": initialization, "relative_bias": bias, "norm_type": norm_type}
        for initialization in ("normal", "fan_in")
        for bias, norm_type in [
            ("toeplitz", "scale_norm"),
            ("rotary_product", "layer_norm"),
            ("bucketed", "rms_norm"),
        ]
    ],
    ids=lambda settings: "-".join(settings.values()),
)


def config_for(settings, **changes):
    return tiny_config(
        **LARGE_ENOUGH, **settings, initializer_range=STD, attention_norm=True, final_norm=True, **changes
    )


def expected_mean_and_std(name, parameter, config):
    """What the documentation of ``initialization`` and of the modules promises for one parameter."""
    normal = config.initialization == "normal"
    owner, _, kind = name.rpartition(".")
    if owner.endswith("position_embeddings"):
        return config.hidden_size**-0.5, 0.0
    if owner.endswith("norm"):
        return float(kind != "bias"), 0.0
    if kind in {"bias", "offset"}:
        return 0.0, 0.0
    if kind == "gain":
        return (0.0, STD) if normal else (1.0, 0.0)
    if kind in {"left", "right"}:
        return 0.0, STD
    if owner.endswith("relative_bias"):
        return 0.0, STD if normal else 0.0
    assert kind == "weight", name
    return 0.0, STD if normal else parameter.shape[1] ** -0.5


def assert_initialized(model):
    config = model.config
    for name, parameter in model.named_parameters():
        mean, std = expected_mean_and_std(name, parameter, config)
        values = parameter.detach()
        if name.endswith("word_embeddings.weight"):
            assert not values[config.pad_token_id].any()
            values = torch.cat([values[: config.pad_token_id], values[config.pad_token_id + 1 :]])
        if std == 0.0:
            assert torch.equal(values, torch.full_like(values, mean)), name
        else:  # five standard errors
            count = values.numel()
            assert abs(values.mean() - mean) < 5 * std / count**0.5, name
            assert abs(values.std() / std - 1) < 5 / (2 * count) ** 0.5, name


@for_each_start
@pytest.mark.parametrize("model_class", [FLASHQuadModel, FLASHQuadForMaskedLM, FLASHQuadForSequenceClassification])
def test_a_new_model_starts_as_documented(model_class, settings):
    torch.manual_seed(0)
    assert_initialized(model_class(config_for(settings, pad_token_id=7)))


@for_each_start
def test_an_untied_decoder_starts_as_a_matrix_and_not_as_the_embeddings(settings):
    torch.manual_seed(0)
    model = FLASHQuadForMaskedLM(config_for(settings, tie_word_embeddings=False))
    assert_initialized(model)
    embeddings = model.get_input_embeddings().weight
    assert (model.lm_head.decoder.weight - embeddings)[1:].abs().min() > 0


@for_each_start
def test_what_a_checkpoint_lacks_starts_as_in_a_new_model(settings, tmp_path):
    # from_pretrained builds the model without memory behind it, so a parameter forgotten there would be garbage
    config = config_for(settings)
    config.save_pretrained(tmp_path)
    kept = torch.full((config.hidden_size,), 0.5)
    save_file({"lm_head.dense.bias": kept}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    torch.manual_seed(0)
    model, report = FLASHQuadForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    names = {name for name, _ in model.named_parameters()}
    tied = {"lm_head.decoder.weight", "lm_head.decoder.bias"}
    assert report["missing_keys"] - tied == names - {"lm_head.dense.bias"}
    assert torch.equal(model.lm_head.dense.bias, kept)
    model.lm_head.dense.bias.data.zero_()
    assert_initialized(model)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_parameter_that_a_checkpoint_lacks_is_left_as_memory_happens_to_be(family, tmp_path):
    model = build(family, "ForMaskedLM")
    model.config.save_pretrained(tmp_path)
    save_file({"nothing": torch.zeros(1)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    torch.use_deterministic_algorithms(True)  # fills new memory with NaN
    try:
        loaded = type(model).from_pretrained(tmp_path)
    finally:
        torch.use_deterministic_algorithms(False)
    assert [name for name, parameter in loaded.named_parameters() if not parameter.isfinite().all()] == []


def test_the_padding_row_of_a_checkpoint_is_kept(tmp_path):
    model = FLASHQuadForMaskedLM(tiny_config())
    model.get_input_embeddings().weight.data.fill_(0.5)
    model.save_pretrained(tmp_path)
    loaded = FLASHQuadForMaskedLM.from_pretrained(tmp_path)
    assert (loaded.get_input_embeddings().weight == 0.5).all()


SILU_MEAN_SQUARE = 0.3558  # of silu(x), x ~ N(0, 1)


@pytest.mark.parametrize("length", [16, 256])
@pytest.mark.parametrize("width", [128, 384])
@pytest.mark.parametrize(
    ("config_class", "model_class"), [(FLASHQuadConfig, FLASHQuadModel), (FLASHConfig, FLASHModel)]
)
def test_the_stream_of_a_new_model_grows_as_derived_whatever_width_and_length(config_class, model_class, width, length):
    """docs/maths.md: each layer adds a branch of mean square k to a stream that begins at 1."""
    torch.manual_seed(0)
    config = config_class.preset("tiny", vocab_size=1000, hidden_size=width, num_hidden_layers=8)
    model = model_class(config).eval()
    input_ids = torch.randint(1, 1000, (2048 // length, length))
    with torch.no_grad():
        # the last recorded state is behind the final norm
        states = model(input_ids, output_hidden_states=True).hidden_states[:-1]
    k = SILU_MEAN_SQUARE
    for n, (before, after) in enumerate(itertools.pairwise(states)):
        update = ((after - before).norm() / before.norm()).item()
        assert update == pytest.approx((k / (1 + k * n)) ** 0.5, rel=0.2), n
        assert after.square().mean().sqrt().item() == pytest.approx((1 + k * (n + 1)) ** 0.5, rel=0.1), n


def test_a_branch_of_the_earlier_initialisation_falls_with_the_fifth_power_of_its_range():
    """docs/maths.md: u, v and W_out once, the Toeplitz bias twice."""

    def update(initializer_range):
        torch.manual_seed(0)
        config = FLASHQuadConfig(
            vocab_size=50, hidden_size=64, num_hidden_layers=2, query_key_dim=32, initializer_range=initializer_range
        )
        model = FLASHQuadModel(config).double().eval()
        input_ids = torch.randint(1, 50, (2, 40), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            before, after, _ = model(input_ids, output_hidden_states=True).hidden_states
        return ((after - before).norm() / before.norm()).item()

    assert math.log2(update(0.02) / update(0.01)) == pytest.approx(5, abs=0.1)


@pytest.mark.parametrize("causal", [False, True], ids=["encoder", "causal"])
def test_a_preset_is_the_same_model_however_long_its_inputs_may_be(causal):
    sizes = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 3, "query_key_dim": 8, "relative_bias": "none"}
    short, long = (
        FLASHQuadModel(FLASHQuadConfig.preset("tiny", max_position_embeddings=length, causal=causal, **sizes)).double()
        for length in (128, 65536)
    )
    long.load_state_dict(short.state_dict())
    for length in (1, 4, 100):
        input_ids = torch.randint(1, 50, (2, length), generator=torch.Generator().manual_seed(length))
        outputs = [model.eval()(input_ids=input_ids).last_hidden_state for model in (short, long)]
        torch.testing.assert_close(*outputs, rtol=1e-9, atol=1e-9)
