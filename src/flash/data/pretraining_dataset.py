"""A prepared folder as a torch dataset: opened, checked, tokenized once, split for validation."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from flash.data.manifest import check_tokenizer, read_manifest
from flash.data.rows import NumberedRows, TokenRows
from flash.data.token_folder import is_token_folder
from flash.data.tokenization import tokenize_rows
from flash.errors import InputError

logger = logging.getLogger(__name__)

_TOKENIZED = datasets.Features(
    {
        "input_ids": datasets.List(datasets.Value("int32")),
        "continuations": datasets.List(datasets.Value("int32")),
        "row": datasets.Value("int64"),
    }
)


class PretrainingDataset(NumberedRows):
    """Rows of token ids and word references, numbered, with the epoch that their masks are drawn from."""

    def __init__(self, tokenized: datasets.Dataset) -> None:
        super().__init__()
        self._rows = tokenized.select_columns(["input_ids", "continuations"]).with_format("arrow")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, indices: Sequence[int]) -> TokenRows:
        """Read some rows at once, as torch's loaders do where they can."""
        numbers = np.asarray(indices, dtype=np.int64)
        table = self._rows[numbers.tolist()]
        input_ids, lengths = _flat(table["input_ids"])
        continuations, counts = _flat(table["continuations"])
        word_starts = np.ones(len(input_ids), dtype=bool)
        word_starts[continuations + np.repeat(np.cumsum(lengths) - lengths, counts)] = False
        return TokenRows(input_ids, word_starts, lengths, numbers, self.epoch)


def _flat(lists: pa.ChunkedArray) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the values of all lists one behind the other, and the length of each."""
    whole = lists.combine_chunks()
    return whole.flatten().to_numpy(), whole.value_lengths().to_numpy().astype(np.int64)


def load_prepared_folder(folder: str | Path) -> datasets.Dataset:
    """Open a folder with the columns ``text`` and ``chinese_ref``, of ours or of the earlier repository.

    Raises:
        InputError: Not such a folder, damaged, or without the columns or rows.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such dataset folder; make one with `flashquad prepare` or `python run_chinese_ref.py`"
        )
    if is_token_folder(folder):
        raise InputError(
            f"{folder} holds tokens, and here the columns text and chinese_ref are read; prepare the text again with "
            "`flashquad prepare --format text`"
        )
    try:
        dataset = datasets.load_from_disk(str(folder))
    except IndexError:  # datasets writes no file for no rows, and then looks for the first
        dataset = datasets.Dataset.from_dict({"text": [], "chinese_ref": []})
    except (OSError, ValueError) as error:  # pyarrow and json derive theirs from these two
        raise InputError(
            f"{folder} is no whole dataset folder ({' '.join(str(error).split())}); make one with `flashquad prepare`"
        ) from error
    if isinstance(dataset, datasets.DatasetDict):
        raise InputError(
            f"{folder} holds several splits ({', '.join(dataset)}); name one of them: {folder / next(iter(dataset))}"
        )
    missing = [name for name in ("text", "chinese_ref") if name not in dataset.column_names]
    if missing:
        raise InputError(
            f"{folder} has no column {' or '.join(missing)}, only {', '.join(dataset.column_names)}; whole-word "
            "masking needs word references: prepare the text with `flashquad prepare`"
        )
    if len(dataset) == 0:
        raise InputError(f"{folder} holds no rows; prepare some text with `flashquad prepare`")
    positions = dataset.features.arrow_schema.field("chinese_ref").type
    if not (pa.types.is_list(positions) or pa.types.is_large_list(positions)) or not (
        pa.types.is_integer(positions.value_type) or pa.types.is_null(positions.value_type)
    ):
        raise InputError(
            f"{folder}: the column chinese_ref must hold lists of integers, it holds {positions}; prepare the text "
            "with `flashquad prepare`"
        )
    return dataset


def tokenize_dataset(
    dataset: datasets.Dataset,
    *,
    folder: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    workers: int = 1,
    overwrite_cache: bool = False,
) -> datasets.Dataset:
    """Tokenize a prepared dataset; the result is cached by content beside it, so a second run starts at once.

    Rows whose references point outside their text are left out, counted, and said.

    Raises:
        InputError: The dataset was prepared with another vocabulary, or no row is usable.
    """
    manifest = read_manifest(folder)
    if manifest is not None:
        check_tokenizer(manifest, folder, tokenizer)
    tokenized = dataset.map(
        partial(
            tokenize_rows,
            tokenizer=tokenizer,
            max_length=max_length,
            mark_word_pieces=manifest is None,
        ),
        with_indices=True,
        batched=True,
        remove_columns=dataset.column_names,
        features=_TOKENIZED,
        num_proc=workers if workers > 1 else None,
        load_from_cache_file=not overwrite_cache,
        desc="tokenize",
    )
    lengths = pa.compute.list_value_length(tokenized.data.column("input_ids"))
    empty = np.flatnonzero(np.asarray(lengths) == 0)
    if len(empty):
        rows = tokenized.data.column("row").take(empty).to_pylist()
        shown = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
        logger.warning(
            "%s: left out %d of %d rows whose chinese_ref points outside their text (rows %s); prepare the text again "
            "with `flashquad prepare` and this tokenizer to keep them",
            folder,
            len(rows),
            len(dataset),
            shown,
        )
        tokenized = tokenized.select(np.flatnonzero(np.asarray(lengths) > 0))
    if len(tokenized) == 0:
        reason = (
            "the chinese_ref of every row points outside its text; it was prepared with another tokenizer"
            if len(empty)
            else "every text is empty"
        )
        raise InputError(f"{folder}: {reason}. Prepare text anew with `flashquad prepare`")
    return tokenized


class Selectable(Protocol):
    """Rows of which some can be taken: a dataset of the library `datasets`, or of token shards."""

    def __len__(self) -> int: ...

    def select(self, indices: range) -> Self:
        """Take these rows."""


def split_tail(rows: Selectable, share: float, *, most_rows: int = 2000) -> tuple[Any, Any]:
    """Cut the last rows off for validation: neighbouring rows share documents, so one document at most is in both.

    Args:
        rows: All rows.
        share: Share of the rows to hold out, between 0 and 0.5; at least one row and at most ``most_rows`` are.
        most_rows: Bound on the time of an evaluation.

    Raises:
        InputError: Too few rows to hold one out.
    """
    held_out = min(max(1, round(len(rows) * share)), most_rows)
    if held_out >= len(rows):
        raise InputError(
            f"{len(rows)} row(s) are too few to hold out {held_out} for validation; add text, or pass "
            "--validation_split 0"
        )
    split = len(rows) - held_out
    return rows.select(range(split)), rows.select(range(split, len(rows)))
