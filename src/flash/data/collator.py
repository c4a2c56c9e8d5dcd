"""Rows of a pretraining dataset -> one padded, masked batch."""

from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from flash.data.whole_word_mask import mask_whole_words
from flash.errors import InputError


class PretrainingRow(TypedDict):
    """One row: its tokens, the positions that continue a word, and what its random numbers are drawn from."""

    input_ids: NDArray[np.int32]
    continuations: NDArray[np.int32]
    index: int
    epoch: int


class WholeWordMaskCollator:
    """Mask whole words and pad, the same way whatever the batch, the worker or the process.

    The random numbers of a row come from ``(seed, epoch, index)`` alone: a resumed or re-sharded run sees the very
    masks of an uninterrupted one, and every epoch sees new ones.

    Args:
        tokenizer: Gives the ids of [MASK], [PAD] and the special tokens.
        mask_probability: Share of the words to hide.
        seed: Changes all masks.
        pad_to: Pad to this many tokens; None pads to the longest row of the batch.
        pad_to_multiple_of: Round the padded length up (half-precision matrix units like multiples of 8).
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        mask_probability: float = 0.15,
        seed: int = 0,
        pad_to: int | None = None,
        pad_to_multiple_of: int = 1,
    ) -> None:
        if not 0.0 < mask_probability < 1.0:
            raise InputError(f"mask_probability must lie between 0 and 1, got {mask_probability}; 0.15 is BERT's")
        self.mask_probability = mask_probability
        self.seed = seed
        self.pad_to = pad_to
        self.pad_to_multiple_of = pad_to_multiple_of
        self.pad_token_id: int = tokenizer.pad_token_id
        self.mask_token_id: int = tokenizer.mask_token_id
        self.special_ids = np.array(sorted(tokenizer.all_special_ids))
        self.replacement_ids = np.setdiff1d(np.arange(len(tokenizer)), self.special_ids)

    def __call__(self, rows: list[PretrainingRow]) -> dict[str, Tensor]:
        """Return ``input_ids``, ``attention_mask`` and ``labels``, each ``(rows, longest)`` int64."""
        lengths = np.array([len(row["input_ids"]) for row in rows])
        row_starts = np.cumsum(lengths) - lengths
        input_ids = np.concatenate([row["input_ids"] for row in rows])
        word_starts = np.ones(len(input_ids), dtype=bool)
        continuations = [row["continuations"] + start for row, start in zip(rows, row_starts, strict=True)]
        word_starts[np.concatenate(continuations)] = False
        uniforms = np.concatenate([self._random_numbers(row) for row in rows])
        masked_ids, labels = mask_whole_words(
            input_ids,
            word_starts,
            uniforms,
            mask_probability=self.mask_probability,
            special_ids=self.special_ids,
            mask_token_id=self.mask_token_id,
            replacement_ids=self.replacement_ids,
        )

        longest = self.pad_to or int(lengths.max())
        longest = -(-longest // self.pad_to_multiple_of) * self.pad_to_multiple_of
        real = np.arange(longest) < lengths[:, None]  # (rows, longest)
        batch = {
            "input_ids": np.full(real.shape, self.pad_token_id, dtype=np.int64),
            "attention_mask": real.astype(np.int64),
            "labels": np.full(real.shape, -100, dtype=np.int64),
        }
        batch["input_ids"][real] = masked_ids
        batch["labels"][real] = labels
        return {name: torch.from_numpy(values) for name, values in batch.items()}

    def _random_numbers(self, row: PretrainingRow) -> NDArray[np.float64]:
        generator = np.random.default_rng((self.seed, row["epoch"], row["index"]))
        return generator.random((len(row["input_ids"]), 2))
