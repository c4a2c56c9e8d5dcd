"""``examples/package_model.py``: what comes with the package is the run that it was made from."""

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForMaskedLM

from flash.inference.fill_mask import MaskFiller

from toy_pretraining import REPOSITORY, run_python

SENTENCE = "今天的天[MASK]很好，我们一起去[MASK]园玩吧！"
EXAMPLE = REPOSITORY / "examples" / "package_model.py"


@pytest.fixture(scope="module")
def packaged(toy_run, toy_dataset, tmp_path_factory):
    output = tmp_path_factory.mktemp("packaged") / "model"
    flags = ["--recipe", "tiny-zh", "--dataset", str(toy_dataset), "--output", str(output)]
    completed = run_python(str(EXAMPLE), str(toy_run), *flags, cwd=REPOSITORY)
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout.startswith(f"{output}: 0.")
    return output


def test_the_files_are_those_that_the_page_promises(packaged):
    assert {path.name for path in packaged.iterdir()} >= {
        "README.md",
        "config.json",
        "curves.png",
        "manifest.json",
        "model.safetensors",
        "recipe.yaml",
        "tokenizer.json",
    }
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in packaged.iterdir())


def test_weights_are_halves_on_disk_and_floats_in_memory(packaged):
    with safe_open(packaged / "model.safetensors", "pt") as weights:
        assert {weights.get_tensor(name).dtype for name in weights.keys()} == {torch.float16}  # noqa: SIM118
    assert AutoModelForMaskedLM.from_pretrained(packaged).dtype == torch.float32


def test_it_fills_masks_as_the_run_does(packaged, toy_run):
    ours, theirs = (MaskFiller(str(folder)).fill(SENTENCE, top_k=3).masks for folder in (packaged, toy_run))
    for mask, expected in zip(ours, theirs, strict=True):
        assert [c.probability for c in mask] == pytest.approx([c.probability for c in expected], rel=1e-2)


def test_the_last_of_several_runs_is_packaged_with_the_curves_of_all(toy_run, toy_dataset, tmp_path):
    first = tmp_path / "first"
    first.mkdir()
    (first / "curves.png").write_bytes(b"of the first run")  # nothing else of it is needed
    flags = ["--recipe", "tiny-zh", "--dataset", str(toy_dataset), "--output", str(tmp_path / "out")]
    completed = run_python(str(EXAMPLE), str(first), str(toy_run), *flags, cwd=REPOSITORY)
    assert completed.returncode == 0, completed.stderr
    assert (tmp_path / "out" / "curves.png").read_bytes() == b"of the first run"
    assert (tmp_path / "out" / "curves-2.png").read_bytes() == (toy_run / "curves.png").read_bytes()
    assert (tmp_path / "out" / "model.safetensors").is_file()


@pytest.mark.parametrize("missing", ["run", "dataset"])
def test_an_unfinished_run_is_refused(toy_run, toy_dataset, tmp_path, missing):
    run, dataset = (tmp_path, toy_dataset) if missing == "run" else (toy_run, tmp_path)
    flags = ["--recipe", "tiny-zh", "--dataset", str(dataset), "--output", str(tmp_path / "out")]
    completed = run_python(str(EXAMPLE), str(run), *flags, cwd=REPOSITORY)
    assert completed.returncode == 1
    assert "is missing: name a finished run" in completed.stderr
    assert not (tmp_path / "out").exists()
