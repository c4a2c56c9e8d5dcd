from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler

from flash.corpus.tokenizer_loading import load_tokenizer
from flash.data.pretraining_dataset import split_tail
from flash.data.stream_order import StreamOrder
from flash.data.token_dataset import TokenDataset
from flash.data.token_folder import open_token_folder

from helpers import few_examples
from token_folders import random_rows, write_token_folder

ROWS, ROWS_OF_BLOCK = 500, 10


@pytest.fixture(scope="module")
def dataset(toy_vocabulary, tmp_path_factory):
    tokenizer = load_tokenizer(toy_vocabulary)
    folder = tmp_path_factory.mktemp("tokens") / "data"
    write_token_folder(folder, random_rows(ROWS, tokenizer), tokenizer, rows_of_batch=ROWS_OF_BLOCK)
    return TokenDataset(open_token_folder(f"file://{folder}", tokenizer), max_length=512)


def order_of(rows, **changes):
    settings = {"batch_size": 4, "lanes": 2, "buffer_rows": 40, "seed": 0, "rows_of_block": ROWS_OF_BLOCK}
    return StreamOrder(rows, **(settings | changes))


def test_blocks_are_those_of_the_shards_without_the_rows_held_out(dataset):
    train, validation = split_tail(dataset, 0.05)
    # shards of 166, 167 and 167 rows, of which the last 25 are held out
    lengths = [10] * 16 + [6] + [10] * 16 + [7] + [10] * 14 + [2]
    starts, ends = train.blocks(ROWS_OF_BLOCK)
    assert (ends - starts).tolist() == lengths
    np.testing.assert_array_equal(starts[1:], ends[:-1])
    starts, ends = validation.blocks(ROWS_OF_BLOCK)
    assert list(zip(starts, ends, strict=True)) == [(0, 8), (8, 18), (18, 25)]


@few_examples
@given(
    st.integers(1, 9),
    st.integers(1, 60),
    st.integers(1, 700),
    st.integers(0, 99),
    st.integers(1, 30),
    st.integers(0, 3),
)
def test_every_row_comes_once(dataset, batch_size, lanes, buffer_rows, seed, rows_of_block, epoch):
    rows = dataset.select(range(ROWS - seed))
    rows.use_masks_of_epoch(epoch)
    order = order_of(
        rows, batch_size=batch_size, lanes=lanes, buffer_rows=buffer_rows, seed=seed, rows_of_block=rows_of_block
    )
    assert sorted(order) == list(range(len(rows)))
    assert len(order) == len(rows)


def test_the_order_is_another_in_each_epoch_and_with_each_seed_and_else_the_same(dataset):
    rows = dataset.select(range(ROWS))
    orders = []
    for seed, epoch in ((0, 0), (1, 0), (0, 1)):
        rows.use_masks_of_epoch(epoch)
        orders.append(list(order_of(rows, seed=seed)))
        assert list(order_of(rows, seed=seed)) == orders[-1]
    assert orders[0] != orders[1] != orders[2] != orders[0]


@pytest.mark.parametrize(("ranks", "workers"), [(1, 1), (1, 3), (2, 1), (2, 2)])
def test_each_worker_reads_each_of_its_blocks_once_and_keeps_few(dataset, ranks, workers):
    readers = ranks * workers
    order = order_of(dataset, lanes=readers)
    batches = list(BatchSampler(order, 4, drop_last=False))
    starts, _ = dataset.blocks(ROWS_OF_BLOCK)
    readings: Counter[int] = Counter()
    # batch k goes to process k % ranks, and there to worker (k // ranks) % workers; the last ones are what lanes leave
    settled = len(batches) - 3 * readers
    for reader in range(readers):
        kept: list[int] = []
        for batch in batches[reader:settled:readers]:
            for block in np.searchsorted(starts, batch, side="right") - 1:
                if block in kept:
                    kept.remove(block)
                else:
                    readings[block] += 1
                kept = [*kept, block][-order.blocks_in_use(readers) :]
    assert set(readings.values()) == {1}
    assert order.blocks_in_use(readers) == 6


def test_rows_of_a_batch_come_from_many_blocks(dataset):
    order = order_of(dataset, lanes=1, batch_size=10, buffer_rows=100)
    starts, _ = dataset.blocks(ROWS_OF_BLOCK)
    batches = list(BatchSampler(order, 10, drop_last=False))
    blocks = [len(np.unique(np.searchsorted(starts, batch, side="right"))) for batch in batches]
    assert np.mean(blocks[10:-10]) > 5


def test_more_lanes_than_workers_need_more_memory(dataset):
    order = order_of(dataset, lanes=6)
    assert [order.blocks_in_use(workers) for workers in (6, 3, 1, 4)] == [6, 12, 36, 18]
