"""A folder of token shards as a torch dataset: any rows at once, cut where they are too long."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from flash.data.mapped_shard import MappedShard
from flash.data.row_pieces import cut_rows, piece_counts
from flash.data.row_places import RowPlaces, take_rows
from flash.data.rows import NumberedRows, TokenRows
from flash.data.shard_schema import damaged
from flash.data.streamed_shard import RecentBatches, StreamedShard
from flash.data.token_folder import ShardEntry, TokenFolder
from flash.errors import InputError


class TokenDataset(NumberedRows):
    """Rows of token shards.

    Opening reads no token. Where rows are longer than ``max_length`` their pieces are the rows of the dataset, numbered
    by the lengths of all rows (8 bytes each in memory), which are read for that.

    Args:
        folder: An opened folder.
        max_length: Most tokens in a row, [CLS] and [SEP] counted.

    Raises:
        InputError: Rows would have to be cut that cannot be.
    """

    def __init__(self, folder: TokenFolder, *, max_length: int) -> None:
        super().__init__()
        self.folder = folder
        self._max_length = max_length
        self._recent = RecentBatches(capacity=1)
        self._shards = [self._open(shard) for shard in folder.shards]
        self._shard_ends = np.cumsum([shard.rows for shard in folder.shards])
        # pieces up to and with each row; None: every row is one
        self._piece_ends: NDArray[np.int64] | None = None
        if folder.max_length is None or folder.max_length > max_length:
            self._piece_ends = np.cumsum(np.concatenate([self._pieces(shard) for shard in self._shards]))
        self._selected = range(int(self._shard_ends[-1] if self._piece_ends is None else self._piece_ends[-1]))

    def _open(self, shard: ShardEntry) -> MappedShard | StreamedShard:
        if self.folder.is_local:
            return MappedShard(Path(self.folder.path_of(shard)), shard.rows)
        address = f"{self.folder.address}/{shard.file}"
        return StreamedShard(address, rows=shard.rows, size=shard.bytes, recent=self._recent)

    def _pieces(self, shard: MappedShard | StreamedShard) -> NDArray[np.int64]:
        if isinstance(shard, StreamedShard):
            raise InputError(
                f"--max_seq_length {self._max_length}: the rows of {self.folder.address} have up to "
                f"{self.folder.max_length or 'an unknown number of'} tokens, and streamed rows are not cut; pass "
                "--max_seq_length of so many, copy the folder to a local disk, or prepare the text again with "
                f"--max-length {self._max_length}"
            )
        counts = piece_counts(shard.lengths(), self._max_length)
        if shard.is_packed and counts.max(initial=1) > 1:
            raise InputError(
                f"--max_seq_length {self._max_length}: {self.folder.address} was packed for longer rows, and cutting "
                f"takes sequences apart; pass --max_seq_length {shard.lengths().max()}, or pack the text again with "
                f"--max-length {self._max_length}"
            )
        return counts

    @property
    def is_streamed(self) -> bool:
        """Whether rows come over the network, so that those that lie together should be asked for together."""
        return not self.folder.is_local

    def keep_blocks(self, count: int) -> None:
        """Keep so many record batches of a stream in the memory of each process; before its workers are started."""
        self._recent.capacity = count

    def blocks(self, rows_of_block: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Number the rows that are read together: where each block begins, and behind its last row, ``(blocks,)``."""
        starts, ends = [], []
        for end, shard in zip(self._shard_ends, self._shards, strict=True):
            of_shard = np.arange(end - shard.rows, end, rows_of_block)
            starts.append(of_shard)
            ends.append(np.minimum(of_shard + rows_of_block, end))
        bounds = [
            np.clip(np.concatenate(part), self._selected.start, self._selected.stop) - self._selected.start
            for part in (starts, ends)
        ]
        return bounds[0][bounds[1] > bounds[0]], bounds[1][bounds[1] > bounds[0]]

    def __len__(self) -> int:
        return len(self._selected)

    def select(self, indices: range) -> Self:
        """Take a run of rows, numbered from 0 again, with an epoch of their own; the shards are shared."""
        selection = object.__new__(type(self))
        selection.__dict__.update(self.__dict__)
        NumberedRows.__init__(selection)
        selection._selected = self._selected[indices.start : indices.stop]
        return selection

    def __getitems__(self, indices: Sequence[int]) -> TokenRows:
        """Read some rows at once, in the asked order."""
        numbers = np.asarray(indices, dtype=np.int64)
        rows = numbers + self._selected.start
        piece = count = None
        if self._piece_ends is not None:
            item, rows = rows, np.searchsorted(self._piece_ends, rows, side="right")
            before = np.where(rows > 0, self._piece_ends[rows - 1], 0)
            piece, count = item - before, self._piece_ends[rows] - before
        parts = []
        for places in self._places(rows):
            if piece is not None and count is not None:
                places = cut_rows(places, piece[places.positions], count[places.positions], self._max_length)
            if places.taken.max() > self._max_length:
                raise damaged(
                    places.source,
                    f"it holds a row of {places.taken.max()} tokens, the manifest says that none has more than "
                    f"{self.folder.max_length}",
                )
            parts.append(places)
        return take_rows(parts, numbers=numbers, epoch=self.epoch, vocab_size=self.folder.vocab_size)

    def _places(self, rows: NDArray[np.int64]) -> list[RowPlaces]:
        shard_of_row = np.searchsorted(self._shard_ends, rows, side="right")
        places: list[RowPlaces] = []
        for number in np.unique(shard_of_row):
            positions = np.flatnonzero(shard_of_row == number)
            shard = self._shards[number]
            places += shard.places(rows[positions] - (self._shard_ends[number] - shard.rows), positions)
        return places
