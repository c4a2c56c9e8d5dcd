import pickle

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from flash.corpus.tokenizer_loading import load_tokenizer
from flash.data.collator import WholeWordMaskCollator
from flash.data.pretraining_dataset import split_tail
from flash.data.row_pieces import piece_counts
from flash.data.token_dataset import TokenDataset
from flash.data.token_folder import open_token_folder

from helpers import few_examples
from token_folders import Row, as_rows, random_rows, write_token_folder


@pytest.fixture(scope="module")
def tokenizer(toy_vocabulary):
    return load_tokenizer(toy_vocabulary)


@pytest.fixture(scope="module")
def rows(tokenizer):
    return random_rows(100, tokenizer)


@pytest.fixture(scope="module")
def folder(rows, tokenizer, tmp_path_factory):
    """A folder of 100 rows in three shards; not to be changed."""
    return write_token_folder(tmp_path_factory.mktemp("tokens") / "data", rows, tokenizer)


def opened(folder, tokenizer, *, max_length: int = 512) -> TokenDataset:
    return TokenDataset(open_token_folder(folder, tokenizer), max_length=max_length)


# ---- rows as they were written


def test_every_row_is_read_as_it_was_written(folder, rows, tokenizer):
    dataset = opened(folder, tokenizer)
    assert len(dataset) == len(rows)
    assert as_rows(dataset.__getitems__(range(len(rows)))) == rows
    assert [as_rows(dataset[number])[0] for number in (0, 41, 99)] == [rows[number] for number in (0, 41, 99)]


@few_examples
@given(st.lists(st.integers(0, 99), min_size=1, max_size=30))
def test_rows_come_in_the_asked_order(folder, rows, tokenizer, numbers):
    read = opened(folder, tokenizer).__getitems__(numbers)
    assert read.numbers.tolist() == numbers
    assert as_rows(read) == [rows[number] for number in numbers]


@pytest.mark.parametrize(("shards", "rows_of_batch"), [(1, 1), (5, 100), (120, 3)])
def test_rows_do_not_depend_on_how_they_lie(tmp_path, rows, tokenizer, shards, rows_of_batch):
    folder = write_token_folder(tmp_path / "data", rows, tokenizer, shards=shards, rows_of_batch=rows_of_batch)
    assert as_rows(opened(folder, tokenizer).__getitems__(range(len(rows)))) == rows


def test_ids_of_four_bytes_are_read(tmp_path, rows, tokenizer):
    folder = write_token_folder(tmp_path / "data", rows, tokenizer, token_type=pa.uint32())
    assert as_rows(opened(folder, tokenizer).__getitems__(range(len(rows)))) == rows


def test_opening_reads_no_shard(folder, tokenizer, monkeypatch):
    monkeypatch.setattr(pa, "memory_map", lambda path: pytest.fail(f"{path} was opened"))
    train, validation = split_tail(opened(folder, tokenizer), 0.1)
    assert (len(train), len(validation)) == (90, 10)


def test_the_held_out_rows_are_the_last_with_numbers_and_an_epoch_of_their_own(folder, rows, tokenizer):
    train, validation = split_tail(opened(folder, tokenizer), 0.1)
    train.use_masks_of_epoch(3)
    assert as_rows(train.__getitems__(range(90))) == rows[:90]
    held_out = validation.__getitems__(range(10))
    assert as_rows(held_out) == rows[90:]
    assert (held_out.numbers.tolist(), held_out.epoch, train[0].epoch) == (list(range(10)), 0, 3)


def test_a_copy_in_another_process_opens_the_files_itself(folder, rows, tokenizer):
    dataset = opened(folder, tokenizer)
    dataset[0]
    assert as_rows(pickle.loads(pickle.dumps(dataset)).__getitems__([50, 3])) == [rows[50], rows[3]]


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # more workers than cores are meant
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_the_workers_of_a_loader_give_every_row_once(folder, tokenizer, workers):
    dataset = opened(folder, tokenizer)
    collator = WholeWordMaskCollator(tokenizer)
    expected = collator(dataset.__getitems__(range(len(dataset))))
    batches = list(DataLoader(dataset, batch_size=8, collate_fn=collator, num_workers=workers))
    lengths = torch.cat([batch["attention_mask"].sum(dim=1) for batch in batches])
    assert torch.equal(lengths, expected["attention_mask"].sum(dim=1))
    real = torch.cat([batch["input_ids"][batch["attention_mask"] == 1] for batch in batches])
    assert torch.equal(real, expected["input_ids"][expected["attention_mask"] == 1])


# ---- rows that are too long


def joined(pieces: list[Row]) -> Row:
    """Put pieces together again, without the [CLS] and [SEP] between them."""
    ids = [token for piece in pieces for token in piece.input_ids[1:-1]]
    starts = [start for piece in pieces for start in piece.word_starts[1:-1]]
    return Row([pieces[0].input_ids[0], *ids, pieces[0].input_ids[-1]], [True, *starts, True])


@few_examples
@given(st.integers(3, 60), st.integers(0, 1000))
def test_the_pieces_of_a_row_are_its_tokens(tmp_path_factory, tokenizer, max_length, seed):
    rows = random_rows(30, tokenizer, most=120, seed=seed)
    folder = write_token_folder(tmp_path_factory.mktemp("long") / "data", rows, tokenizer)
    dataset = opened(folder, tokenizer, max_length=max_length)
    pieces = iter(as_rows(dataset.__getitems__(range(len(dataset)))))
    for row in rows:
        of_row = [next(pieces)]
        while sum(len(piece.input_ids) - 2 for piece in of_row) < len(row.input_ids) - 2:
            of_row.append(next(pieces))
        assert all(3 <= len(piece.input_ids) <= max_length for piece in of_row)
        assert all(piece.word_starts[0] and piece.word_starts[1] and piece.word_starts[-1] for piece in of_row)
        whole = joined(of_row)
        assert whole.input_ids == row.input_ids
        begins = np.cumsum([1] + [len(piece.input_ids) - 2 for piece in of_row])[:-1]
        assert [i for i in range(len(row.input_ids)) if whole.word_starts[i] != row.word_starts[i]] == [
            begin for begin in begins if not row.word_starts[begin]
        ]
    assert next(pieces, None) is None


def test_rows_are_cut_where_words_begin(tmp_path, tokenizer):
    rows = random_rows(200, tokenizer, most=300, least=100)  # words of more than 16 tokens: none
    dataset = opened(write_token_folder(tmp_path / "data", rows, tokenizer), tokenizer, max_length=80)
    assert len(dataset) > 2 * len(rows)
    before = 0
    for row in rows:
        pieces = int(piece_counts(np.array([len(row.input_ids)]), 80)[0])
        lengths = dataset.__getitems__(range(before, before + pieces)).lengths - 2
        assert all(row.word_starts[begin] for begin in 1 + np.cumsum(lengths)[:-1])
        before += pieces
    assert before == len(dataset)


def test_a_word_longer_than_the_leeway_is_cut_within(tmp_path, tokenizer):
    row = Row([2, *range(5, 65), 3], [True, True, *[False] * 59, True])
    dataset = opened(write_token_folder(tmp_path / "data", [row], tokenizer, shards=1), tokenizer, max_length=32)
    pieces = as_rows(dataset.__getitems__(range(len(dataset))))
    assert [len(piece.input_ids) - 2 for piece in pieces] == [20, 20, 20]
    assert joined(pieces).input_ids == row.input_ids


def test_pieces_come_in_the_asked_order_too(tmp_path, tokenizer):
    rows = random_rows(40, tokenizer, most=120)
    dataset = opened(write_token_folder(tmp_path / "data", rows, tokenizer), tokenizer, max_length=20)
    every = as_rows(dataset.__getitems__(range(len(dataset))))
    order = np.random.default_rng(0).permutation(len(dataset))
    assert as_rows(dataset.__getitems__(order)) == [every[number] for number in order]
    train, validation = split_tail(dataset, 0.3)
    assert (
        as_rows(train.__getitems__(range(len(train)))) + as_rows(validation.__getitems__(range(len(validation))))
        == every
    )


def test_short_rows_are_not_cut_where_the_manifest_does_not_say_how_long_they_are(tmp_path, rows, tokenizer):
    folder = write_token_folder(tmp_path / "data", rows, tokenizer, max_length=None)
    assert as_rows(opened(folder, tokenizer, max_length=64).__getitems__(range(len(rows)))) == rows
