"""The model that comes with the package: whole, small, and better than chance."""

import json
import re
from pathlib import Path

import pytest
from safetensors import safe_open
from transformers import AutoTokenizer, pipeline

import flash
from flash.corpus.tokenizer_loading import load_tokenizer
from flash.errors import InputError
from flash.inference.fill_mask import MaskFiller
from flash.models.base_configuration import own_settings
from flash.models.configuration_flash_quad import FLASHQuadConfig
from flash.models.loading import load_masked_lm
from flash.packaged import packaged_or_named
from flash.training.recipes import load_recipe

FOLDER = Path(packaged_or_named("tiny-zh"))
LARGEST_BYTES = 16_000_000


@pytest.fixture(scope="module")
def filler():
    return MaskFiller()


def test_the_folder_holds_what_its_card_names_and_is_small():
    files = {path.name for path in FOLDER.iterdir()}
    assert {"README.md", "config.json", "manifest.json", "model.safetensors", "recipe.yaml", "tokenizer.json"} <= files
    figures = re.findall(r"!\[.*\]\((.+)\)", (FOLDER / "README.md").read_text(encoding="utf-8"))
    assert "curves.png" in figures
    assert set(figures) <= files
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= LARGEST_BYTES


def test_its_recipe_is_the_recipe_of_its_name_and_made_its_configuration():
    assert (FOLDER / "recipe.yaml").read_text() == (Path(flash.__file__).parent / "recipes/tiny-zh.yaml").read_text()
    settings = load_recipe("tiny-zh")["config"]
    config = FLASHQuadConfig.preset(settings.pop("preset"), **settings, vocab_size=8000)
    written = json.loads((FOLDER / "config.json").read_text())
    names = (written.keys() & own_settings(FLASHQuadConfig)) - {"use_cache"}  # training switches that off
    assert len(names) > 25
    assert {name: written[name] for name in names} == {name: getattr(config, name) for name in names}


def test_no_weight_is_lost_or_infinite():
    with safe_open(FOLDER / "model.safetensors", "pt") as weights:
        assert all(weights.get_tensor(name).isfinite().all() for name in weights.keys())  # noqa: SIM118


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("今天的天[MASK]很好", "气"),
        ("天气预报说今天的天[MASK]很好。", "气"),
        ("中华人民[MASK]和国", "共"),
        ("本法自公布之日起[MASK]行。", "施"),
        ("用户可以在终[MASK]中运行这个命令。", "端"),
    ],
)
def test_it_knows_frequent_words(filler, text, answer):
    ((*candidates,),) = filler.fill(text, top_k=3).masks
    assert answer in [candidate.token for candidate in candidates]


def test_transformers_loads_it_by_its_classes():
    fill_mask = pipeline("fill-mask", model=str(FOLDER), tokenizer=AutoTokenizer.from_pretrained(FOLDER))
    assert fill_mask("中华人民[MASK]和国")[0]["token_str"] == "共"


def test_its_name_stands_for_it_unless_a_folder_is_called_so(tmp_path, monkeypatch):
    assert load_tokenizer("tiny-zh").get_vocab() == AutoTokenizer.from_pretrained(FOLDER).get_vocab()
    assert load_masked_lm("tiny-zh").num_parameters() == load_masked_lm(str(FOLDER)).num_parameters()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny-zh").mkdir()
    with pytest.raises(InputError, match=r"from tiny-zh: the folder has no config\.json"):
        load_masked_lm("tiny-zh")
