import fsspec
import pytest
from transformers import AutoTokenizer
from typer.testing import CliRunner

from flash.cli import app

TEXT = "今天的天气很好，我们去公园玩。Hello!"


def tokenizer(*arguments):
    return CliRunner().invoke(app, ["tokenizer", *map(str, arguments)])


def test_command_makes_the_folder_and_says_so(tmp_path):
    (tmp_path / "corpus.txt").write_text(TEXT * 2, encoding="utf-8")
    result = tokenizer(tmp_path / "corpus.txt", "--output", tmp_path / "out", "--vocab-size", 100, "--cased")
    assert result.exit_code == 0, result.output
    assert "entries that cover 100.000% of 42 characters" in result.stdout
    assert AutoTokenizer.from_pretrained(str(tmp_path / "out")).tokenize("今Hello") == ["今", "Hello"]


def test_input_may_be_a_url(tmp_path):
    fsspec.filesystem("memory").pipe_file("/tokenizer/corpus/a.txt", TEXT.encode() * 2)
    result = tokenizer("memory://tokenizer/corpus", "--output", tmp_path / "out", "--vocab-size", 100)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["nowhere"], "nowhere does not exist"), (["--vocab-size", "3"], "vocab_size must be at least 100, got 3")],
)
def test_mistake_is_one_line_and_exit_code_2(tmp_path, arguments, message):
    result = tokenizer(*arguments, "--output", tmp_path / "out")
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_help_has_an_example():
    assert "Example:" in tokenizer("--help").stdout


def test_output_is_a_folder_on_a_local_disk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = tokenizer("--output", "s3://bucket/vocab")
    assert done.exit_code == 2
    assert "--output s3://bucket/vocab: a tokenizer is made on a local disk" in done.stderr
    assert not list(tmp_path.iterdir())
