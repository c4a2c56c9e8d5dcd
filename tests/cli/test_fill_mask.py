import json

import pytest
from typer.testing import CliRunner

from flash.cli import app
from flash.inference.fill_mask import MaskFiller

TWO_MASKS = "今天的天[MASK]很好，我们一起去[MASK]园玩吧！"


@pytest.fixture
def fill_mask(toy_run):
    def run(*arguments, stdin=None):
        return CliRunner().invoke(app, ["fill-mask", str(toy_run), *arguments], input=stdin)

    return run


@pytest.fixture(scope="module")
def filler(toy_run):
    return MaskFiller(str(toy_run))


def test_a_sentence_is_printed_with_five_candidates_for_each_mask(fill_mask, filler):
    result = fill_mask(TWO_MASKS)
    assert result.exit_code == 0
    assert result.stdout == filler.fill(TWO_MASKS).in_brackets() + "\n"
    assert result.stdout.count("||") == 8
    assert result.stdout.startswith("今天的天[")


def test_the_number_of_candidates_can_be_asked(fill_mask, filler):
    assert fill_mask(TWO_MASKS, "--top-k", "2").stdout == filler.fill(TWO_MASKS, top_k=2).in_brackets() + "\n"


def test_json_is_one_object_a_sentence(fill_mask, filler):
    result = fill_mask("--json", TWO_MASKS, "[MASK]气")
    first, second = map(json.loads, result.stdout.splitlines())
    assert (first["text"], second["text"]) == (TWO_MASKS, "[MASK]气")
    expected = [
        [{"token": candidate.token, "probability": candidate.probability} for candidate in candidates]
        for candidates in filler.fill(TWO_MASKS).masks
    ]
    assert first["masks"] == expected
    assert "天" in result.stdout  # readable, not escaped


def test_lines_of_standard_input_are_sentences_and_blank_ones_are_not(fill_mask, filler):
    result = fill_mask(stdin=f"{TWO_MASKS}\n\n  \n[MASK]气\n")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [filler.fill(text).in_brackets() for text in (TWO_MASKS, "[MASK]气")]


def test_a_bad_line_is_named_and_the_good_ones_around_it_are_answered(fill_mask, filler):
    result = fill_mask(stdin=f"{TWO_MASKS}\n没有\n[MASK]气\n")
    assert result.exit_code == 2
    assert result.stdout.splitlines() == [filler.fill(text).in_brackets() for text in (TWO_MASKS, "[MASK]气")]
    (line,) = result.stderr.splitlines()
    assert line.startswith("flashquad: no [MASK] in '没有'; write [MASK] where a token is to be filled in")


def test_a_line_that_is_not_utf8_is_one_bad_line(fill_mask, filler):
    result = fill_mask(stdin=f"{TWO_MASKS}\n".encode() + b"\xc4\xe3[MASK]\n" + "[MASK]气\n".encode())
    assert result.exit_code == 2
    assert result.stdout.splitlines() == [filler.fill(text).in_brackets() for text in (TWO_MASKS, "[MASK]气")]
    (line,) = result.stderr.splitlines()
    assert line.startswith("flashquad: not UTF-8 at character 1 of ")


def test_another_tokenizer_can_be_named(fill_mask, filler, toy_vocabulary):
    result = fill_mask(TWO_MASKS, "--tokenizer", str(toy_vocabulary))
    assert result.stdout == filler.fill(TWO_MASKS).in_brackets() + "\n"


def test_a_model_that_is_not_there_is_one_line(tmp_path):
    result = CliRunner().invoke(app, ["fill-mask", str(tmp_path / "nowhere"), TWO_MASKS])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"flashquad: cannot load a masked language model from {tmp_path}/nowhere: ")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "今天的天气很好",
            "'今天的天气很好' is neither a model's folder nor a sentence with [MASK]; write [MASK] where",
        ),
        ("", "the name of the model is empty; give a folder, a hub id or tiny-zh"),
        (" ", "the name of the model is empty"),
    ],
)
def test_a_first_word_that_is_neither_model_nor_sentence_is_one_line(word, message):
    result = CliRunner().invoke(app, ["fill-mask", word])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"flashquad: {message}")


def test_help_has_an_example():
    result = CliRunner().invoke(app, ["fill-mask", "--help"])
    assert result.exit_code == 0
    assert "flashquad fill-mask ./wwm_flash_small" in result.stdout


def test_without_a_model_the_one_that_comes_along_answers():
    expected = [MaskFiller().fill(text).in_brackets() for text in (TWO_MASKS, "[MASK]气")]
    named = CliRunner().invoke(app, ["fill-mask", "tiny-zh", TWO_MASKS, "[MASK]气"])
    unnamed = CliRunner().invoke(app, ["fill-mask", TWO_MASKS, "[MASK]气"])
    piped = CliRunner().invoke(app, ["fill-mask"], input=f"{TWO_MASKS}\n[MASK]气\n")
    for result in (named, unnamed, piped):
        assert result.exit_code == 0, result.stderr
        assert result.stdout.splitlines() == expected


def test_a_sentence_longer_than_any_file_name_is_no_model():
    text = TWO_MASKS + "周末的时候，大家常常去河边散步，看老人放风筝。" * 20
    result = CliRunner().invoke(app, ["fill-mask", text])
    assert (result.exit_code, result.stdout) == (0, MaskFiller().fill(text).in_brackets() + "\n"), result.stderr


def test_a_folder_with_a_mask_in_its_name_is_a_model(toy_run, tmp_path, filler):
    folder = tmp_path / "[MASK]"
    folder.symlink_to(toy_run)
    result = CliRunner().invoke(app, ["fill-mask", str(folder), TWO_MASKS])
    assert result.stdout.splitlines() == [filler.fill(TWO_MASKS).in_brackets()]
