"""A prepared folder as a torch dataset: opened, checked, tokenized once, split for validation."""

import json
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from flash.corpus.tokenizer_loading import tokenizer_fingerprint
from flash.data.rows import TokenRows
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

# what a manifest must say of the tokenizer that the references were made with
_TOKENIZER_KEYS = {"name", "sha256", "vocab_size"}


class PretrainingDataset(Dataset[TokenRows]):
    """Rows of token ids and word references, numbered, with the epoch that their masks are drawn from."""

    def __init__(self, tokenized: datasets.Dataset) -> None:
        self._rows = tokenized.select_columns(["input_ids", "continuations"]).with_format("arrow")
        # shared memory: loader workers that outlive an epoch must see the next one
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> TokenRows:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> TokenRows:
        """Read some rows at once, as torch's loaders do where they can."""
        numbers = np.asarray(indices, dtype=np.int64)
        table = self._rows[numbers.tolist()]
        input_ids, lengths = _flat(table["input_ids"])
        continuations, counts = _flat(table["continuations"])
        word_starts = np.ones(len(input_ids), dtype=bool)
        word_starts[continuations + np.repeat(np.cumsum(lengths) - lengths, counts)] = False
        return TokenRows(input_ids, word_starts, lengths, numbers, int(self._epoch))

    def use_masks_of_epoch(self, epoch: int) -> None:
        """Draw the masks of this epoch from now on, in loader workers too.

        Not named ``set_epoch``: accelerate calls that of itself, but not after a resume in mid-epoch and not under
        torchrun, and counts up through repeated validations.
        """
        self._epoch.fill_(epoch)


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


def read_manifest(folder: str | Path) -> dict | None:
    """Read the manifest of a prepared folder; None for a folder of the earlier repository, which has none.

    Raises:
        InputError: It is damaged, or does not say which tokenizer the references were made with.
    """
    path = Path(folder) / "manifest.json"
    if not path.exists():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); prepare the text again with `flashquad prepare`") from error
    tokenizer = manifest.get("tokenizer") if isinstance(manifest, dict) else None
    missing = _TOKENIZER_KEYS - set(tokenizer) if isinstance(tokenizer, dict) else _TOKENIZER_KEYS
    if missing:
        raise InputError(
            f"{path} does not give the tokenizer's {', '.join(sorted(missing))}; prepare the text again with "
            "`flashquad prepare`"
        )
    return manifest


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
    _check_vocabulary(manifest, folder, tokenizer)
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


def _check_vocabulary(manifest: dict | None, folder: str | Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer other than the one that the references were made with."""
    if manifest is None:
        return
    made_with = manifest["tokenizer"]
    if made_with["sha256"] != tokenizer_fingerprint(tokenizer):
        given = tokenizer.name_or_path or "the one given"
        raise InputError(
            f"{folder} was prepared with the tokenizer {made_with['name']} ({made_with['vocab_size']} tokens), not "
            f"with {given} ({len(tokenizer)} tokens); its word references count the tokens of the former. Pass that "
            "tokenizer, or prepare the text again with this one"
        )


def split_tail(
    tokenized: datasets.Dataset, share: float, *, most_rows: int = 2000
) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Cut the last rows off for validation: neighbouring rows share documents, so one document at most is in both.

    Args:
        tokenized: All rows.
        share: Share of the rows to hold out, between 0 and 0.5; at least one row and at most ``most_rows`` are.
        most_rows: Bound on the time of an evaluation.

    Raises:
        InputError: Too few rows to hold one out.
    """
    held_out = min(max(1, round(len(tokenized) * share)), most_rows)
    if held_out >= len(tokenized):
        raise InputError(
            f"{len(tokenized)} row(s) are too few to hold out {held_out} for validation; add text, or pass "
            "--validation_split 0"
        )
    split = len(tokenized) - held_out
    return tokenized.select(range(split)), tokenized.select(range(split, len(tokenized)))
