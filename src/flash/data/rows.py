"""Rows of a pretraining dataset, as columns: what a loader hands the collator."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset


@dataclass(frozen=True)
class TokenRows:
    """Some rows, their tokens one behind the other, so that no step needs a loop over them.

    Args:
        input_ids: Tokens of all rows, ``(tokens,)``.
        word_starts: True where a token begins a word, ``(tokens,)``; special tokens do.
        lengths: Tokens of each row, ``(rows,)``.
        numbers: Number of each row in its dataset, ``(rows,)``: its masks are drawn from it.
        epoch: The epoch, from which they are drawn as well.
        sequence_lengths: Tokens of each sequence of packed rows, ``(sequences,)``; None where a row is one sequence.
    """

    input_ids: NDArray[np.integer]
    word_starts: NDArray[np.bool_]
    lengths: NDArray[np.int64]
    numbers: NDArray[np.int64]
    epoch: int
    sequence_lengths: NDArray[np.integer] | None = None

    @staticmethod
    def joined(parts: Sequence["TokenRows"]) -> "TokenRows":
        """Put rows of one dataset and epoch together."""
        return TokenRows(
            input_ids=np.concatenate([part.input_ids for part in parts]),
            word_starts=np.concatenate([part.word_starts for part in parts]),
            lengths=np.concatenate([part.lengths for part in parts]),
            numbers=np.concatenate([part.numbers for part in parts]),
            epoch=parts[0].epoch,
            sequence_lengths=(
                None
                if parts[0].sequence_lengths is None
                else np.concatenate([part.sequence_lengths for part in parts if part.sequence_lengths is not None])
            ),
        )


class NumberedRows(Dataset[TokenRows]):
    """A dataset of rows, numbered, with the epoch that their masks are drawn from."""

    def __init__(self) -> None:
        # shared memory: loader workers that outlive an epoch must see the next one
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitems__(self, indices: Sequence[int]) -> TokenRows:
        """Read some rows at once, as torch's loaders do where they can."""

    def __getitem__(self, index: int) -> TokenRows:
        return self.__getitems__([index])

    @property
    def epoch(self) -> int:
        """The epoch that masks are drawn from."""
        return int(self._epoch)

    def use_masks_of_epoch(self, epoch: int) -> None:
        """Draw the masks of this epoch from now on, in loader workers too.

        Not named ``set_epoch``: accelerate calls that of itself, but not after a resume in mid-epoch and not under
        torchrun, and counts up through repeated validations.
        """
        self._epoch.fill_(epoch)
