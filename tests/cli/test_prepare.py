import json
import runpy
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from typer.testing import CliRunner

from flash.cli import app
from flash.corpus.tokenizer_loading import SPECIAL_TOKENS, load_tokenizer
from flash.data.token_dataset import TokenDataset
from flash.data.token_folder import open_token_folder

ROOT = Path(__file__).parents[2]
TEXT = "今天的天气很好，我们去公园玩。"


@pytest.fixture
def vocab(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*SPECIAL_TOKENS, *sorted(set(TEXT))]), encoding="utf-8")
    return path


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("\n\n".join([TEXT] * 5), encoding="utf-8")
    return path


def prepare(*arguments):
    return CliRunner().invoke(app, ["prepare", *map(str, arguments)])


def test_command_makes_tokens_that_pretraining_opens_and_says_so(vocab, corpus, tmp_path):
    result = prepare(corpus, "--tokenizer", vocab, "--output", tmp_path / "out", "--max-length", 32)
    assert result.exit_code == 0, result.output
    assert "5 rows, 85 tokens, 75 characters from 5 documents" in result.stdout
    rows = TokenDataset(open_token_folder(tmp_path / "out", load_tokenizer(vocab)), max_length=32)
    assert len(rows) == 5


def test_text_is_made_where_it_is_asked_for(vocab, corpus, tmp_path):
    flags = ["--format", "text", "--max-length", 32]
    result = prepare(corpus, "--tokenizer", vocab, "--output", tmp_path / "out", *flags)
    assert result.exit_code == 0, result.output
    assert "5 blocks, 75 tokens, 75 characters from 5 documents" in result.stdout
    assert datasets.load_from_disk(str(tmp_path / "out"))["text"][:] == [TEXT] * 5


def test_options_reach_the_manifest(vocab, tmp_path):
    (tmp_path / "in.jsonl").write_bytes(json.dumps({"content": TEXT}, ensure_ascii=False).encode("gb18030"))
    result = prepare(
        tmp_path / "in.jsonl", "--tokenizer", vocab, "--output", tmp_path / "out", "--max-length", 64,
        "--min-block-chars", 5, "--json-key", "content", "--encoding", "gb18030", "--document-separator", "###",
        "--format", "text",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    options = json.loads((tmp_path / "out" / "manifest.json").read_text())["options"]
    assert options == {
        "max_length": 64,
        "min_block_chars": 5,
        "shuffle_seed": None,
        "reading": {
            "encoding": "gb18030",
            "json_key": "content",
            "document_separator": "###",
            "max_document_chars": 1_000_000,
        },
    }


def test_options_of_tokens_reach_the_manifest(vocab, corpus, tmp_path):
    dictionary = tmp_path / "words.txt"
    dictionary.write_text("天气很好\n", encoding="utf-8")
    result = prepare(
        corpus, "--tokenizer", vocab, "--output", tmp_path / "out", "--max-length", 64,
        "--shuffle", "--seed", 5, "--pack", "--user-dictionary", dictionary,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "2 rows, 85 tokens, 75 characters from 5 documents" in result.stdout
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    options = manifest["options"]
    assert (options["max_length"], options["shuffle_seed"], options["pack"]) == (64, 5, True)
    assert manifest["segmenter"]["user_dictionary"]["words"] == 1
    assert manifest["counts"]["words"] == 5 * 9  # 11 a document without the dictionary


def test_segmenter_of_the_dataset_folder_can_be_chosen(vocab, corpus, tmp_path):
    flags = ["--output", tmp_path / "out", "--max-length", 32, "--segmenter", "whitespace", "--format", "text"]
    result = prepare(corpus, "--tokenizer", vocab, *flags)
    assert result.exit_code == 0, result.output
    assert datasets.load_from_disk(str(tmp_path / "out"))["chinese_ref"][0] == list(range(2, 16))
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["segmenter"] == {"name": "whitespace", "version": "1"}


def test_without_input_the_corpus_of_the_package_is_taken(tmp_path):
    runner = CliRunner()
    vocab = ["tokenizer", "--output", str(tmp_path / "vocab"), "--vocab-size", "3000"]
    assert runner.invoke(app, vocab).exit_code == 0
    result = prepare("--tokenizer", tmp_path / "vocab", "--output", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))["counts"]["rows"] > 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.txt", "--tokenizer", "VOCAB", "--output", "OUT"], "nowhere.txt does not exist"),
        (["CORPUS", "--tokenizer", "nowhere/vocab.txt", "--output", "OUT"], "'nowhere/vocab.txt' is no file or folder"),
        (["CORPUS", "--tokenizer", "VOCAB", "--output", "VOCAB"], "vocab.txt exists: pass --overwrite"),
        (["CORPUS", "--tokenizer", "VOCAB", "--output", "OUT", "--max-length", "3"], "at least 16 tokens, got 3"),
        (["CORPUS", "--tokenizer", "VOCAB", "--output", "OUT", "--encoding", "x"], "unknown encoding 'x'"),
        (["CORPUS", "--tokenizer", "VOCAB", "--output", "OUT", "--workers", "-1"], "got -1"),
        (
            ["CORPUS", "--tokenizer", "VOCAB", "--output", "OUT", "--format", "text", "--pack"],
            "--pack is for tokens: leave out --format text, or --pack",
        ),
        (
            ["CORPUS", "--tokenizer", "VOCAB", "--output", "OUT", "--format", "text", "--executor", "ray"],
            "--executor is for tokens",
        ),
        (["CORPUS", "--tokenizer", "VOCAB", "--output", "OUT", "--segmenter", "x"], "there is no segmenter 'x'"),
        (
            ["CORPUS", "--tokenizer", "VOCAB", "--output", "s3://b/out", "--format", "text"],
            "s3://b/out: a folder of text is made on a local disk; leave out --format text",
        ),
        (["CORPUS", "--tokenizer", "VOCAB", "--output", "CORPUS/out"], "File exists"),
    ],
)
def test_mistake_is_one_line_and_exit_code_2(vocab, corpus, tmp_path, arguments, message):
    places = {"VOCAB": vocab, "CORPUS": corpus, "OUT": tmp_path / "out", "CORPUS/out": corpus / "out"}
    result = prepare(*[places.get(argument, argument) for argument in arguments])
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.startswith("flashquad: ")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_traceback_is_shown_when_asked(vocab, tmp_path):
    arguments = ["--traceback", "prepare", "nowhere.txt", "--tokenizer", str(vocab), "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments)
    assert type(result.exception).__name__ == "InputError"


def test_help_has_an_example_and_does_not_load_what_does_the_work():
    program = (
        "import sys; from flash.cli import app\n"
        "sys.argv = ['flashquad', 'prepare', '--help']\n"
        "try: app()\n"
        "finally: print([name for name in ('pyarrow', 'rjieba') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "Example:" in result.stdout
    assert "'.[scale]'" in result.stdout
    assert result.stdout.endswith("[]\n")


@pytest.fixture
def run_script(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run_script(name, *arguments):
        """Return exit code and standard error of a script at the root of the repository."""
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        try:
            runpy.run_path(str(ROOT / name), run_name="__main__")
            code = 0
        except SystemExit as end:
            code = end.code
        return code, capsys.readouterr().err

    return run_script


def test_earlier_scripts_still_do_their_work(vocab, tmp_path, run_script):
    (tmp_path / "raw" / "news").mkdir(parents=True)
    (tmp_path / "raw" / "news" / "1.txt").write_text(f"{TEXT}\n{TEXT}\n\n{TEXT}\n", encoding="utf-8")
    assert run_script("trans_to_json.py", "--input_path", "raw", "--output_path", "data/news") == (0, "")
    assert len((tmp_path / "data" / "news.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    assert run_script("run_chinese_ref.py", "--model_name", vocab, "--input_path", "data/news.jsonl") == (0, "")
    rows = datasets.load_from_disk(str(tmp_path / "clue_small_wwm_data"))
    assert sorted(map(len, rows["text"])) == [15, 31]
    assert len((tmp_path / "data" / "refids.txt").read_text().splitlines()) == 2
    assert sorted((tmp_path / "data" / "reftext.txt").read_text(encoding="utf-8").splitlines()) == sorted(rows["text"])


def test_earlier_scripts_take_all_their_flags(vocab, tmp_path, run_script):
    (tmp_path / "a.txt").write_text(f"{TEXT}\n###\n{TEXT}\n###\n短", encoding="utf-8")
    flags = ["--json_key", "content", "--doc_spliter", "###", "--min_doc_length", "1", "--workers", "2"]
    flags += ["--log_interval", "1", "--no-shuffle"]
    merged = ["--input_path", "a.txt", "--output_path", "a.jsonl"]
    code, _ = run_script("trans_to_json.py", *merged, *flags)
    assert code == 0
    lines = (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["content"] for line in lines] == [TEXT, TEXT, "短"]
    assert run_script("trans_to_json.py", *merged, *flags, "--no-merge")[0] == 0
    assert (tmp_path / "a.txt.jsonl").read_bytes() == (tmp_path / "a.jsonl").read_bytes()
    flags = ["--json_key", "content", "--workers", "12", "--log_interval", "1"]
    assert run_script("run_chinese_ref.py", "--model_name", vocab, "--input_path", "a.jsonl", *flags)[0] == 0
    flags.append("--overwrite")
    assert run_script("run_chinese_ref.py", "--model_name", vocab, "--input_path", "a.jsonl", *flags)[0] == 0


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            "trans_to_json.py --input_path nowhere --output_path x",
            "trans_to_json.py: nowhere does not exist: check the path of the input\n",
        ),
        (
            "trans_to_json.py --input_path corpus.txt --output_path here",
            "trans_to_json.py: here.jsonl exists: pass --overwrite to replace it, or name another output\n",
        ),
        (
            "run_chinese_ref.py --model_name vocab.txt --input_path nowhere",
            "run_chinese_ref.py: nowhere does not exist: check the path of the input\n",
        ),
    ],
)
def test_mistake_in_an_earlier_script_is_one_line(vocab, corpus, tmp_path, run_script, command, message):
    (tmp_path / "here.jsonl").touch()
    assert run_script(*command.split()) == (2, message)
