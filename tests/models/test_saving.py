"""A saved model is the model that was saved: bit for bit, in a fresh process, through the Auto classes, in shards."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertTokenizerFast,
)

from flash import (
    FLASHQuadConfig,
    FLASHQuadForMaskedLM,
    FLASHQuadForSequenceClassification,
    FLASHQuadModel,
)

from helpers import CURED, EARLIER, for_each_setting, random_tokens, tiny_config, transformers_warnings
from random_models import random_model

SETTINGS = {
    "earlier": EARLIER,
    "cured": CURED,
    "cured with layer norm": CURED | {"norm_type": "layer_norm"},
    "cured with rms norm": CURED | {"norm_type": "rms_norm"},
    "rotary product": {"relative_bias": "rotary_product"},
    "untied": CURED | {"tie_word_embeddings": False},
}


def load_whole(model_class, folder):
    """The model in evaluation mode; fails on any key too many or too few and on any warning."""
    with transformers_warnings() as warnings:
        model, report = model_class.from_pretrained(folder, output_loading_info=True)
    assert {kind: keys for kind, keys in report.items() if keys} == {}
    assert warnings == []
    return model.eval()


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
@pytest.mark.parametrize(
    ("model_class", "auto_class", "output"),
    [
        (FLASHQuadModel, AutoModel, "last_hidden_state"),
        (FLASHQuadForMaskedLM, AutoModelForMaskedLM, "logits"),
        (FLASHQuadForSequenceClassification, AutoModelForSequenceClassification, "logits"),
    ],
)
def test_a_reloaded_model_gives_the_same_bits(model_class, auto_class, output, settings, tmp_path):
    torch.manual_seed(0)
    model = model_class(tiny_config(**settings)).eval()
    model.save_pretrained(tmp_path)
    expected = model(random_tokens(2, 7))[output]
    for loader in (model_class, auto_class):
        reloaded = load_whole(loader, tmp_path)
        assert type(reloaded) is model_class
        assert torch.equal(reloaded(random_tokens(2, 7))[output], expected)


IN_A_FRESH_PROCESS = """
import sys, torch
import flash
from transformers import AutoModelForMaskedLM
for folder in sys.argv[1:]:
    model, report = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    input_ids = torch.load(f"{folder}/input_ids.pt")
    torch.save(model(input_ids).logits.detach(), f"{folder}/logits.pt")
"""


def test_a_fresh_process_gives_the_same_bits(tmp_path):
    expected = {}
    for name, settings in {"earlier": EARLIER, "cured": CURED}.items():
        model, _ = random_model(**settings)
        model.save_pretrained(tmp_path / name)
        torch.save(random_tokens(2, 7), tmp_path / name / "input_ids.pt")
        expected[name] = model(random_tokens(2, 7)).logits
    folders = [str(tmp_path / name) for name in expected]
    subprocess.run([sys.executable, "-c", IN_A_FRESH_PROCESS, *folders], check=True)
    for name, logits in expected.items():
        assert torch.equal(torch.load(tmp_path / name / "logits.pt"), logits), name


def test_names_on_disk_are_those_of_the_modules(tmp_path):
    FLASHQuadForMaskedLM(tiny_config(**CURED, num_hidden_layers=1)).save_pretrained(tmp_path)
    assert set(load_file(tmp_path / "model.safetensors")) == {
        "flash_quad.embeddings.word_embeddings.weight",
        "flash_quad.embeddings.token_type_embeddings.weight",
        "flash_quad.embeddings.position_embeddings.scale",
        "flash_quad.embeddings.norm.scale",
        "flash_quad.layers.0.norm.scale",
        "flash_quad.layers.0.in_proj.weight",
        "flash_quad.layers.0.in_proj.bias",
        "flash_quad.layers.0.offset_scale.gain",
        "flash_quad.layers.0.offset_scale.offset",
        "flash_quad.layers.0.relative_bias.weight",
        "flash_quad.layers.0.attention_norm.weight",
        "flash_quad.layers.0.out_proj.weight",
        "flash_quad.layers.0.out_proj.bias",
        "flash_quad.final_norm.scale",
        "lm_head.dense.weight",
        "lm_head.dense.bias",
        "lm_head.norm.scale",
        "lm_head.bias",
    }


@for_each_setting
def test_a_model_in_many_shards_reloads_bit_for_bit(settings, tmp_path):
    model, _ = random_model(**settings)
    model.save_pretrained(tmp_path, max_shard_size="4KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text(encoding="utf-8"))
    assert len(set(index["weight_map"].values())) > 3
    reloaded = load_whole(FLASHQuadForMaskedLM, tmp_path)
    assert torch.equal(reloaded(random_tokens(2, 7)).logits, model(random_tokens(2, 7)).logits)


def test_a_cured_model_in_the_original_format_reloads_bit_for_bit(tmp_path):
    # what the earlier code lacked keeps its present name there
    model, _ = random_model(**CURED)
    model.save_pretrained(tmp_path, save_original_format=True)
    names = set(load_file(tmp_path / "model.safetensors"))
    assert {"flash_quad.encoder.layer.1.uv.weight", "flash_quad.layers.1.attention_norm.weight"} <= names
    reloaded = load_whole(FLASHQuadForMaskedLM, tmp_path)
    assert torch.equal(reloaded(random_tokens(2, 7)).logits, model(random_tokens(2, 7)).logits)


@for_each_setting
def test_the_encoder_of_a_masked_language_model_serves_a_classifier(settings, tmp_path):
    model, _ = random_model(**settings)
    model.save_pretrained(tmp_path)
    classifier = FLASHQuadForSequenceClassification.from_pretrained(tmp_path, num_labels=5).eval()
    assert classifier(random_tokens(2, 7)).logits.shape == (2, 5)
    expected = model.flash_quad(random_tokens(2, 7)).last_hidden_state
    assert torch.equal(classifier.flash_quad(random_tokens(2, 7)).last_hidden_state, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_precision_model_reloads_in_its_dtype(dtype, tmp_path):
    model, _ = random_model(**CURED)
    model.to(dtype).save_pretrained(tmp_path)
    reloaded = load_whole(FLASHQuadForMaskedLM, tmp_path)
    assert {parameter.dtype for parameter in reloaded.parameters()} == {dtype}
    assert torch.equal(reloaded(random_tokens(2, 7)).logits, model(random_tokens(2, 7)).logits)


def test_auto_classes_know_the_model_type(tmp_path):
    config = tiny_config(**CURED)
    config.save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path) == FLASHQuadConfig.from_pretrained(tmp_path)
    assert isinstance(AutoConfig.for_model("flash_quad"), FLASHQuadConfig)
    assert type(AutoModel.from_config(config)) is FLASHQuadModel
    assert type(AutoModelForMaskedLM.from_config(config)) is FLASHQuadForMaskedLM
    assert type(AutoModelForSequenceClassification.from_config(config)) is FLASHQuadForSequenceClassification


def test_the_auto_tokenizer_of_a_folder_without_tokenizer_class_reads_its_vocabulary(tmp_path):
    tiny_config().save_pretrained(tmp_path)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "天", "气", "好"]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(tokenizer, BertTokenizerFast)
    assert tokenizer("天气好")["input_ids"] == [2, 5, 6, 7, 3]
    assert tokenizer("天[MASK]")["input_ids"] == [2, 5, 4, 3]
