import json
import os
import shutil

import pytest

import flash
from flash import FLASHQuadForMaskedLM
from flash.errors import InputError
from flash.models.loading import load_masked_lm

from helpers import tiny_config


@pytest.fixture
def folder(tmp_path):
    FLASHQuadForMaskedLM(tiny_config()).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refusal_of(folder, **settings):
    with pytest.raises(InputError) as raised:
        load_masked_lm(str(folder), **settings)
    assert str(raised.value).isprintable()  # one line
    return str(raised.value)


def test_a_whole_model_is_loaded_for_use(folder):
    model = load_masked_lm(str(folder))
    assert isinstance(model, FLASHQuadForMaskedLM)
    assert not model.training


@pytest.mark.parametrize("kind", ["FLASHQuadForSequenceClassification", "FLASHQuadModel"])
def test_a_model_without_a_head_for_masks_is_named(kind, tmp_path, capfd):
    getattr(flash, kind)(tiny_config()).save_pretrained(tmp_path)
    capfd.readouterr()
    assert f"it holds a {kind}, whose weights lack" in refusal_of(tmp_path)
    assert "LOAD REPORT" not in "".join(capfd.readouterr())


def test_the_flag_that_named_the_model_begins_the_message(tmp_path):
    start = f"cannot load a masked language model from {tmp_path}/nope: there is no such folder here"
    assert refusal_of(tmp_path / "nope").startswith(start)
    assert refusal_of(tmp_path / "nope", flag="--init_model").startswith(f"--init_model: {start}")


@pytest.mark.parametrize("layers_or_width", [{"num_hidden_layers": 9}, {"query_key_dim": 32}])
def test_weights_that_do_not_fit_the_config_are_refused(folder, layers_or_width):
    change_config(folder, **layers_or_width)
    message = refusal_of(folder)
    assert "its weights do not fit its config.json" in message
    assert "flash_quad.layers." in message


@pytest.mark.parametrize("value", ["wide", 33])
def test_a_value_that_the_config_refuses_is_named(folder, value):
    change_config(folder, hidden_size=value)
    message = refusal_of(folder)
    assert "hidden_size" in message
    assert str(value) in message
    assert message.endswith("correct its config.json")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"no pickle"])
def test_damaged_weights_of_torch_are_refused(folder, content):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(content)
    assert "its files are damaged" in refusal_of(folder)


def test_damaged_safetensors_are_refused(folder):
    os.truncate(folder / "model.safetensors", 100)
    assert "its files are damaged" in refusal_of(folder)


def test_an_unfinished_run_names_its_newest_checkpoint(folder, tmp_path):
    for step in (5, 10):
        shutil.copytree(folder, tmp_path / "run" / f"checkpoint-{step}")
    (tmp_path / "run" / "checkpoint-20").mkdir()  # nothing in it yet
    assert refusal_of(tmp_path / "run").endswith(f"name its newest checkpoint, {tmp_path}/run/checkpoint-10")


def test_a_folder_without_a_model_says_what_it_lacks(tmp_path):
    assert "the folder has no config.json; name one that" in refusal_of(tmp_path)
