import json

import pytest
from typer.testing import CliRunner

from flash import FLASHQuadConfig, FLASHQuadForCausalLM
from flash.cli import app
from flash.corpus.tokenizer_loading import load_tokenizer

from small_models import SIZES, write_text

FILES = ["attention.png", "inspection.json", "layers.png", "lengths.png"]


@pytest.fixture
def inspect(toy_run, tmp_path):
    text = write_text(tmp_path / "text.txt")

    def run(*arguments, model=toy_run, inputs=(text,)):
        command = ["inspect", model, *inputs, "--output", tmp_path / "out", "--max-length", "32", "--rows", "2"]
        return CliRunner().invoke(app, list(map(str, [*command, *arguments])))

    return run


def one_line(result):
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    return line


def test_numbers_figures_and_tables_are_left(inspect, toy_run, tmp_path):
    result = inspect("--seed", "7")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES
    numbers = json.loads((tmp_path / "out" / "inspection.json").read_text(encoding="utf-8"))
    assert numbers["settings"] == {"max_length": 32, "rows": 2, "seed": 7, "compare_with_untrained": True}
    assert numbers["model"]["name"] == str(toy_run)
    assert len(numbers["trained"]["stack"]["layers"]) == len(numbers["untrained"]["stack"]["layers"]) == 2
    assert "untrained: cosine" in result.stdout
    assert [line for line in result.stdout.splitlines() if line.startswith("wrote ")] == [
        f"wrote {tmp_path / 'out' / name}" for name in ("inspection.json", "layers.png", "attention.png", "lengths.png")
    ]
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_the_untrained_model_can_be_left_out(inspect, tmp_path):
    result = inspect("--no-compare-with-untrained")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "out" / "inspection.json").read_text(encoding="utf-8"))["untrained"] is None
    assert "untrained:" not in result.stdout


def test_an_inspection_is_replaced_only_when_asked(inspect, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "inspection.json").write_text("earlier", encoding="utf-8")
    assert "out exists: pass --overwrite to replace it" in one_line(inspect())
    assert (folder / "inspection.json").read_text(encoding="utf-8") == "earlier"
    assert inspect("--overwrite").exit_code == 0
    assert sorted(path.name for path in folder.iterdir()) == FILES


def test_a_folder_with_other_files_is_never_replaced(inspect, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("text", encoding="utf-8")
    assert "holds thesis.tex, which is none of this command's files" in one_line(inspect("--overwrite"))
    assert (tmp_path / "out" / "thesis.tex").exists()


def test_a_model_that_is_not_there_is_one_line(inspect, tmp_path):
    line = one_line(inspect(model=tmp_path / "nowhere"))
    assert line.startswith(f"flashquad: cannot load a masked language model from {tmp_path}/nowhere: ")
    assert not (tmp_path / "out").exists()


def test_a_causal_model_is_one_line(inspect, tmp_path, toy_vocabulary):
    folder = tmp_path / "causal"
    FLASHQuadForCausalLM(FLASHQuadConfig(**SIZES, query_key_dim=8)).save_pretrained(folder)
    load_tokenizer(toy_vocabulary).save_pretrained(folder)
    assert f"{folder} is a causal language model" in one_line(inspect(model=folder))


def test_text_without_a_long_sentence_is_one_line(inspect, tmp_path):
    (tmp_path / "short.txt").write_text("今天的天气很好，我们", encoding="utf-8")
    line = one_line(inspect(inputs=[tmp_path / "short.txt"]))
    assert f"no sentence of at least 14 tokens without [UNK] in {tmp_path}/short.txt" in line
    assert not (tmp_path / "out").exists()


def test_a_failure_while_drawing_leaves_nothing_half(inspect, tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError("no space left on device")

    monkeypatch.setattr("flash.inspection.output.draw_figures", fail)
    assert "no space left on device" in one_line(inspect())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.txt"]


def test_help_has_an_example():
    result = CliRunner().invoke(app, ["inspect", "--help"])
    assert result.exit_code == 0
    assert "flashquad inspect build/demo/model" in result.stdout
