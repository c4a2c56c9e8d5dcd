import json
import pickle
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from accelerate import skip_first_batches
from accelerate.data_loader import prepare_data_loader
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.local import LocalFileSystem
from torch.utils.data import DataLoader

from flash.corpus.tokenizer_loading import load_tokenizer
from flash.data.collator import WholeWordMaskCollator
from flash.data.stream_order import StreamOrder
from flash.data.streamed_shard import StreamedShard
from flash.data.token_dataset import TokenDataset
from flash.data.token_folder import open_token_folder
from flash.data.tokenizer_at import load_tokenizer_at
from flash.errors import InputError

from token_folders import as_rows, random_rows, write_shard, write_token_folder

FIRST = "shard-00000-of-00003.arrow"


class RemoteFileSystem(AsyncFileSystem):
    """Local files behind the interface of object stores, whose connections do not outlive a fork."""

    protocol = "remote"
    cachable = True

    def __init__(self, **options):
        super().__init__(**options)
        self._files = LocalFileSystem()

    async def _ls(self, path, detail=True, **_):
        return self._files.ls(path, detail=detail)

    async def _info(self, path, **_):
        return self._files.info(path)

    async def _cat_file(self, path, start=None, end=None, **_):
        return self._files.cat_file(path, start=start, end=end)

    async def _get_file(self, path, local, **_):
        if not Path(path).is_dir():
            shutil.copy(path, local)

    def _open(self, path, mode="rb", **options):
        return self._files.open(path, mode, **options)


fsspec.register_implementation("remote", RemoteFileSystem, clobber=True)


@pytest.fixture(scope="module")
def tokenizer(toy_vocabulary):
    return load_tokenizer(toy_vocabulary)


@pytest.fixture(scope="module")
def rows(tokenizer):
    return random_rows(100, tokenizer)


@pytest.fixture(scope="module")
def folder(rows, tokenizer, tmp_path_factory):
    """A folder of 100 rows; not to be changed."""
    return write_token_folder(tmp_path_factory.mktemp("tokens") / "data", rows, tokenizer)


@pytest.fixture
def in_memory(folder):
    """The address of the same folder in fsspec's memory."""
    filesystem = fsspec.filesystem("memory")
    filesystem.put(str(folder), "/bucket/data", recursive=True)
    yield "memory://bucket/data"
    filesystem.rm("/bucket", recursive=True)


def opened(address, tokenizer, *, blocks: int = 100, **settings) -> TokenDataset:
    dataset = TokenDataset(open_token_folder(address, tokenizer), **({"max_length": 512} | settings))
    dataset.keep_blocks(blocks)
    return dataset


@pytest.fixture
def batches_read(monkeypatch):
    """The record batches that this process reads, in order: shard and number."""
    read = []
    original = StreamedShard.read_batch

    def read_batch(shard, number):
        read.append((Path(shard.address).name, number))
        return original(shard, number)

    monkeypatch.setattr(StreamedShard, "read_batch", read_batch)
    return read


def test_rows_are_those_of_the_mapped_folder(folder, in_memory, rows, tokenizer):
    order = np.random.default_rng(0).permutation(100)
    for address in (in_memory, f"{in_memory}/", f"file://{folder}", f"remote://{folder}"):
        dataset = opened(address, tokenizer)
        assert dataset.is_streamed
        assert as_rows(dataset.__getitems__(order)) == [rows[number] for number in order]


@pytest.mark.parametrize("blocks", [1, 2, 5])
def test_rows_do_not_depend_on_how_much_is_kept(in_memory, rows, tokenizer, blocks):
    dataset = opened(in_memory, tokenizer, blocks=blocks)
    order = np.random.default_rng(0).permutation(100)
    assert as_rows(dataset.__getitems__(order)) == [rows[number] for number in order]


def test_a_record_batch_that_is_kept_is_not_read_again(in_memory, tokenizer, batches_read):
    dataset = opened(in_memory, tokenizer, blocks=2)
    for numbers, read in (
        ([0, 6], [(FIRST, 0)]),
        ([3], []),
        ([8, 9], [(FIRST, 1)]),
        ([1], []),
        ([14], [(FIRST, 2)]),
        ([2], []),
        ([8], [(FIRST, 1)]),
    ):
        batches_read.clear()
        dataset.__getitems__(numbers)
        assert batches_read == read


def test_opening_reads_no_shard(in_memory, tokenizer, monkeypatch):
    monkeypatch.setattr(StreamedShard, "_opened", lambda shard: pytest.fail(f"{shard.address} was opened"))
    dataset = opened(in_memory, tokenizer)
    assert len(dataset) == len(StreamOrder(dataset, batch_size=4, lanes=2, buffer_rows=50, seed=0)) == 100


def test_only_ranges_of_a_file_are_read(folder, tokenizer, monkeypatch):
    dataset = opened(f"remote://{folder}", tokenizer)
    ranges = []
    original = LocalFileSystem.cat_file

    def cat_file(filesystem, path, start=None, end=None, **options):
        ranges.append((Path(path).name, end - start))
        return original(filesystem, path, start=start, end=end, **options)

    monkeypatch.setattr(LocalFileSystem, "cat_file", cat_file)
    dataset[40]
    assert {name for name, _ in ranges} == {"shard-00001-of-00003.arrow"}
    assert sum(size for _, size in ranges) < (folder / "shard-00001-of-00003.arrow").stat().st_size / 2


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # more workers than cores are meant
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_forked_workers_open_connections_of_their_own(folder, tokenizer, workers):
    dataset = opened(f"remote://{folder}", tokenizer)
    collator = WholeWordMaskCollator(tokenizer)
    expected = collator(dataset.__getitems__(range(100)))  # opens them here as well
    loader = DataLoader(dataset, batch_size=100, collate_fn=collator, num_workers=workers)
    (batch,) = loader
    assert all((batch[name] == expected[name]).all() for name in expected)


def test_a_copy_in_another_process_opens_the_files_itself(in_memory, rows, tokenizer):
    dataset = opened(in_memory, tokenizer)
    dataset[0]
    assert as_rows(pickle.loads(pickle.dumps(dataset)).__getitems__([50, 3])) == [rows[50], rows[3]]


@pytest.mark.parametrize("ranks", [1, 2])
def test_an_epoch_is_gone_on_with_without_reading_what_is_passed_over(in_memory, tokenizer, batches_read, ranks):
    dataset = opened(in_memory, tokenizer)
    asked: list[int] = []
    original = dataset.__getitems__

    class Recording(TokenDataset):
        def __getitems__(self, indices):
            asked.extend(indices)
            return original(indices)

    dataset.__class__ = Recording
    order = StreamOrder(dataset, batch_size=5, lanes=ranks, buffer_rows=21, seed=0, rows_of_block=7)
    whole = []
    for rank in range(ranks):
        loader = prepare_data_loader(
            DataLoader(dataset, batch_size=5, sampler=order, collate_fn=WholeWordMaskCollator(tokenizer)),
            num_processes=ranks,
            process_index=rank,
        )
        batches = [batch["input_ids"].tolist() for batch in loader]
        whole.append(list(asked))
        for done in (1, 7):
            asked.clear()
            batches_read.clear()
            resumed = skip_first_batches(loader, done)
            assert [batch["input_ids"].tolist() for batch in resumed] == batches[done:]
            assert asked == whole[rank][5 * done :]
        asked.clear()
    assert sorted(number for of_rank in whole for number in of_rank) == list(range(100))


# ---- what cannot be streamed, or is damaged


def test_streamed_rows_are_not_cut(in_memory, tokenizer):
    match = (
        r"--max_seq_length 16: the rows of memory://bucket/data have up to 512 tokens, and streamed rows are not cut"
    )
    with pytest.raises(InputError, match=match):
        opened(in_memory, tokenizer, max_length=16)


@pytest.mark.parametrize("damage", ["flipped", "irregular"])
def test_a_damaged_shard_is_named(folder, rows, tokenizer, tmp_path, damage):
    copy = Path(shutil.copytree(folder, tmp_path / "data"))
    path = copy / FIRST
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[-20] ^= 255  # in the footer
        path.write_bytes(content)
    else:
        write_shard(path, rows[:33], rows_of_batch=5, token_type=pa.uint16())
        manifest = json.loads((copy / "manifest.json").read_text())
        manifest["shards"][0] |= {"bytes": path.stat().st_size, "rows": 34}
        (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=rf"file://.*{FIRST} is damaged: "):
        opened(f"file://{copy}", tokenizer).__getitems__(range(34))


def test_a_missing_shard_is_named(in_memory, tokenizer):
    fsspec.filesystem("memory").rm(f"/bucket/data/{FIRST}")
    with pytest.raises(InputError, match=rf"memory://bucket/data/{FIRST} is missing"):
        opened(in_memory, tokenizer)


# ---- the tokenizer beside it


def test_the_tokenizer_of_an_address_is_that_of_the_folder(in_memory, folder, tokenizer):
    for address in (in_memory, f"remote://{folder}"):
        loaded = load_tokenizer_at(f"{address}/tokenizer")
        assert loaded.get_vocab() == tokenizer.get_vocab()
        assert loaded.name_or_path == f"{address}/tokenizer"
    assert load_tokenizer_at(str(folder / "tokenizer")).get_vocab() == tokenizer.get_vocab()


def test_the_address_of_a_tokenizer_is_no_pattern(folder, tokenizer, tmp_path):
    for name in ("run[1]", "run?", "a*b"):
        shutil.copytree(folder, tmp_path / name)
        assert load_tokenizer_at(f"file://{tmp_path / name}/tokenizer").get_vocab() == tokenizer.get_vocab()


def test_a_damaged_tokenizer_is_named_by_its_address(in_memory):
    fsspec.filesystem("memory").pipe_file("/bucket/data/tokenizer/tokenizer.json", b"{")
    with pytest.raises(InputError, match=r"^memory://bucket/data/tokenizer holds no tokenizer that can be loaded"):
        load_tokenizer_at(f"{in_memory}/tokenizer")


def test_an_address_without_a_tokenizer_is_named(in_memory):
    with pytest.raises(InputError, match=r"the tokenizer memory://bucket/nothing cannot be read \(.+\); check the"):
        load_tokenizer_at("memory://bucket/nothing")
