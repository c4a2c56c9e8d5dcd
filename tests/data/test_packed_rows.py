"""Packed rows, from the shard to the model: the sequences of a row do not see each other."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flash.corpus.tokenizer_loading import load_tokenizer
from flash.data.collator import WholeWordMaskCollator
from flash.data.rows import TokenRows
from flash.data.token_dataset import TokenDataset
from flash.data.token_folder import open_token_folder
from flash.errors import InputError
from flash.training.pretrain import pretrain

from helpers import FLOAT32, few_examples
from small_models import ARCHITECTURES, small_model
from token_folders import as_rows, packed_rows, random_rows, write_shard, write_token_folder
from toy_pretraining import log_history, toy_arguments

LENGTH = 64


@pytest.fixture(scope="module")
def tokenizer(toy_vocabulary):
    return load_tokenizer(toy_vocabulary)


@pytest.fixture(scope="module")
def sequences(tokenizer):
    return random_rows(150, tokenizer, most=30)


@pytest.fixture(scope="module")
def rows(sequences):
    return packed_rows(sequences, length=LENGTH)


@pytest.fixture(scope="module")
def folder(rows, tokenizer, tmp_path_factory):
    """Packed rows; not to be changed."""
    return write_token_folder(tmp_path_factory.mktemp("packed") / "data", rows, tokenizer, max_length=LENGTH)


def opened(address, tokenizer, *, max_length: int = LENGTH) -> TokenDataset:
    return TokenDataset(open_token_folder(address, tokenizer), max_length=max_length)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_rows_come_with_the_lengths_of_their_sequences(folder, rows, tokenizer, scheme):
    dataset = opened(f"{scheme}{folder}", tokenizer)
    order = np.random.default_rng(0).permutation(len(rows))
    assert max(len(row.sequence_lengths) for row in rows) > 2
    assert as_rows(dataset.__getitems__(order)) == [rows[number] for number in order]


@few_examples
@given(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1, max_size=5))
def test_the_sequences_of_a_row_are_numbered_and_padding_goes_with_the_last(tokenizer, lengths):
    total = sum(map(sum, lengths))
    rows = TokenRows(
        input_ids=np.full(total, 7),
        word_starts=np.ones(total, dtype=bool),
        lengths=np.array([sum(of_row) for of_row in lengths]),
        numbers=np.arange(len(lengths)),
        epoch=0,
        sequence_lengths=np.array([length for of_row in lengths for length in of_row]),
    )
    longest = rows.lengths.max()
    expected = []
    for of_row in lengths:
        numbers = [number for number, length in enumerate(of_row) for _ in range(length)]
        expected.append(numbers + [numbers[-1]] * (longest - len(numbers)))
    assert WholeWordMaskCollator(tokenizer)(rows)["seq_idx"].tolist() == expected


def test_rows_that_are_not_packed_come_without_numbers(tmp_path, sequences, tokenizer):
    dataset = opened(write_token_folder(tmp_path / "data", sequences, tokenizer), tokenizer, max_length=512)
    assert "seq_idx" not in WholeWordMaskCollator(tokenizer)(dataset.__getitems__(range(5)))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_sequence_has_the_outputs_that_it_has_alone(folder, rows, tokenizer, architecture):
    model = small_model(architecture)
    batch = WholeWordMaskCollator(tokenizer)(opened(folder, tokenizer).__getitems__(range(6)))
    del batch["labels"]
    with torch.no_grad():
        packed = model(**batch).logits
        for number, row in enumerate(rows[:6]):
            ends = np.cumsum(row.sequence_lengths)
            for start, end in zip(ends - row.sequence_lengths, ends, strict=True):
                alone = model(input_ids=batch["input_ids"][number : number + 1, start:end]).logits
                torch.testing.assert_close(packed[number : number + 1, start:end], alone, **FLOAT32)


def test_words_are_masked_in_every_sequence_and_special_tokens_never(folder, tokenizer):
    dataset = opened(folder, tokenizer)
    batch = WholeWordMaskCollator(tokenizer, mask_probability=0.5)(dataset.__getitems__(range(len(dataset))))
    scored = batch["labels"] != -100
    assert not np.isin(batch["labels"][scored], tokenizer.all_special_ids).any()
    later = batch["seq_idx"] == 2
    assert 0.3 < scored[later & (batch["attention_mask"] == 1)].double().mean() < 0.6


def test_a_packed_folder_is_trained_on(folder, tmp_path):
    settings = {"max_seq_length": LENGTH, "max_steps": 4, "gradient_accumulation_steps": 2}
    pretrain(toy_arguments(folder, tmp_path / "out", **settings), command="flashquad pretrain")
    losses = [entry["loss"] for entry in log_history(tmp_path / "out") if "loss" in entry]
    assert len(losses) == 2
    assert all(np.isfinite(losses))


@pytest.mark.parametrize("max_length", [LENGTH, None])
def test_packed_rows_are_not_cut(tmp_path, rows, tokenizer, max_length):
    folder = write_token_folder(tmp_path / "data", rows, tokenizer, max_length=max_length)
    with pytest.raises(InputError, match=r"--max_seq_length 32: .* was packed for longer rows, .*--max_seq_length 6\d"):
        opened(folder, tokenizer, max_length=32)
    assert len(opened(folder, tokenizer, max_length=LENGTH)) == len(rows)


@pytest.mark.parametrize("lengths", [[5, 7], [11, 0], [13], [12, -1]])
def test_sequences_that_do_not_add_up_are_refused(folder, rows, tokenizer, tmp_path, lengths):
    copy = Path(shutil.copytree(folder, tmp_path / "data"))
    manifest = json.loads((copy / "manifest.json").read_text())
    shard = manifest["shards"][0]
    changed = rows[: shard["rows"]]
    (row,) = packed_rows(random_rows(1, tokenizer, most=9, least=9), length=LENGTH)
    row.sequence_lengths = lengths
    write_shard(copy / shard["file"], [*changed[:-1], row], rows_of_batch=7, token_type=pa.uint16())
    shard["bytes"] = (copy / shard["file"]).stat().st_size
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=f"{shard['file']} is damaged: the sequence_lengths of a row do not add up"):
        opened(copy, tokenizer).__getitems__(range(shard["rows"]))
