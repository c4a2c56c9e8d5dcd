import json
import re
from functools import partial

import pytest
from huggingface_hub.errors import StrictDataclassFieldValidationError

from flash import FLASHConfig, FLASHQuadConfig
from flash.errors import InputError
from flash.models.presets import RECOMMENDED, SIZES

from helpers import CURED, tiny_config

# config.json of the earlier repository, with its defaults
EARLIER_FILE = {
    "model_type": "flash_quad",
    "vocab_size": 12000,
    "hidden_size": 768,
    "num_hidden_layers": 24,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-5,
    "pad_token_id": 0,
    "expansion_factor": 2,
    "s": 128,
    "norm_type": "scale_norm",
    "gradient_checkpointing": False,
    "dropout": 0.0,
    "hidden_act": "silu",
    "classifier_dropout": 0.1,
}


def written(folder, settings):
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def test_an_earlier_config_json_means_the_defaults(tmp_path):
    config = FLASHQuadConfig.from_pretrained(written(tmp_path, EARLIER_FILE))
    assert config == FLASHQuadConfig()
    for name, value in EARLIER_FILE.items():
        assert getattr(config, name) == value, name


def test_every_earlier_name_reaches_the_model_settings(tmp_path):
    other = {
        "vocab_size": 30,
        "hidden_size": 10,
        "num_hidden_layers": 3,
        "max_position_embeddings": 40,
        "type_vocab_size": 4,
        "initializer_range": 0.3,
        "layer_norm_eps": 1e-3,
        "pad_token_id": 5,
        "expansion_factor": 1.5,
        "s": 6,
        "norm_type": "layer_norm",
        "gradient_checkpointing": True,
        "dropout": 0.2,
        "hidden_act": "gelu",
        "classifier_dropout": 0.3,
    }
    config = FLASHQuadConfig.from_pretrained(written(tmp_path, {"model_type": "flash_quad"} | other))
    assert {name: getattr(config, name) for name in other} == other
    assert config.intermediate_size == 15


@pytest.mark.parametrize(("max_position_embeddings", "relative_bias"), [(512, "toeplitz"), (513, "rotary_product")])
def test_a_missing_newer_key_means_the_earlier_behaviour(tmp_path, max_position_embeddings, relative_bias):
    settings = EARLIER_FILE | {"max_position_embeddings": max_position_embeddings}
    config = FLASHQuadConfig.from_pretrained(written(tmp_path, settings))
    newer = {
        "initialization": "normal",
        "score_scale": "inverse_length",
        "attention_norm": False,
        "final_norm": False,
        "token_shift": 0.0,
        "relative_bias": relative_bias,
        "tie_word_embeddings": True,
    }
    assert {name: getattr(config, name) for name in newer} == newer


def test_s_is_another_name_of_query_key_dim():
    config = FLASHQuadConfig(s=64)
    assert config.s == config.query_key_dim == 64
    config.s = 32
    assert config.query_key_dim == 32
    assert FLASHQuadConfig(query_key_dim=16).s == 16


def test_a_file_written_under_the_present_name_and_one_under_the_earlier_name_agree(tmp_path):
    tiny_config(query_key_dim=4).save_pretrained(tmp_path)
    present = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    earlier = present | {"s": present.pop("query_key_dim")}
    assert FLASHQuadConfig.from_pretrained(written(tmp_path, earlier)).query_key_dim == 4


@pytest.mark.parametrize(
    "changes",
    [
        {},
        CURED,
        {"s": 4, "pad_token_id": None, "classifier_dropout": None},
        {"max_position_embeddings": 1024},
        {"max_position_embeddings": 1024, "relative_bias": "toeplitz"},
        {"num_labels": 5, "problem_type": "multi_label_classification"},
    ],
)
def test_a_configuration_saved_and_loaded_is_equal(changes, tmp_path):
    config = tiny_config(**changes)
    config.save_pretrained(tmp_path)
    loaded = FLASHQuadConfig.from_pretrained(tmp_path)
    # == would compare the version of transformers too, which only a file has
    assert loaded.to_dict() == config.to_dict()


@pytest.mark.parametrize("expansion_factor", [1, 2, 1.5, 0.5])
def test_the_gate_is_expansion_factor_times_as_wide_as_the_model(expansion_factor):
    assert tiny_config(expansion_factor=expansion_factor).intermediate_size == 16 * expansion_factor


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 0}, "vocab_size must be at least 1, got 0"),
        ({"hidden_size": 0}, "hidden_size must be at least 1, got 0"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be at least 1, got 0"),
        ({"max_position_embeddings": 0}, "max_position_embeddings must be at least 1, got 0"),
        ({"type_vocab_size": 0}, "type_vocab_size must be at least 1, got 0"),
        ({"query_key_dim": -2}, "query_key_dim must be at least 1, got -2"),
        ({"hidden_size": 15}, "hidden_size must be even, got 15: the sinusoid has a sine and a cosine half"),
        ({"query_key_dim": 7}, r"query_key_dim \(s\) must be even, got 7: rotary embedding turns pairs"),
        ({"expansion_factor": 0.01}, "expansion_factor must give a width of at least 1, got 0.01 of 16"),
        ({"expansion_factor": -2}, "expansion_factor must give a width of at least 1, got -2 of 16"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
        ({"dropout": -0.1}, "dropout must be at least 0 and below 1, got -0.1"),
        ({"classifier_dropout": 1.5}, "classifier_dropout must be at least 0 and below 1, got 1.5"),
        ({"token_shift": 0.6}, "token_shift must lie between 0 and 0.5, got 0.6: it counts for each of two"),
        ({"token_shift": -0.1}, "token_shift must lie between 0 and 0.5, got -0.1"),
        ({"hidden_act": "swoosh"}, "hidden_act must be one of .*silu.*, got 'swoosh'"),
        ({"initializer_range": -0.02}, "initializer_range must not be negative, got -0.02"),
        ({"layer_norm_eps": -1e-5}, "layer_norm_eps must be above 0, got -1e-05"),
        ({"pad_token_id": 20}, r"pad_token_id must be below vocab_size \(20\) and not negative, got 20; None"),
        ({"pad_token_id": -1}, "pad_token_id must be below vocab_size .* got -1"),
    ],
)
def test_a_value_that_no_model_can_have_is_refused(changes, message):
    with pytest.raises(InputError, match=message) as refused:
        tiny_config(**changes)
    assert "\n" not in str(refused.value)


def test_s_is_refused_as_query_key_dim_is():
    with pytest.raises(InputError, match="must be even, got 63"):
        FLASHQuadConfig(s=63)


@pytest.mark.parametrize(
    ("name", "value", "choices"),
    [
        ("norm_type", "batch_norm", "'scale_norm', 'layer_norm', 'rms_norm'"),
        ("initialization", "xavier", "'normal', 'fan_in'"),
        ("score_scale", "sqrt", "'inverse_length', 'inverse_sqrt_dim'"),
        ("relative_bias", "alibi", "'toeplitz', 'rotary_product'"),
    ],
)
def test_an_unknown_choice_is_refused_with_the_known_ones(name, value, choices):
    with pytest.raises(StrictDataclassFieldValidationError, match=name) as refused:
        tiny_config(**{name: value})
    assert choices in str(refused.value)
    assert value in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"), [("hidden_size", "16"), ("hidden_size", 16.0), ("dropout", None), ("final_norm", "yes")]
)
def test_a_value_of_another_type_is_refused(name, value):
    with pytest.raises(StrictDataclassFieldValidationError, match=name):
        tiny_config(**{name: value})


@pytest.mark.parametrize("token_shift", [0, 0.5])
def test_the_ends_of_a_range_are_allowed(token_shift):
    config = tiny_config(token_shift=token_shift, dropout=0, pad_token_id=19, expansion_factor=1)
    assert config.token_shift == token_shift


@pytest.mark.parametrize("config_class", [FLASHQuadConfig, FLASHConfig])
@pytest.mark.parametrize("name", SIZES)
def test_a_preset_has_the_recommended_settings_and_its_size(config_class, name):
    config = config_class.preset(name)
    expected = RECOMMENDED | SIZES[name]
    assert {key: getattr(config, key) for key in expected} == expected


@pytest.mark.parametrize("length", [8, 128, 8192])
def test_the_norm_of_a_preset_leaves_out_the_divisor_of_the_scores(length):
    # relative to the sums before they are divided by the length
    config = FLASHQuadConfig.preset("tiny", max_position_embeddings=length)
    assert config.attention_norm_eps * length**2 == pytest.approx(config.layer_norm_eps * 128**2)
    assert (
        FLASHQuadConfig.preset("tiny", max_position_embeddings=length, attention_norm_eps=0.5).attention_norm_eps == 0.5
    )


@pytest.mark.parametrize("settings", [{"attention_function": "softmax"}, {"score_divisor": "row_sum"}])
def test_where_rows_are_divided_by_their_own_sums_the_norm_is_as_all_others(settings):
    assert FLASHQuadConfig.preset("tiny", **settings).attention_norm_eps is None


def test_settings_go_over_a_preset():
    config = FLASHQuadConfig.preset("tiny", hidden_size=64, token_shift=0.0, vocab_size=9)
    assert (config.hidden_size, config.token_shift, config.vocab_size) == (64, 0.0, 9)
    assert config.num_hidden_layers == SIZES["tiny"]["num_hidden_layers"]


def test_a_preset_changes_nothing_of_the_plain_constructor():
    before = FLASHQuadConfig().to_dict()
    FLASHQuadConfig.preset("large")
    assert FLASHQuadConfig().to_dict() == before
    assert FLASHQuadConfig().initialization == "normal"


@pytest.mark.parametrize("name", ["huge", "", None, ["tiny"]])
def test_an_unknown_preset_is_refused_with_the_known_ones(name):
    with pytest.raises(InputError, match=re.escape(f"no preset {name!r}; there are tiny, small, base, large")):
        FLASHQuadConfig.preset(name)


def test_a_slip_in_the_name_of_a_setting_over_a_preset_is_refused():
    with pytest.raises(InputError, match="'hiden_size' is no setting of FLASHQuadConfig"):
        FLASHQuadConfig.preset("tiny", hiden_size=64)
    with pytest.raises(InputError, match="'to_dict' is no setting of FLASHQuadConfig"):
        FLASHQuadConfig.preset("tiny", to_dict=True)
    # names of every configuration, and aliases
    config = FLASHQuadConfig.preset("tiny", s=32, num_labels=3, id2label={0: "a", 1: "b", 2: "c"})
    assert (config.query_key_dim, config.num_labels) == (32, 3)


@pytest.mark.parametrize("config_class", [FLASHQuadConfig, FLASHConfig])
def test_what_follows_from_settings_is_refused_with_those_to_give(config_class):
    for make in (config_class, partial(config_class.preset, "tiny")):
        with pytest.raises(InputError, match="intermediate_size is no setting, got 3072: give expansion_factor"):
            make(intermediate_size=3072)


def test_a_wrong_setting_over_a_preset_is_refused_as_everywhere():
    with pytest.raises(InputError, match="token_shift must lie between 0 and"):
        FLASHQuadConfig.preset("tiny", token_shift=0.7)
