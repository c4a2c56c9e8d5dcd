import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertForMaskedLM

from flash import FLASHQuadConfig, FLASHQuadForCausalLM, FLASHQuadForMaskedLM, FLASHQuadForSequenceClassification
from flash.corpus.embedded import embedded_corpus
from flash.corpus.tokenizer_loading import load_tokenizer
from flash.corpus.tokenizer_training import TokenizerSettings, train_tokenizer
from flash.errors import InputError
from flash.inspection import Inspection, InspectionSettings, draw_figures, inspect_model
from flash.inspection.loading import load_model_and_tokenizer, untrained_like
from flash.inspection.tables import format_tables

from helpers import CURED
from small_models import ARCHITECTURES, SIZES, small_model, write_text

SETTINGS = InspectionSettings(max_length=32, rows=3, seed=5)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("text") / "text.txt")


@pytest.fixture(scope="module")
def saved(toy_vocabulary, tmp_path_factory):
    """A function that saves a model beside its tokenizer and names the folder."""
    tokenizer = load_tokenizer(toy_vocabulary)

    def save(model):
        folder = tmp_path_factory.mktemp("model")
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return str(folder)

    return save


@pytest.fixture(scope="module")
def inspection(saved, text):
    return inspect_model(saved(small_model("flash_quad")), [text], SETTINGS)


def all_numbers(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for item in value for number in all_numbers(item)]
    return [value] if isinstance(value, float) else []


def test_the_dictionary_is_json_of_finite_numbers(inspection):
    described = inspection.to_dict()
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    numbers = all_numbers(described)
    assert len(numbers) > 100
    assert all(map(math.isfinite, numbers))


def test_what_was_measured_is_said(inspection):
    assert isinstance(inspection, Inspection)
    assert inspection.settings == {"max_length": 32, "rows": 3, "seed": 5, "compare_with_untrained": True}
    assert (inspection.model["class"], inspection.model["model_type"]) == ("FLASHQuadForMaskedLM", "flash_quad")
    assert inspection.model["configuration"]["token_shift"] == 0.25
    assert "attribute_map" not in inspection.model["configuration"]
    assert inspection.text["rows"] == 3
    assert inspection.text["documents"] < 12  # enough for the longest input, and no more
    assert set(inspection.versions) == {"flashquad", "torch", "transformers", "tokenizers"}
    for measures in (inspection.trained, inspection.untrained):
        assert [layer.layer for layer in measures.stack.layers] == [1, 2]
        assert [one.length for one in measures.lengths[3:]] == [64, 128, 256, 512]
    assert inspection.text["masked_tokens"] == inspection.trained.lengths[0].masked_tokens


def test_the_seed_decides_every_number(saved, text, inspection):
    folder = saved(small_model("flash_quad"))
    again = inspect_model(folder, [text], SETTINGS)
    assert (again.trained, again.untrained, again.text) == (inspection.trained, inspection.untrained, inspection.text)
    other = inspect_model(folder, [text], InspectionSettings(max_length=32, rows=3, seed=6))
    assert other.trained != inspection.trained
    assert other.untrained != inspection.untrained


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_measured_and_drawn(saved, text, tmp_path, architecture):
    settings = InspectionSettings(max_length=32, rows=2, compare_with_untrained=False)
    inspection = inspect_model(saved(small_model(architecture)), [text], settings)
    assert inspection.untrained is None
    assert inspection.model["model_type"] == architecture
    assert all(layer.finite and layer.update.mean > 0.01 for layer in inspection.trained.stack.layers)
    paths = draw_figures(inspection, tmp_path)
    assert [path.name for path in paths] == ["layers.png", "attention.png", "lengths.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_the_untrained_model_is_a_new_one_of_the_same_configuration():
    model = small_model("flash", seed=1)
    state = torch.random.get_rng_state()
    fresh, again, other = (untrained_like(model, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    weights = [one.base_model.layers[0].in_proj.weight for one in (model, fresh, again, other)]
    assert torch.equal(weights[1], weights[2])
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[3])
    assert type(fresh) is type(model)
    assert fresh.config.to_dict() == model.config.to_dict()
    assert not fresh.training


def test_a_model_of_half_precision_is_measured_in_float32(saved):
    model, _ = load_model_and_tokenizer(saved(small_model("flash_quad").to(torch.bfloat16)))
    assert model.dtype == torch.float32


def test_by_default_rows_are_as_long_as_the_model_was_trained_with(saved, text):
    settings = InspectionSettings(rows=1, compare_with_untrained=False)
    model = small_model("flash_quad", max_position_embeddings=40)
    assert inspect_model(saved(model), [text], settings).settings["max_length"] == 40


def test_without_files_the_text_that_comes_along_is_read_and_named_the_same_everywhere(tmp_path):
    train_tokenizer([embedded_corpus()], tmp_path / "model", TokenizerSettings(vocab_size=2000))
    small_model("flash_quad", vocab_size=2000).save_pretrained(tmp_path / "model")
    settings = InspectionSettings(max_length=32, rows=3, compare_with_untrained=False)
    inspection = inspect_model(str(tmp_path / "model"), settings=settings)
    assert inspection.text["inputs"] == ["everyday_zh"]
    assert inspection.text["rows"] == 3
    assert inspection.text["sentences"] > 5


def test_tables_have_a_line_for_each_layer_and_each_length(inspection):
    lines = format_tables(inspection).splitlines()
    header, first, second = lines[2:5]
    assert header.split()[:3] == ["layer", "cosine", "update"]
    assert (first.split()[0], second.split()[0]) == ("1", "2")
    assert len(first) == len(second) == len(header)
    assert sum(line.startswith("within") for line in lines) == 4
    assert any(line.startswith("padded left") for line in lines)


def test_a_model_that_is_the_identity_is_warned_of(saved, text):
    model = small_model("flash_quad")
    for layer in model.base_model.layers:
        torch.nn.init.zeros_(layer.out_proj.weight)
        torch.nn.init.zeros_(layer.out_proj.bias)
    inspection = inspect_model(saved(model), [text], SETTINGS)
    sentence = "layers 1 to 2 of 2: change the stream by less than 1% (mean |output - input| / |input|)"
    assert inspection.warnings[0] == sentence
    assert f"warning: {sentence}" in format_tables(inspection)


@pytest.mark.filterwarnings("error")
def test_a_model_whose_name_the_font_cannot_write_is_drawn_under_that_of_its_class(inspection, tmp_path):
    named = replace(inspection, model=inspection.model | {"name": "runs/模型"})
    drawn = draw_figures(named, tmp_path)[0].read_bytes()
    in_ascii = replace(inspection, model=inspection.model | {"name": "FLASHQuadForMaskedLM"})
    assert draw_figures(in_ascii, tmp_path)[0].read_bytes() == drawn


@pytest.mark.filterwarnings("error")
def test_a_model_without_any_usable_number_is_drawn_and_listed_all_the_same(saved, text, tmp_path):
    model = small_model("flash_quad")
    with torch.no_grad():
        model.base_model.layers[0].out_proj.bias[0] = float("inf")
    inspection = inspect_model(saved(model), [text], SETTINGS)
    assert "layers 1 to 2 of 2: give numbers that are not finite" in inspection.warnings
    assert all(math.isfinite(number) for number in all_numbers(inspection.to_dict()))
    assert len(draw_figures(inspection, tmp_path)) == 3
    assert format_tables(inspection).splitlines()[-1].startswith("warning: ")


def test_a_checkpoint_under_the_earlier_names_gives_the_same_numbers(saved, text, toy_vocabulary, tmp_path):
    model = FLASHQuadForMaskedLM(FLASHQuadConfig(**SIZES, query_key_dim=8, initializer_range=0.3))
    model.save_pretrained(tmp_path, save_original_format=True)
    load_tokenizer(toy_vocabulary).save_pretrained(tmp_path)
    settings = InspectionSettings(max_length=32, rows=2, compare_with_untrained=False)
    earlier, present = (inspect_model(name, [text], settings) for name in (str(tmp_path), saved(model)))
    assert "flash_quad.encoder.layer.0.uv.weight" in load_file(tmp_path / "model.safetensors")
    assert earlier.trained == present.trained


def test_a_causal_model_is_refused(saved):
    folder = saved(FLASHQuadForCausalLM(FLASHQuadConfig(**SIZES, query_key_dim=8, **CURED)))
    with pytest.raises(InputError, match="is a causal language model; inspect scores masked tokens: name a masked"):
        load_model_and_tokenizer(folder)


def test_a_model_without_the_head_is_refused(saved):
    folder = saved(FLASHQuadForSequenceClassification(FLASHQuadConfig(**SIZES, query_key_dim=8)))
    with pytest.raises(InputError, match="cannot load a masked language model from"):
        load_model_and_tokenizer(folder)


def test_a_model_of_another_library_is_refused(saved):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    folder = saved(BertForMaskedLM(BertConfig(vocab_size=SIZES["vocab_size"], **sizes)))
    with pytest.raises(InputError, match="is a BertForMaskedLM, whose layers are no gated attention units"):
        load_model_and_tokenizer(folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_length": 31}, "max_length must be at least 32, got 31: sentences have up to 30 tokens"),
        ({"max_length": 8193}, "max_length must be at most 8192, got 8193"),
        ({"rows": 0}, "rows must be at least 1, got 0"),
        ({"seed": -1}, r"seed must lie between 0 and 2\^63 - 1, got -1"),
        ({"seed": 2**63}, r"seed must lie between 0 and 2\^63 - 1, got 9223372036854775808"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        InspectionSettings(**settings)
