"""Folders that name this package as their code."""

import json
import os
import subprocess
import sys

import pytest
import torch

import flash
from flash import FLASHConfig, FLASHForMaskedLM, FLASHQuadConfig, FLASHQuadForCausalLM

SIZES = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2, "query_key_dim": 8}
LOAD = """
import sys
import torch, transformers
name, folder = sys.argv[1:]
model = getattr(transformers, name).from_pretrained(folder, trust_remote_code=True).eval()
print(type(model).__module__, type(model).__name__, type(model.config).__name__)
torch.save(model(torch.arange(1, 10)[None]).logits, folder + "/logits.pt")
"""
# as in an environment without the package
BLOCK = """
import sys, importlib.abc
class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "flash":
            raise ModuleNotFoundError(f"No module named {name!r}")
sys.meta_path.insert(0, Block())
"""


@pytest.fixture
def registered(request):
    """Register a class for an auto class, for the time of a test."""
    model_class, auto_class = request.param
    model_class.register_for_auto_class(auto_class)
    yield model_class, auto_class
    model_class._registered_auto_class = None


def in_another_process(code, *arguments, cache):
    environment = os.environ | {"HF_MODULES_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, env=environment, check=False
    )


@pytest.mark.parametrize(
    "registered",
    [(FLASHForMaskedLM, "AutoModelForMaskedLM"), (FLASHQuadForCausalLM, "AutoModelForCausalLM")],
    indirect=True,
    ids=["FLASHForMaskedLM", "FLASHQuadForCausalLM"],
)
def test_a_folder_loads_where_the_package_is_and_says_what_to_install_where_it_is_not(registered, tmp_path):
    model_class, auto_class = registered
    torch.manual_seed(0)
    model = model_class(model_class.config_class(**SIZES)).eval()
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config_name = model_class.config_class.__name__
    assert config["auto_map"] == {
        "AutoConfig": f"modeling_flashquad.{config_name}",
        auto_class: f"modeling_flashquad.{model_class.__name__}",
    }
    loaded = in_another_process(LOAD, auto_class, folder, cache=tmp_path / "cache")
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.split() == [model_class.__module__, model_class.__name__, config_name]
    assert torch.equal(torch.load(folder / "logits.pt"), model(torch.arange(1, 10)[None]).logits)

    missing = in_another_process(BLOCK + LOAD, auto_class, folder, cache=tmp_path / "cache")
    assert missing.returncode == 1
    assert missing.stderr.strip().splitlines()[-1] == (
        "ImportError: this model needs flashquad: pip install . in its checkout (on PyPI the name is another project's)"
    )


def test_an_unregistered_class_leaves_no_code(tmp_path):
    FLASHForMaskedLM(FLASHConfig(**SIZES)).save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    assert "auto_map" not in json.loads((tmp_path / "config.json").read_text())


def test_a_registered_configuration_saves_its_door_alone(tmp_path):
    FLASHQuadConfig.register_for_auto_class()
    try:
        FLASHQuadConfig(**SIZES).save_pretrained(tmp_path)
    finally:
        FLASHQuadConfig._registered_auto_class = None
    assert json.loads((tmp_path / "config.json").read_text())["auto_map"] == {
        "AutoConfig": "modeling_flashquad.FLASHQuadConfig"
    }
    assert "from flash import FLASHQuadConfig" in (tmp_path / "modeling_flashquad.py").read_text()


@pytest.mark.parametrize("registered", [(FLASHForMaskedLM, "AutoModelForMaskedLM")], indirect=True)
def test_a_model_that_came_from_the_hub_names_its_own_folder_when_saved_again(registered, tmp_path):
    model = FLASHForMaskedLM(FLASHConfig(**SIZES))
    model.config.auto_map = {
        "AutoConfig": "someone/model--modeling_flashquad.FLASHConfig",
        "AutoModel": "someone/model--modeling_other.Something",
        "AutoTokenizer": [None, "someone/model--tokenization.Tokenizer"],
    }
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["auto_map"] == {
        "AutoModel": "someone/model--modeling_other.Something",
        "AutoTokenizer": [None, "someone/model--tokenization.Tokenizer"],
        "AutoConfig": "modeling_flashquad.FLASHConfig",
        "AutoModelForMaskedLM": "modeling_flashquad.FLASHForMaskedLM",
    }


def test_every_public_class_can_be_registered():
    for name in flash.__all__:
        assert callable(getattr(flash, name).register_for_auto_class)


@pytest.mark.parametrize("registered", [(FLASHForMaskedLM, "AutoModelForMaskedLM")], indirect=True)
def test_the_door_is_written_with_the_configuration_and_by_the_main_process_alone(registered, tmp_path):
    model = FLASHForMaskedLM(FLASHConfig(**SIZES))
    model.save_pretrained(tmp_path / "other_rank", is_main_process=False)
    assert not (tmp_path / "other_rank" / "modeling_flashquad.py").exists()
    # an upload takes what was written after the time it notes first, so every saving writes the door again
    door = tmp_path / "model" / "modeling_flashquad.py"
    model.save_pretrained(door.parent)
    os.utime(door, (0, 0))
    model.save_pretrained(door.parent)
    assert door.stat().st_mtime > 0


@pytest.mark.parametrize(
    "reference", ["modeling_flashquad.FLASHModel\nprint(1)", "modeling_flashquad.", ["modeling_flashquad.X", None]]
)
def test_what_a_configuration_holds_does_not_become_code(reference, tmp_path):
    config = FLASHConfig.from_dict({"model_type": "flash", "auto_map": {"AutoModel": reference}})
    FLASHForMaskedLM(FLASHConfig(**SIZES, auto_map=config.auto_map)).save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
