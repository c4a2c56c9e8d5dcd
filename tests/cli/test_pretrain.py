import sys

import pytest
import yaml
from typer.testing import CliRunner

from flash.cli import app

from toy_pretraining import TOY_CONFIG, curve, toy_flags


@pytest.fixture
def pretrain(monkeypatch):
    def run(*arguments):
        command = ["pretrain", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", ["/some/where/bin/flashquad", *command])
        return CliRunner().invoke(app, command)

    return run


def test_flags_train_and_the_places_of_the_results_are_printed(pretrain, toy_dataset, toy_run, tmp_path):
    nothing = tmp_path / "nothing.yaml"
    nothing.write_text("{}")
    result = pretrain("--recipe", nothing, *toy_flags(toy_dataset, tmp_path / "out"))
    assert result.exit_code == 0, result.stderr
    assert curve(tmp_path / "out") == curve(toy_run)  # the same settings as flags and as Python arguments
    assert f"model        {tmp_path}/out" in result.stdout
    assert f"tensorboard --logdir {tmp_path}/out/logs" in result.stdout
    assert '"perplexity": ' in result.stdout


def test_the_card_has_the_command_as_it_was_typed(pretrain, toy_dataset, tmp_path):
    flags = toy_flags(toy_dataset, tmp_path / "out", max_steps=1)
    assert pretrain(*flags).exit_code == 0
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert f"flashquad pretrain {' '.join(flags)}" in card


def test_a_recipe_trains_and_flags_go_over_it(pretrain, toy_dataset, tmp_path):
    recipe = tmp_path / "run.yaml"
    recipe.write_text(yaml.safe_dump({"config": TOY_CONFIG, "max_seq_length": 64, "max_steps": 9, "save_steps": 9}))
    options = ("--recipe", recipe, "--train_dir", toy_dataset, "--output_dir", tmp_path / "out")
    result = pretrain(*options, "--max_steps", "2", "--config", "hidden_size=16")
    assert result.exit_code == 0, result.stderr
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "2 steps" in card
    assert '"hidden_size": 16' in card
    assert '"query_key_dim": 16' in card


def test_the_same_command_again_goes_on(pretrain, toy_dataset, tmp_path):
    flags = toy_flags(toy_dataset, tmp_path / "out", max_steps=3)
    pretrain(*flags)
    again = pretrain(*flags)
    assert again.exit_code == 0
    assert f"resume from {tmp_path}/out/checkpoint-3" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--train_dir", "nowhere", "--tokenizer_name", "{vocabulary}"],
            "nowhere: no such dataset folder; make one with",
        ),
        (["--train_dir", "nowhere"], "--train_dir nowhere: no such folder; make one with `flashquad prepare`"),
        (["--recipe", "huge"], "no recipe 'huge': it is neither a file nor one of "),
        (["--max_stepz", "3"], "unknown flag '--max_stepz'; see `flashquad pretrain --help`"),
        (["--max_steps", "many"], "invalid int value: 'many'"),
        (["--model_name", "bert"], "--model_name bert: there is flashquad"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(pretrain, toy_vocabulary, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = pretrain(*(argument.format(vocabulary=toy_vocabulary) for argument in arguments))
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("flashquad: ")
    assert message in line
    assert not list(tmp_path.iterdir())


def test_output_that_exists_is_one_line_too(pretrain, toy_dataset, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    result = pretrain(*toy_flags(toy_dataset, tmp_path / "out"))
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert "holds notes.txt but no whole checkpoint; name another --output_dir, or pass --overwrite_output_dir" in line


@pytest.mark.parametrize(
    ("flag", "shown"),
    [("--help", "Example:  flashquad pretrain"), ("--help", "--model_name"), ("--help-all", "--adam_beta1")],
)
def test_help_is_short_or_complete(pretrain, flag, shown):
    result = pretrain(flag)
    assert result.exit_code == 0
    assert shown in result.stdout


@pytest.mark.parametrize("flag", ["--train_dir", "--validation_dir"])
def test_an_address_is_passed_on_as_it_was_typed(pretrain, toy_dataset, tmp_path, flag):
    flags = [*toy_flags(toy_dataset, tmp_path / "out"), flag, "memory://bucket/nowhere"]
    result = pretrain(*flags, "--tokenizer_name", toy_dataset / "tokenizer")
    assert result.exit_code == 2
    assert "memory://bucket/nowhere has no manifest.json" in result.stderr
