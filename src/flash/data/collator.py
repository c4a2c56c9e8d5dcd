"""Rows of a pretraining dataset -> one padded, masked batch."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from flash.data.counter_random import row_keys
from flash.data.rows import TokenRows
from flash.data.whole_word_mask import WholeWordMasker


class WholeWordMaskCollator:
    """Mask whole words and pad, the same way whatever the batch, the worker or the process.

    The random numbers of a row come from ``(seed, epoch, row number)`` alone: a resumed or re-sharded run sees the very
    masks of an uninterrupted one, and every epoch sees new ones.

    Args:
        tokenizer: Gives the ids of [MASK], [PAD] and the special tokens.
        mask_probability: Share of the words to hide.
        mask_ngrams: Most words in a span of hidden words; 1 chooses words independently.
        seed: Changes all masks.
        pad_to: Pad to this many tokens; None pads to the longest row of the batch.
        pad_to_multiple_of: Round the padded length up (half-precision matrix units like multiples of 8).
        mask_later: Leave the masking to ``masker``, which does it on the device of the batch; the batch then holds
            ``word_starts`` and ``row_keys`` in place of ``labels``.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        mask_probability: float = 0.15,
        mask_ngrams: int = 1,
        seed: int = 0,
        pad_to: int | None = None,
        pad_to_multiple_of: int = 1,
        mask_later: bool = False,
    ) -> None:
        self.masker = WholeWordMasker(tokenizer, mask_probability=mask_probability, mask_ngrams=mask_ngrams)
        self.seed = seed
        self.pad_to = pad_to
        self.pad_to_multiple_of = pad_to_multiple_of
        self.pad_token_id: int = tokenizer.pad_token_id
        self.mask_later = mask_later

    def __call__(self, rows: TokenRows | Sequence[TokenRows]) -> dict[str, Tensor]:
        """Return ``input_ids``, ``attention_mask`` and ``labels``, each ``(rows, longest)`` int64.

        Packed rows come with ``seq_idx``, int32, which tells the model what sequence a token belongs to.

        Args:
            rows: What ``__getitems__`` of a dataset gives, or a list of what ``__getitem__`` gives.
        """
        if not isinstance(rows, TokenRows):
            rows = TokenRows.joined(rows)
        longest = self.pad_to or int(rows.lengths.max())
        longest = -(-longest // self.pad_to_multiple_of) * self.pad_to_multiple_of
        real = np.arange(longest) < rows.lengths[:, None]  # (rows, longest)
        input_ids = np.full(real.shape, self.pad_token_id, dtype=np.int64)
        input_ids[real] = rows.input_ids
        word_starts = np.ones(real.shape, dtype=bool)
        word_starts[real] = rows.word_starts
        batch = {
            "input_ids": torch.from_numpy(input_ids),
            "attention_mask": torch.from_numpy(real.astype(np.int64)),
            "word_starts": torch.from_numpy(word_starts),
            "row_keys": row_keys(self.seed, rows.epoch, torch.from_numpy(rows.numbers)),
        }
        if rows.sequence_lengths is not None:
            batch["seq_idx"] = torch.from_numpy(_sequence_numbers(rows, rows.sequence_lengths, real))
        return batch if self.mask_later else self.masker(batch)


def _sequence_numbers(
    rows: TokenRows, sequence_lengths: NDArray[np.integer], real: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """Number the sequences of each packed row from 0, ``(rows, longest)``; padding belongs to the last one."""
    sequence_starts = np.cumsum(sequence_lengths) - sequence_lengths
    row_ends = np.cumsum(rows.lengths)
    first, behind_last = (np.searchsorted(sequence_starts, borders) for borders in (row_ends - rows.lengths, row_ends))
    numbers = np.repeat((behind_last - first - 1)[:, None], real.shape[1], axis=1).astype(np.int32)
    numbers[real] = np.repeat(np.arange(len(sequence_lengths)), sequence_lengths) - np.repeat(first, rows.lengths)
    return numbers
