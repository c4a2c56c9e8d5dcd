import os
import subprocess
import sys

import pytest
from transformers import AutoTokenizer, BertTokenizerFast
from vocabularies import ORDINARY_TEXT, SPECIAL_TOKENS

from flash.corpus.tokenizer_loading import load_tokenizer
from flash.corpus.tokenizer_training import TokenizerSettings, train_tokenizer
from flash.errors import InputError


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    rare = "龘\U00020000"
    path.write_text(f"{ORDINARY_TEXT}\n\n{ORDINARY_TEXT}\n\nÉtude étude HELLO\n{rare}", encoding="utf-8")
    return path


def train(corpus, output, **settings):
    manifest = train_tokenizer([corpus], output, TokenizerSettings(**settings))
    return manifest, (output / "vocab.txt").read_text(encoding="utf-8").splitlines()


def test_layout_is_berts_and_han_characters_are_single(corpus, tmp_path):
    manifest, tokens = train(corpus, tmp_path / "out", vocab_size=400)
    assert tokens[:5] == SPECIAL_TOKENS
    assert len(tokens) == len(set(tokens)) == manifest["vocab_size"] <= 400
    assert all(len(token) == 1 for token in tokens if "\u4e00" <= token[-1] <= "\u9fff")
    assert {"hello", "weather", "etude", "20", "，", "a", "##a"} <= set(tokens)
    assert not {"H", "É", "龘", "\U00020000"} & set(tokens)


def test_every_way_to_load_it_gives_the_same_ids(corpus, tmp_path):
    _, tokens = train(corpus, tmp_path / "out", vocab_size=400)
    loaded = [
        load_tokenizer(tmp_path / "out"),
        load_tokenizer(tmp_path / "out" / "vocab.txt"),
        AutoTokenizer.from_pretrained(str(tmp_path / "out")),
        BertTokenizerFast.from_pretrained(str(tmp_path / "out")),
    ]
    for tokenizer in loaded:
        ids = tokenizer("今天，Hello weather [MASK] 龘")["input_ids"]
        expected = ["[CLS]", "今", "天", "，", "hello", "weather", "[MASK]", "[UNK]", "[SEP]"]
        assert [tokens[index] for index in ids] == expected


def test_no_entry_beyond_the_wanted_size(corpus, tmp_path):
    for size in (100, 130, 200):
        manifest, tokens = train(corpus, tmp_path / str(size), vocab_size=size)
        assert len(tokens) == manifest["vocab_size"] <= size
        assert manifest["characters_in_vocabulary"] < manifest["characters"]


def test_rare_characters_come_in_when_asked(corpus, tmp_path):
    manifest, tokens = train(corpus, tmp_path / "out", vocab_size=400, min_frequency=1)
    assert {"龘", "\U00020000"} <= set(tokens)
    assert manifest["characters_in_vocabulary"] == manifest["characters"]


def test_cased_vocabulary_keeps_capitals_and_accents(corpus, tmp_path):
    _, tokens = train(corpus, tmp_path / "out", vocab_size=400, min_frequency=1, cased=True)
    assert {"H", "É", "é"} <= set(tokens)
    assert load_tokenizer(tmp_path / "out").tokenize("É") == ["É"]


def test_another_process_makes_the_same_vocabulary(corpus, tmp_path):
    _, tokens = train(corpus, tmp_path / "here", vocab_size=400)
    program = (
        "import sys; from pathlib import Path; from flash.corpus.tokenizer_training import *\n"
        "train_tokenizer([Path(sys.argv[1])], Path(sys.argv[2]), TokenizerSettings(vocab_size=400))"
    )
    subprocess.run([sys.executable, "-c", program, corpus, tmp_path / "there"], check=True)
    assert (tmp_path / "there" / "vocab.txt").read_text(encoding="utf-8").splitlines() == tokens


def test_bad_lines_are_told_once_though_the_input_is_read_twice(tmp_path, caplog):
    (tmp_path / "a.txt").write_bytes(ORDINARY_TEXT.encode() * 2 + b"\n\xff\n")
    manifest, _ = train(tmp_path / "a.txt", tmp_path / "out", vocab_size=400)
    assert manifest["rejects"] == {"invalid_utf8": 1}
    assert sum("a.txt:2" in message for message in caplog.messages) == 1


def test_existing_folder_is_replaced_only_when_told(corpus, tmp_path):
    train(corpus, tmp_path / "out", vocab_size=400)
    with pytest.raises(InputError, match="out exists: pass --overwrite"):
        train(corpus, tmp_path / "out", vocab_size=400)
    train_tokenizer([corpus], tmp_path / "out", TokenizerSettings(vocab_size=100), overwrite=True)
    assert len(load_tokenizer(tmp_path / "out")) <= 100


def test_output_within_the_input_is_no_input(corpus, tmp_path):
    first = train_tokenizer([tmp_path], tmp_path / "out")
    assert train_tokenizer([tmp_path], tmp_path / "out", overwrite=True)["characters"] == first["characters"]


def test_input_that_cannot_be_read_twice_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"pipe is a pipe or device, .* reads its input twice: save"):
        train(tmp_path / "pipe", tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


def test_wrong_settings_are_refused():
    with pytest.raises(InputError, match="vocab_size must be at least 100, got 5"):
        TokenizerSettings(vocab_size=5)
    with pytest.raises(InputError, match="min_frequency must be at least 1, got 0"):
        TokenizerSettings(min_frequency=0)


def test_input_without_text_is_an_error(tmp_path):
    (tmp_path / "empty.txt").touch()
    with pytest.raises(InputError, match=r"no usable text in .*empty\.txt: 1 empty_file"):
        train(tmp_path / "empty.txt", tmp_path / "out")
    assert not list(tmp_path.glob("out*"))
