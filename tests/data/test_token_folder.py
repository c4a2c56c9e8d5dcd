import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from torch.utils.data import DataLoader

from flash.corpus.tokenizer_loading import load_tokenizer
from flash.data.collator import WholeWordMaskCollator
from flash.data.token_dataset import TokenDataset
from flash.data.token_folder import is_token_folder, open_token_folder
from flash.errors import InputError

from token_folders import Row, random_rows, write_shard, write_token_folder
from toy_pretraining import TOKENS

FIRST = "shard-00000-of-00003.arrow"


@pytest.fixture(scope="module")
def tokenizer(toy_vocabulary):
    return load_tokenizer(toy_vocabulary)


@pytest.fixture(scope="module")
def whole(tokenizer, tmp_path_factory):
    return write_token_folder(tmp_path_factory.mktemp("whole") / "data", random_rows(60, tokenizer), tokenizer)


@pytest.fixture
def folder(whole, tmp_path):
    """A folder that may be damaged; its name has a space, a line break, Chinese and signs of addresses in it."""
    return Path(shutil.copytree(whole, tmp_path / "~my data::[1]*\n语料"))


def manifest_of(folder):
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def change_manifest(folder, **changes):
    (folder / "manifest.json").write_text(json.dumps(manifest_of(folder) | changes), encoding="utf-8")


def refused(folder, tokenizer, match):
    with pytest.raises(InputError, match=match) as raised:
        open_token_folder(folder, tokenizer)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def replace_first_shard(folder, rows, **settings):
    """Write another shard in the place of the first, and let the manifest know its size."""
    path = folder / FIRST
    write_shard(path, rows, **({"rows_of_batch": 7, "token_type": pa.uint16()} | settings))
    shards = manifest_of(folder)["shards"]
    shards[0] |= {"bytes": path.stat().st_size}
    change_manifest(folder, shards=shards)


def read_all(folder, tokenizer, **settings):
    dataset = TokenDataset(open_token_folder(folder, tokenizer), **({"max_length": 512} | settings))
    return dataset.__getitems__(range(len(dataset)))


def test_a_folder_of_tokens_is_told_from_one_of_text(whole, toy_dataset, tmp_path):
    assert is_token_folder(whole)
    assert is_token_folder(f"file://{whole}")
    assert not is_token_folder(toy_dataset)
    assert not is_token_folder(tmp_path / "nowhere")
    assert not is_token_folder(toy_dataset / "manifest.json")


def test_an_address_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"file://.*/nowhere has no manifest\.json; from an object store only folders"):
        is_token_folder(f"file://{tmp_path}/nowhere")


@pytest.mark.parametrize("address", ["nosuchprotocol://bucket/data", "http://127.0.0.1:9/data"])
def test_an_address_that_cannot_be_reached_is_named(address):
    with pytest.raises(InputError, match=rf"{address}/manifest\.json cannot be read \(.+\); check the address"):
        is_token_folder(address)


def test_names_with_spaces_line_breaks_and_chinese_are_taken(folder, tokenizer):
    assert len(read_all(folder, tokenizer).lengths) == 60


def test_a_whole_folder_is_verified(whole, tokenizer):
    open_token_folder(whole, tokenizer).verify()


# ---- the manifest


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"format_version": 3}, r"has format_version 3, this flashquad reads 2; "),
        ({"shards": None}, r"manifest\.json does not give file, rows, bytes and sha256 of each shard"),
        ({"shards": [{"file": FIRST}]}, r"does not give file, rows, bytes and sha256 of each shard \(KeyError\('rows'"),
        ({"shards": [{"file": "../x", "rows": 1, "bytes": 1, "sha256": ""}]}, r"'\.\./x' .* is no file of the folder"),
        ({"shards": [{"file": "x", "rows": -1, "bytes": 1, "sha256": ""}]}, "x: -1 rows, 1 bytes"),
        ({"options": {"max_length": "512"}}, "gives max_length '512', no number"),
    ],
)
def test_a_manifest_that_says_nonsense_is_refused(folder, tokenizer, changes, match):
    change_manifest(folder, **changes)
    refused(folder, tokenizer, match)


def test_a_folder_made_with_another_tokenizer_is_refused_with_both_names(folder, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("".join(f"{token}\n" for token in (*TOKENS, "龘")), encoding="utf-8")
    tokenizer = load_tokenizer(other)
    tokenizer.name_or_path = "the-other-one"
    sizes = rf"\({len(TOKENS)} tokens\), not with the-other-one \({len(TOKENS) + 1} tokens\)"
    refused(folder, tokenizer, rf"was prepared with the tokenizer toy {sizes}")


def test_a_folder_without_rows_is_refused(tmp_path, tokenizer):
    folder = write_token_folder(tmp_path / "none", [], tokenizer, shards=0)
    refused(folder, tokenizer, "holds no rows; prepare some text")


# ---- the shards


def test_a_deleted_shard_is_named(folder, tokenizer):
    (folder / FIRST).unlink()
    refused(folder, tokenizer, f"{FIRST} is missing, the manifest names it")


@pytest.mark.parametrize("change", [-8, 8])
def test_a_shard_of_another_size_is_named_with_both_sizes_and_its_checksum(folder, tokenizer, change):
    entry = manifest_of(folder)["shards"][0]
    os.truncate(folder / FIRST, entry["bytes"] + change)
    message = refused(folder, tokenizer, f"{FIRST} has {entry['bytes'] + change:,} bytes, the manifest says ")
    assert f"{entry['bytes']:,} (SHA-256 {entry['sha256']})" in message


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_a_flipped_bit_is_found_by_the_checksum(folder, tokenizer, place):
    path = folder / FIRST
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 4
    path.write_bytes(content)
    opened = open_token_folder(folder, tokenizer)
    sums = f"is [0-9a-f]{{64}}, the manifest says {manifest_of(folder)['shards'][0]['sha256']}"
    with pytest.raises(InputError, match=f"{FIRST} was changed since it was written: its SHA-256 {sums}"):
        opened.verify()


def test_no_flipped_bit_does_more_than_change_rows_or_raise_an_input_error(whole, tmp_path, tokenizer):
    generator = np.random.default_rng(0)
    messages = []
    for trial in range(150):
        folder = Path(shutil.copytree(whole, tmp_path / str(trial)))
        content = bytearray((folder / FIRST).read_bytes())
        content[generator.integers(len(content))] ^= 1 << generator.integers(8)
        (folder / FIRST).write_bytes(content)
        try:
            read = read_all(folder, tokenizer)
        except InputError as error:
            messages.append(str(error))
        else:
            assert len(read.lengths) == 60
    assert 10 < len(messages) < 140
    assert all(FIRST in message and "\n" not in message for message in messages)


@pytest.mark.parametrize("by", ["name", "content"])
def test_a_shard_that_is_in_twice_is_refused(folder, tokenizer, by):
    shards = manifest_of(folder)["shards"]
    again = dict(shards[0])
    if by == "content":
        again["file"] = "shard-00003-of-00003.arrow"
        shutil.copy(folder / FIRST, folder / again["file"])
    change_manifest(folder, shards=[*shards, again])
    refused(folder, tokenizer, r"names the shard with the (file|sha256) .* 2 times: its rows would be trained on more")


def test_a_shard_that_the_manifest_does_not_name_is_refused(folder, tokenizer):
    shutil.copy(folder / FIRST, folder / "shard-00000-of-00003 (1).arrow")
    refused(folder, tokenizer, r"shard-00000-of-00003 \(1\)\.arrow is not named by the manifest")


def test_other_files_beside_the_shards_are_left_alone(folder, tokenizer):
    (folder / "rejects.jsonl").write_text("{}")
    assert len(read_all(folder, tokenizer).lengths) == 60


def test_a_shard_of_other_rows_than_the_manifest_says_is_refused(folder, tokenizer):
    replace_first_shard(folder, random_rows(19, tokenizer))
    with pytest.raises(InputError, match=f"{FIRST} is damaged: a record batch holds 5 rows, where 6 were expected"):
        read_all(folder, tokenizer)
    replace_first_shard(folder, random_rows(14, tokenizer))
    with pytest.raises(InputError, match=f"{FIRST} is damaged: it holds 2 record batches of 7 rows, .* says 20 rows"):
        read_all(folder, tokenizer)


def test_a_shard_of_other_columns_is_refused(folder, tokenizer):
    replace_first_shard(folder, random_rows(20, tokenizer), token_type=pa.int64())
    with pytest.raises(InputError, match=r"its column input_ids should hold large_list<.*uint16>, it holds .*int64"):
        read_all(folder, tokenizer)


def test_a_file_that_is_no_arrow_file_is_refused(folder, tokenizer):
    size = (folder / FIRST).stat().st_size
    (folder / FIRST).write_bytes(b"x" * size)
    with pytest.raises(InputError, match=f"{FIRST} is damaged: "):
        read_all(folder, tokenizer)


def test_an_id_that_the_tokenizer_does_not_have_is_refused(folder, tokenizer):
    rows = random_rows(20, tokenizer)
    rows[11].input_ids[1] = len(tokenizer)
    replace_first_shard(folder, rows)
    has = f"is damaged: it holds the token id {len(tokenizer)}, its tokenizer has {len(tokenizer)} tokens"
    with pytest.raises(InputError, match=rf"{FIRST} {has}"):
        read_all(folder, tokenizer)


def test_a_row_longer_than_the_manifest_says_is_refused(folder, tokenizer):
    rows = random_rows(20, tokenizer)
    rows[3] = random_rows(1, tokenizer, most=600, least=600)[0]
    replace_first_shard(folder, rows)
    with pytest.raises(
        InputError, match=f"{FIRST} is damaged: it holds a row of 602 tokens, the manifest says .* more than 512"
    ):
        read_all(folder, tokenizer)


def test_word_starts_of_another_length_are_refused(folder, tokenizer):
    rows = random_rows(20, tokenizer)
    rows[5] = Row(rows[5].input_ids, rows[5].word_starts + [True] * 8)
    replace_first_shard(folder, rows)
    with pytest.raises(InputError, match=f"{FIRST} is damaged: its rows have more or fewer word starts than tokens"):
        read_all(folder, tokenizer)


def test_what_a_loaders_worker_finds_is_said_in_one_line(folder, tokenizer):
    replace_first_shard(folder, random_rows(19, tokenizer))
    dataset = TokenDataset(open_token_folder(folder, tokenizer), max_length=512)
    loader = DataLoader(dataset, batch_size=4, collate_fn=WholeWordMaskCollator(tokenizer), num_workers=1)
    with pytest.raises(InputError) as raised:
        list(loader)
    assert FIRST in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "Traceback" not in str(raised.value)
