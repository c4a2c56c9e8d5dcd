import json
import logging
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest

from flash.corpus.tokenizer_loading import load_tokenizer
from flash.data.manifest import read_manifest
from flash.data.pretraining_dataset import (
    PretrainingDataset,
    load_prepared_folder,
    split_tail,
    tokenize_dataset,
)
from flash.errors import InputError

from toy_pretraining import (
    MAX_LENGTH,
    SENTENCES,
    TOKENS,
    earlier_folder,
    earlier_references,
    prepared_folder,
    random_texts,
)


@pytest.fixture(scope="module")
def tokenizer(toy_vocabulary):
    return load_tokenizer(toy_vocabulary)


@pytest.fixture
def folder(toy_dataset, tmp_path):
    """A dataset folder that may be damaged, without what others have cached in it."""
    return Path(shutil.copytree(toy_dataset, tmp_path / "data", ignore=shutil.ignore_patterns("cache-*")))


def tokenized(folder, tokenizer, **changes):
    settings = {"folder": folder, "tokenizer": tokenizer, "max_length": MAX_LENGTH}
    return tokenize_dataset(load_prepared_folder(folder), **(settings | changes))


def cache_files(folder):
    return sorted(path.name for path in folder.glob("cache-*.arrow"))


# ---- opening a folder


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere: no such dataset folder; make one with `flashquad prepare`"):
        load_prepared_folder(tmp_path / "nowhere")


def test_a_folder_of_something_else_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match=rf"{tmp_path} is no whole dataset folder .*; make one with"):
        load_prepared_folder(tmp_path)


@pytest.mark.parametrize("name", ["data-00000-of-00001.arrow", "state.json", "dataset_info.json"])
@pytest.mark.parametrize("damage", ["missing", "cut short", "empty"])
def test_a_damaged_folder_is_named(folder, name, damage):
    path = folder / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[: len(content) // 2] if damage == "cut short" else b"")
    with pytest.raises(InputError, match=rf"{folder} is no whole dataset folder \(.+\); make one with") as raised:
        load_prepared_folder(folder)
    assert "\n" not in str(raised.value)


def test_a_dataset_without_chinese_ref_is_refused_with_the_way_out(tmp_path):
    datasets.Dataset.from_dict({"text": ["今天"], "label": [0]}).save_to_disk(tmp_path / "plain")
    with pytest.raises(InputError, match=r"has no column chinese_ref, only text, label; .* `flashquad prepare`"):
        load_prepared_folder(tmp_path / "plain")


@pytest.mark.parametrize("references", [["[2]"], [2], [["2"]]])
def test_references_that_are_no_lists_of_integers_are_refused(tmp_path, references):
    datasets.Dataset.from_dict({"text": ["今天"], "chinese_ref": references}).save_to_disk(tmp_path / "wrong")
    with pytest.raises(InputError, match="chinese_ref must hold lists of integers, it holds "):
        load_prepared_folder(tmp_path / "wrong")


def test_a_folder_of_several_splits_says_which_to_name(tmp_path):
    rows = datasets.Dataset.from_dict({"text": ["今天"], "chinese_ref": [[2]]})
    datasets.DatasetDict({"train": rows, "test": rows}).save_to_disk(tmp_path / "splits")
    with pytest.raises(InputError, match=rf"holds several splits \(train, test\); .* {tmp_path}/splits/train"):
        load_prepared_folder(tmp_path / "splits")
    assert len(load_prepared_folder(tmp_path / "splits" / "train")) == 1


def test_a_folder_without_rows_is_refused(tmp_path):
    folder = earlier_folder(tmp_path / "none", [], [])
    assert not list(folder.glob("*.arrow"))
    with pytest.raises(InputError, match="holds no rows"):
        load_prepared_folder(folder)


def test_the_manifest_is_read_and_a_damaged_one_named(folder):
    assert read_manifest(folder)["counts"]["documents"] == 24
    (folder / "manifest.json").write_text('{"format_version": ')
    with pytest.raises(InputError, match=r"manifest\.json is damaged \(.*\); prepare the text again"):
        read_manifest(folder)
    (folder / "manifest.json").write_text("[]")
    with pytest.raises(
        InputError, match=r"manifest\.json does not give the tokenizer's name, sha256, vocab_size; prep"
    ):
        read_manifest(folder)
    (folder / "manifest.json").write_text('{"tokenizer": {"name": "vocab.txt", "vocab_size": 5}}')
    with pytest.raises(
        InputError, match=r"manifest\.json does not give the tokenizer's sha256; prepare the text again"
    ):
        read_manifest(folder)
    (folder / "manifest.json").unlink()
    assert read_manifest(folder) is None


# ---- tokenizing it


def test_all_text_is_tokenized_and_no_word_is_cut(folder, tokenizer):
    texts = load_prepared_folder(folder)["text"]
    rows = tokenized(folder, tokenizer, max_length=16)
    assert len(rows) > len(texts)
    joined: dict[int, list[int]] = {}
    for row in rows:
        joined.setdefault(row["row"], []).extend(row["input_ids"][1:-1])
    assert [joined[number] for number in range(len(texts))] == [
        tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts
    ]


def test_several_processes_give_the_same_rows(folder, tokenizer):
    alone = tokenized(folder, tokenizer, max_length=16)
    assert tokenized(folder, tokenizer, max_length=16, workers=2).to_list() == alone.to_list()


def test_a_tokenizer_other_than_the_datasets_is_refused(folder, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("".join(f"{token}\n" for token in (*TOKENS, "龘")), encoding="utf-8")
    sizes = rf"\({len(TOKENS)} tokens\), not with .*\({len(TOKENS) + 1} tokens\)"
    with pytest.raises(InputError, match=rf"was prepared with the tokenizer .*vocab\.txt {sizes}"):
        tokenized(folder, load_tokenizer(other))


def test_the_tokenizer_saved_beside_the_dataset_is_its_own(folder):
    assert len(tokenized(folder, load_tokenizer(folder / "tokenizer"))) > 0


def test_a_second_run_takes_the_cache_and_overwrite_cache_does_not(folder, tokenizer):
    first = tokenized(folder, tokenizer)
    files = cache_files(folder)
    assert len(files) == 1
    (written,) = folder.glob("cache-*.arrow")
    stamp = written.stat().st_mtime_ns
    assert tokenized(folder, tokenizer).to_list() == first.to_list()
    assert (cache_files(folder), written.stat().st_mtime_ns) == (files, stamp)
    tokenized(folder, tokenizer, overwrite_cache=True)
    assert written.stat().st_mtime_ns != stamp


def test_another_length_is_not_served_from_the_cache(folder, tokenizer):
    tokenized(folder, tokenizer)
    assert max(map(len, tokenized(folder, tokenizer, max_length=12)["input_ids"])) <= 12


def test_other_text_in_the_same_folder_is_not_served_from_the_cache(tmp_path, toy_vocabulary, tokenizer):
    for seed in (0, 1):
        texts = random_texts(6, seed=seed)
        folder = prepared_folder(tmp_path / str(seed), toy_vocabulary, texts=texts)
        target = tmp_path / "data"
        target.mkdir(exist_ok=True)
        for path in folder.iterdir():  # over the old files, so that the cache stays
            if path.is_file():
                shutil.copy(path, target / path.name)
        shown = "".join(tokenizer.decode(ids[1:-1]) for ids in tokenized(target, tokenizer)["input_ids"])
        assert shown.replace(" ", "") == "".join(texts).replace(" ", "")
    assert len(cache_files(target)) == 2


# ---- folders of the earlier repository


def test_a_folder_of_the_earlier_repository_is_taken_as_it_is(tmp_path, tokenizer):
    texts = list(SENTENCES)
    references = [earlier_references(text, tokenizer) for text in texts]
    rows = tokenized(earlier_folder(tmp_path / "earlier", texts, references), tokenizer)
    assert rows["input_ids"] == tokenizer(texts)["input_ids"]
    for row, marked in zip(rows, references, strict=True):
        pieces = [
            position
            for position, token in enumerate(tokenizer.convert_ids_to_tokens(row["input_ids"]))
            if token.startswith("##")
        ]
        assert row["continuations"] == sorted({*marked, *pieces})
    assert rows[-1]["continuations"]  # the English sentence has word pieces and no reference


def test_rows_with_references_outside_are_left_out_and_said_and_the_others_kept(tmp_path, tokenizer, caplog):
    texts = list(SENTENCES)
    references: list[list[int] | None] = [earlier_references(text, tokenizer) for text in texts]
    references[1], references[4], references[6] = [2, 99], [0], None
    folder = earlier_folder(tmp_path / "earlier", texts, references)
    with caplog.at_level(logging.WARNING, logger="flash"):
        rows = tokenized(folder, tokenizer)
    assert rows["row"] == [0, 2, 3, 5, 7, 8]
    (message,) = caplog.messages
    assert f"{folder}: left out 3 of 9 rows whose chinese_ref points outside their text (rows 1, 4, 6)" in message
    assert "`flashquad prepare`" in message


def test_of_many_bad_rows_the_first_are_named(tmp_path, tokenizer, caplog):
    folder = earlier_folder(tmp_path / "earlier", ["今天"] * 9, [[99]] * 8 + [[2]])
    with caplog.at_level(logging.WARNING, logger="flash"):
        assert len(tokenized(folder, tokenizer)) == 1
    assert "left out 8 of 9 rows" in caplog.text
    assert "(rows 0, 1, 2, 3, 4, ...)" in caplog.text


def test_a_dataset_without_one_good_row_is_refused(tmp_path, tokenizer):
    with pytest.raises(InputError, match="the chinese_ref of every row points outside its text"):
        tokenized(earlier_folder(tmp_path / "bad", ["今天"] * 2, [[99]] * 2), tokenizer)
    with pytest.raises(InputError, match="every text is empty"):
        tokenized(earlier_folder(tmp_path / "empty", ["", ""], [[], []]), tokenizer)


# ---- the rows of training and validation


def test_rows_come_in_the_asked_order_with_their_numbers_and_epoch(folder, tokenizer):
    source = tokenized(folder, tokenizer)
    dataset = PretrainingDataset(source)
    assert len(dataset) == len(source)
    dataset.use_masks_of_epoch(3)
    rows = dataset.__getitems__([5, 0, 7])
    assert (rows.numbers.tolist(), rows.epoch) == ([5, 0, 7], 3)
    ends = np.cumsum(rows.lengths)[:-1]
    for number, ids, starts in zip(
        rows.numbers, np.split(rows.input_ids, ends), np.split(rows.word_starts, ends), strict=True
    ):
        row = source[int(number)]
        assert ids.tolist() == row["input_ids"]
        assert np.flatnonzero(~starts).tolist() == row["continuations"]


@pytest.mark.parametrize(("rows", "share", "held_out"), [(100, 0.01, 1), (100, 0.1, 10), (10, 0.5, 5), (3, 0.01, 1)])
def test_the_last_rows_are_held_out(rows, share, held_out):
    train, validation = split_tail(datasets.Dataset.from_dict({"row": list(range(rows))}), share)
    assert train["row"] == list(range(rows - held_out))
    assert validation["row"] == list(range(rows - held_out, rows))


def test_no_more_rows_are_held_out_than_an_evaluation_needs():
    train, validation = split_tail(datasets.Dataset.from_dict({"row": list(range(100))}), 0.5, most_rows=7)
    assert (len(train), validation["row"][0]) == (93, 93)


def test_one_row_is_too_few_to_hold_one_out():
    with pytest.raises(InputError, match=r"1 row\(s\) are too few .* pass --validation_split 0"):
        split_tail(datasets.Dataset.from_dict({"row": [0]}), 0.01)


def test_a_manifest_of_ours_says_that_word_pieces_are_marked(folder, tokenizer):
    assert json.loads((folder / "manifest.json").read_text())["chinese_ref"] == "all continuation tokens"
    english = next(row for row in tokenized(folder, tokenizer) if tokenizer.vocab["##ld"] in row["input_ids"])
    assert english["input_ids"].index(tokenizer.vocab["##ld"]) in english["continuations"]
