"""The command of the n-gram baseline on toy text; the tokens it must not see."""

import json
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from flash.corpus.tokenizer_loading import load_tokenizer
from flash.data.collator import WholeWordMaskCollator
from flash.errors import InputError

import ngram_baseline
from ngram_baseline import Filler, Score, flat_tokens, load_rows
from toy_pretraining import prepared_folder, random_texts
from two_sided import CLASSES, combine


@pytest.fixture
def tokenizer(toy_vocabulary: Path) -> PreTrainedTokenizerFast:
    return load_tokenizer(toy_vocabulary)


@pytest.fixture
def rows(toy_dataset: Path, tokenizer: PreTrainedTokenizerFast) -> datasets.Dataset:
    return load_rows(str(toy_dataset), tokenizer, 24)


@pytest.fixture
def filler(rows: datasets.Dataset, tokenizer: PreTrainedTokenizerFast) -> Filler:
    collator = WholeWordMaskCollator(tokenizer, mask_probability=0.3, seed=1)
    return Filler(*flat_tokens(rows), collator=collator, vocab_size=len(tokenizer), order=4, beam_width=3)


def test_flat_tokens_are_the_rows_in_their_order(rows: datasets.Dataset):
    chosen = rows.select([5, 2, 3])
    tokens, lengths = flat_tokens(chosen)
    parts = np.split(tokens, np.cumsum(lengths)[:-1])
    assert [part.tolist() for part in parts] == chosen["input_ids"][:]


@pytest.mark.parametrize("way", ["stop", "beam"])
def test_the_hidden_tokens_change_nothing_but_the_score(filler: Filler, rows: datasets.Dataset, way: str):
    chunk = next(filler.masked_chunks(rows))
    scored = chunk["labels"] != -100
    others = np.random.default_rng(0).choice(filler.fillable_ids, scored.shape)
    changed = chunk | {"labels": np.where(scored, others, -100)}
    exponents = np.ones((len(CLASSES), 3))
    predictions, scores = [], []
    for given in (chunk, changed):
        targets, observed = filler.targets_and_observed(given)
        prediction = combine(filler.sides(way, given), filler.log_unigram, exponents, observed)
        score = Score()
        score.add(prediction, targets, observed < 0)
        predictions.append(prediction)
        scores.append(score.figures()["[MASK] only"]["accuracy"])
    np.testing.assert_array_equal(*predictions)
    assert scores[0] > 0.6 > 0.2 > scores[1]


def test_a_score_counts_all_and_masked_tokens():
    score = Score()
    score.add(np.log([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]), np.array([0, 1]), np.array([True, False]))
    figures = score.figures()
    assert figures["[MASK] only"] == pytest.approx({"tokens": 1, "loss": np.log(2), "accuracy": 1})
    assert figures["all scored"] == pytest.approx({"tokens": 2, "loss": np.log(20) / 2, "accuracy": 0.5})


def test_rows_without_a_mask_have_no_score():
    score = Score()
    score.add(np.log([[0.5, 0.5]]), np.array([0]), np.array([False]))
    with pytest.raises(InputError, match="longer validation text"):
        score.figures()


def test_the_command_reports_both_ways_and_no_path(
    toy_dataset: Path, toy_vocabulary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    validation = prepared_folder(tmp_path / "unseen", toy_vocabulary, texts=random_texts(12, seed=1))
    result_path = tmp_path / "result.json"
    flags = {
        "--train": toy_dataset,
        "--validation": f"other={validation}",
        "--tokenizer": toy_vocabulary,
        "--order": 3,
        "--max-length": 24,
        "--json": result_path,
    }
    words = [str(word) for flag in flags.items() for word in flag]
    monkeypatch.setattr(sys, "argv", ["ngram_baseline.py", *words, "--validation", str(validation)])
    ngram_baseline.main()

    result = json.loads(result_path.read_text(encoding="utf-8"))
    assert str(tmp_path) not in result_path.read_text(encoding="utf-8")
    assert result["settings"]["validation"] == {"other": "unseen", "unseen": "unseen"}
    assert result["training_rows"] + result["held_out_rows"] == len(
        load_rows(str(toy_dataset), load_tokenizer(toy_vocabulary), 24)
    )
    for way in ("stop", "beam"):
        scores = result["ways"][way]["validation"]
        assert scores["other"] == scores["unseen"]
        assert scores["other"]["all scored"]["tokens"] > scores["other"]["[MASK] only"]["tokens"] > 0
        # nine sentences, all of them in the training text
        assert scores["other"]["all scored"]["accuracy"] > 0.7
    printed = capsys.readouterr().out
    assert f"{result['ways']['beam']['validation']['other']['all scored']['loss']:.4f}" in printed


def test_a_folder_that_is_not_there_is_said_in_one_line(
    toy_vocabulary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    missing = str(tmp_path / "missing")
    words = ["--train", missing, "--validation", missing, "--tokenizer", str(toy_vocabulary), "--json", "out.json"]
    monkeypatch.setattr(sys, "argv", ["ngram_baseline.py", *words])
    with pytest.raises(SystemExit) as stop:
        ngram_baseline.main()
    assert stop.value.code == 2
    assert "no such dataset folder" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--order", "1"], "--order must be at least 2, got 1"),
        (["--max-length", "2"], "--max-length must be at least 3, got 2"),
        (["--seed", "-1"], "--seed must be at least 0, got -1"),
        (["--beam-width", "-1"], "--beam-width must be at least 1, got -1"),
        (["--held-out-rows", "0"], "--held-out-rows must be at least 1, got 0"),
        (["--json", "."], "--json . is a folder; name a file"),
        (["--validation", "elsewhere/unseen"], "two folders are called unseen; name them apart, NAME=elsewhere/unseen"),
    ],
)
def test_what_cannot_be_is_said_before_the_counting(
    toy_dataset: Path, toy_vocabulary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, words, message
):
    good = ["--train", toy_dataset, "--validation", f"unseen={toy_dataset}", "--tokenizer", toy_vocabulary]
    good += ["--json", tmp_path / "result.json"]
    monkeypatch.setattr(ngram_baseline, "Filler", lambda *_, **__: pytest.fail("n-grams were counted"))
    monkeypatch.setattr(sys, "argv", ["ngram_baseline.py", *map(str, good), *words])
    with pytest.raises(SystemExit) as stop:
        ngram_baseline.main()
    assert stop.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_the_folder_of_the_result_is_made(
    toy_dataset: Path, toy_vocabulary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ngram_baseline, "run", lambda arguments: {"ways": {}})
    result = tmp_path / "new" / "deep" / "result.json"
    flags = ["--train", "a", "--validation", "b", "--tokenizer", "c", "--json", str(result)]
    monkeypatch.setattr(sys, "argv", ["ngram_baseline.py", *flags])
    ngram_baseline.main()
    assert json.loads(result.read_text(encoding="utf-8")) == {"ways": {}}
