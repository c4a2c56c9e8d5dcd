"""The commands as the earlier repository's README types them."""

import runpy
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForMaskedLM

from flash import FLASHForMaskedLM, FLASHQuadForMaskedLM
from flash.corpus.tokenizer_loading import load_tokenizer

from toy_pretraining import (
    EARLIER_README_FLAGS,
    MAX_LENGTH,
    REPOSITORY,
    TOY_CONFIG,
    earlier_folder,
    earlier_references,
    log_history,
    random_texts,
    run_python,
)

SCRIPT = REPOSITORY / "run_mlm_wwm.py"
# what makes the run small; every other flag has the README's own value
SMALL = {
    "max_seq_length": MAX_LENGTH,
    "config": ",".join(f"{name}={value}" for name, value in TOY_CONFIG.items()),
    "max_steps": 4,
    "logging_steps": 1,
    "save_steps": 3,
    "warmup_steps": 2,
    "per_device_train_batch_size": 2,
}


@pytest.fixture
def working_folder(toy_vocabulary, tmp_path):
    tokenizer = load_tokenizer(toy_vocabulary)
    texts = random_texts(20)
    references = [earlier_references(text, tokenizer) for text in texts]
    earlier_folder(tmp_path / "clue_small_wwm_data", texts, references)
    return tmp_path


def readme_flags(**changes):
    flags = EARLIER_README_FLAGS | {name: str(value) for name, value in changes.items()}
    return ["--do_train", *(part for name, value in flags.items() for part in (f"--{name}", value)), "--fp16"]


def run_script(monkeypatch, *arguments):
    """Run the script in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    except SystemExit as stopped:
        return stopped.code
    return 0


def test_run_mlm_wwm_trains_with_the_flags_of_the_readme(working_folder, toy_vocabulary):
    ran = run_python(SCRIPT, *readme_flags(tokenizer_name=toy_vocabulary, **SMALL), cwd=working_folder)
    assert ran.returncode == 0, ran.stderr
    output_dir = working_folder / "wwm_flash_small"
    assert [entry["step"] for entry in log_history(output_dir) if {"loss", "mlm_acc"} <= entry.keys()] == [1, 2, 3, 4]
    assert {path.name for path in output_dir.glob("checkpoint-*")} == {"checkpoint-3", "checkpoint-4"}
    events = EventAccumulator(str(output_dir / "logs"))
    events.Reload()
    assert {"train/loss", "train/mlm_acc"} <= set(events.Tags()["scalars"])
    assert "run_mlm_wwm.py: --fp16 has no effect on a CPU: the run is in float32" in ran.stderr
    assert "model        wwm_flash_small" in ran.stdout
    config = FLASHQuadForMaskedLM.from_pretrained(output_dir).config
    assert {name: getattr(config, name) for name in TOY_CONFIG} == TOY_CONFIG
    card = (output_dir / "README.md").read_text(encoding="utf-8")
    assert "run_mlm_wwm.py --do_train --tokenizer_name" in card
    assert "1e-4 --weight_decay 0.01 --adam_epsilon 1e-6" in card


def test_the_help_of_run_mlm_wwm_names_the_recipe_an_example_and_every_flag(monkeypatch, capsys):
    assert run_script(monkeypatch, "--help") == 0
    shown = capsys.readouterr().out
    assert "--recipe" in shown
    assert "Example: python run_mlm_wwm.py" in shown
    assert "--mlm_probability" in shown


def test_run_mlm_wwm_trains_flash_where_it_is_named(working_folder, toy_vocabulary, monkeypatch, capsys):
    monkeypatch.chdir(working_folder)
    small = SMALL | {"config": f"{SMALL['config']},chunk_size=8", "max_steps": 2, "dataloader_num_workers": 0}
    flags = ["--model_name", "flash", *readme_flags(tokenizer_name=toy_vocabulary, **small)]
    assert run_script(monkeypatch, *flags) == 0
    model = AutoModelForMaskedLM.from_pretrained("wwm_flash_small")
    assert isinstance(model, FLASHForMaskedLM)
    assert model.config.chunk_size == 8
    card = (working_folder / "wwm_flash_small" / "README.md").read_text(encoding="utf-8")
    assert "A FLASH masked language model" in card
    assert "chunk_size" in card
    # the other architecture does not go on from these weights
    assert run_script(monkeypatch, *flags[2:]) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert "--config: 'chunk_size' is no setting of FLASHQuadConfig" in line


def test_run_mlm_wwm_takes_a_recipe_too(working_folder, toy_vocabulary, monkeypatch, capsys):
    recipe = working_folder / "run.yaml"
    recipe.write_text("max_steps: 2\nsave_steps: 2\nlogging_steps: 1\n")
    monkeypatch.chdir(working_folder)
    flags = ["--tokenizer_name", str(toy_vocabulary), "--config", SMALL["config"], "--max_seq_length", str(MAX_LENGTH)]
    assert run_script(monkeypatch, "--recipe", str(recipe), "--output_dir", "out", *flags) == 0
    assert [entry["step"] for entry in log_history(working_folder / "out") if "loss" in entry] == [1, 2]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--train_dir", "nowhere"],
            "nowhere: no such dataset folder; make one with `flashquad prepare` or `python run_c",
        ),
        (["--model_name", "bert"], "--model_name bert: there is flashquad"),
        (["--no_such_flag"], "unknown flag '--no_such_flag'"),
        (["--max_steps", "some"], "invalid int value: 'some'"),
        (["--tokenizer_name", "nowhere/vocab.txt"], "tokenizer 'nowhere/vocab.txt' is no file or folder here"),
    ],
)
def test_run_mlm_wwm_answers_a_mistake_in_one_line(working_folder, toy_vocabulary, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(working_folder)
    assert run_script(monkeypatch, "--tokenizer_name", str(toy_vocabulary), *flags) == 2
    shown = capsys.readouterr()
    (line,) = shown.err.splitlines()
    assert line.startswith("run_mlm_wwm.py: ")
    assert message in line
    assert [path.name for path in working_folder.iterdir()] == ["clue_small_wwm_data"]


@pytest.mark.parametrize("flag", ["--help", "--help-all"])
def test_run_mlm_wwm_tells_its_own_usage(monkeypatch, capsys, flag):
    assert run_script(monkeypatch, flag) == 0
    assert capsys.readouterr().out.startswith("usage: run_mlm_wwm.py [")
