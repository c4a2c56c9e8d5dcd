"""The order in which a streamed dataset is gone through: shuffled, though each part of it is read once."""

from collections.abc import Iterator
from math import gcd

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from flash.data.shard_schema import ROWS_OF_BLOCK
from flash.data.token_dataset import TokenDataset


class StreamOrder(Sampler[int]):
    """Row numbers such that each loader worker reads every block of its own once, and keeps few of them.

    The blocks of all shards (record batches) are put in a random order and dealt to ``lanes``, of which batch ``k``
    comes from lane ``k % lanes``: with as many lanes as there are loader workers in all processes, each worker has one
    lane, for torch deals batches out in turn, to the processes and then to their workers. Within a lane the rows of a
    block are spread over the following ``buffer_blocks`` blocks, so that at any time about so many are in use, and
    one more is needed every block's worth of rows. (The idea of spreading is that of the shuffle ``py1e`` of
    mosaicml-streaming.)

    The order is a function of the seed, the epoch and the arguments: an epoch that was left is gone on with at any
    batch by passing over numbers, not rows. Every row comes once.

    Args:
        rows: The dataset; its epoch is that of the order.
        batch_size: Rows of a batch of one process.
        lanes: Independent orders that batches come from in turn.
        buffer_rows: Rows that a lane is shuffled over, at least.
        seed: Changes the order.
        rows_of_block: Rows that are read together.
    """

    def __init__(
        self,
        rows: TokenDataset,
        *,
        batch_size: int,
        lanes: int,
        buffer_rows: int,
        seed: int,
        rows_of_block: int = ROWS_OF_BLOCK,
    ) -> None:
        self._rows = rows
        self._batch_size = batch_size
        self._buffer_blocks = -(-buffer_rows // rows_of_block)
        self._seed = seed
        self._rows_of_block = rows_of_block
        self.lanes = lanes

    def __len__(self) -> int:
        return len(self._rows)

    def blocks_in_use(self, workers: int) -> int:
        """Say how many blocks a worker needs at a time, of so many workers in all processes."""
        lanes_of_worker = self.lanes // gcd(self.lanes, workers)
        return lanes_of_worker * (self._buffer_blocks + 2)

    def __iter__(self) -> Iterator[int]:
        epoch = self._rows.epoch
        starts, ends = self._rows.blocks(self._rows_of_block)
        order = np.random.default_rng((self._seed, epoch)).permutation(len(starts))
        lanes = [
            _in_batches(self._lane(starts, ends, order[lane :: self.lanes], epoch), self._batch_size)
            for lane in range(self.lanes)
        ]
        short = []  # what each lane has left when it cannot fill a batch any more
        while lanes:
            going_on = []
            for lane in lanes:
                batch = next(lane)
                if len(batch) == self._batch_size:
                    yield from batch.tolist()
                    going_on.append(lane)
                else:
                    short.append(batch)
            lanes = going_on
        yield from np.concatenate(short).tolist()

    def _lane(
        self, starts: NDArray[np.int64], ends: NDArray[np.int64], blocks: NDArray[np.int64], epoch: int
    ) -> Iterator[NDArray[np.int64]]:
        """Shuffle the rows of some blocks: that of block i at a random time between i and i + buffer_blocks."""
        rows, times = np.empty(0, dtype=np.int64), np.empty(0)
        for number, block in enumerate(blocks):
            new = np.arange(starts[block], ends[block])
            generator = np.random.default_rng((self._seed, epoch, block))
            rows = np.concatenate([rows, new])
            times = np.concatenate([times, number + generator.random(len(new)) * self._buffer_blocks])
            now = times < number + 1
            yield rows[now][times[now].argsort()]
            rows, times = rows[~now], times[~now]
        yield rows[times.argsort()]


def _in_batches(parts: Iterator[NDArray[np.int64]], size: int) -> Iterator[NDArray[np.int64]]:
    """Regroup rows into batches; the last one is shorter, or empty."""
    left = np.empty(0, dtype=np.int64)
    for part in parts:
        left = np.concatenate([left, part])
        whole = len(left) // size * size
        yield from left[:whole].reshape(-1, size)
        left = left[whole:]
    yield left
