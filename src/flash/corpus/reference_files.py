"""The dataset once more as two text files, ``refids.txt`` and ``reftext.txt``, a block a line in both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from flash.corpus.prepare import PrepareSettings, prepare_dataset
from flash.corpus.staging import places_of, staged


def prepare_with_reference_files(
    inputs: Sequence[Path],
    output: Path,
    tokenizer: str | Path,
    settings: PrepareSettings,
    *,
    reference_folder: Path,
    workers: int = 0,
    overwrite: bool = False,
    log_interval: int = 10_000,
) -> dict[str, Any]:
    """Do what `prepare_dataset` does, and write its rows to two files in ``reference_folder`` as well.

    ``refids.txt`` has a JSON list of positions on each line, ``reftext.txt`` the text they belong to: a block is
    cleaned text and never contains a line break, so line numbers agree.
    """
    outputs = [reference_folder / "refids.txt", reference_folder / "reftext.txt"]
    with (
        staged(outputs[0], overwrite=overwrite) as refids_path,
        staged(outputs[1], overwrite=overwrite) as reftext_path,
        refids_path.open("w", encoding="utf-8") as refids,
        reftext_path.open("w", encoding="utf-8") as reftext,
    ):

        def write_lines(rows: pa.RecordBatch) -> None:
            refids.writelines(f"{positions}\n" for positions in rows["chinese_ref"].to_pylist())
            reftext.writelines(f"{text}\n" for text in rows["text"].to_pylist())

        return prepare_dataset(
            inputs,
            output,
            tokenizer,
            settings,
            workers=workers,
            overwrite=overwrite,
            log_interval=log_interval,
            on_rows=write_lines,
            passed_over=[place for path in outputs for place in places_of(path)],
        )
