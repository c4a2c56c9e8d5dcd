"""The whole text strand: files -> documents -> annotated blocks -> dataset folder with its manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa

from flash.corpus.annotate import SPECIAL_TOKEN_COUNT, AnnotationSettings, check_block_sizes
from flash.corpus.arrow import DatasetWriter, write_json
from flash.corpus.batches import BatchAnnotator, in_batches
from flash.corpus.documents import ReadingSettings
from flash.corpus.embedded import portable_path
from flash.corpus.input_files import InputFile, find_input_files, printable
from flash.corpus.lines import check_encoding
from flash.corpus.read_inputs import read_inputs, shuffled
from flash.corpus.records import InputSummary, Record
from flash.corpus.rejects import RejectLog
from flash.corpus.segment import SegmenterChoice, load_segmenter, segmenter_description
from flash.corpus.staging import DATASET_FILES, places_of, scratch_folder, staged
from flash.corpus.tokenizer_loading import load_tokenizer, save_tokenizer, tokenizer_description
from flash.corpus.workers import ordered_map, usable_workers
from flash.errors import InputError


@dataclass(frozen=True, slots=True)
class PrepareSettings:
    """What decides the content of the dataset.

    Args:
        max_length: Tokens of a block, [CLS] and [SEP] counted.
        min_block_chars: Shorter blocks are rejected; only documents that short give any.
        shuffle_seed: Of a random order of documents; None keeps the order of the input.
        reading: How the files are read.
    """

    max_length: int = 512
    min_block_chars: int = 10
    shuffle_seed: int | None = None
    reading: ReadingSettings = field(default_factory=ReadingSettings)

    def __post_init__(self) -> None:
        check_block_sizes(self.max_length, self.min_block_chars)
        check_encoding(self.reading.encoding)


def prepare_dataset(
    inputs: Sequence[Path | str],
    output: Path,
    tokenizer: str | Path,
    settings: PrepareSettings | None = None,
    *,
    workers: int = 0,
    overwrite: bool = False,
    log_interval: int = 10_000,
    on_rows: Callable[[pa.RecordBatch], object] | None = None,
    segmenter: SegmenterChoice | None = None,
    passed_over: Sequence[Path] = (),
) -> dict[str, Any]:
    """Make the dataset folder ``output`` from text and return its manifest, which is also in ``manifest.json``.

    The folder holds the columns ``text`` and ``chinese_ref`` for `datasets.load_from_disk`, and ``rejects.jsonl`` where
    anything was left out. It depends on the content and order of the files and on the settings alone.

    Args:
        inputs: Files and folders, see `find_input_files`.
        output: The folder to make; it appears whole at the end, or not at all.
        tokenizer: What `load_tokenizer` takes.
        settings: What decides the content.
        workers: Most processes that annotate; 0 is one a core. Little text is annotated in this one.
        overwrite: Replace a dataset that is there.
        log_interval: Documents between two log lines, where standard error is no terminal.
        on_rows: Called with every batch of rows, for those who want them in another form as well.
        segmenter: What cuts words; rjieba unless given.
        passed_over: What may lie among the inputs and is none, besides the output and the tokenizer.

    Raises:
        InputError: Nothing usable in the input, or an argument or the tokenizer is wrong.
        OSError: The output cannot be written.
        ChildProcessError: A worker process died.
    """
    settings = settings or PrepareSettings()
    segmenter = segmenter or SegmenterChoice()
    load_segmenter(segmenter)  # what is wrong with it is said now
    files, skipped = find_input_files(inputs, passed_over=[*places_of(output), tokenizer, *passed_over])
    workers = usable_workers(workers, sum(file.size_bytes() for file in files))
    with staged(output, overwrite=overwrite, own_files=DATASET_FILES) as folder, scratch_folder(output) as scratch:
        loaded = load_tokenizer(tokenizer)
        annotation = AnnotationSettings(
            tokenizer_json=loaded.backend_tokenizer.to_str(),
            max_tokens=settings.max_length - SPECIAL_TOKEN_COUNT,
            min_block_chars=settings.min_block_chars,
            segmenter=segmenter,
        )
        summaries: list[InputSummary] = []
        counts = Counter[str]()
        with (
            DatasetWriter(folder) as writer,
            RejectLog(folder / "rejects.jsonl") as rejects,
            closing(_read(files, settings, scratch, log_interval)) as records,
        ):
            for reject in skipped:
                rejects.add(reject)
            for batch in ordered_map(BatchAnnotator, (annotation,), in_batches(records), workers):
                writer.write(batch.rows)
                if on_rows is not None:
                    on_rows(batch.rows)
                for reject in batch.rejects:
                    rejects.add(reject)
                summaries.extend(batch.summaries)
                counts.update(batch.counts)
            rejects.summarize()
            if not counts["blocks"]:
                raise InputError(f"no usable text in {', '.join(map(printable, inputs))}: {rejects.tally}")
            kept_and_rejected = counts["characters_in_blocks"] + counts["characters_rejected"]
            assert counts["characters"] == kept_and_rejected, "characters got lost"
            shards = writer.finish()
        # the dataset is of use with this tokenizer alone: it goes along
        save_tokenizer(loaded, folder / "tokenizer")
        manifest = {
            "format_version": 1,
            # for people: the script before this one marked Chinese tokens only. Readers tell its datasets from these
            # by the absence of this file.
            "chinese_ref": "all continuation tokens",
            "options": asdict(settings),
            "tokenizer": tokenizer_description(loaded, tokenizer),
            "segmenter": _segmenter_entry(segmenter),
            "versions": {name: version(name) for name in ("flashquad", "tokenizers", "transformers", "pyarrow")},
            "counts": {"characters": counts["characters"], **counts},
            "rejects": dict(sorted(rejects.tally.counts.items())),
            "inputs": [
                {
                    "path": portable_path(summary.path),
                    "byte_count": summary.byte_count,
                    "sha256": summary.sha256,
                    "document_count": summary.document_count,
                }
                for summary in summaries
            ],
            "shards": shards,
        }
        write_json(folder / "manifest.json", manifest)
    return manifest


def _segmenter_entry(choice: SegmenterChoice) -> dict[str, Any]:
    entry = segmenter_description(choice)
    if choice.user_dictionary is None:
        del entry["user_dictionary"]  # which this format did not have
    return entry


def _read(
    files: Sequence[InputFile], settings: PrepareSettings, scratch: Path, log_interval: int
) -> Generator[Record, None, None]:
    seed = settings.shuffle_seed
    title = "prepare" if seed is None else "read"
    records = read_inputs(files, settings.reading, title=title, log_interval=log_interval)
    if seed is not None:
        records = shuffled(records, seed, scratch / "buckets", title="prepare", log_interval=log_interval)
    yield from records
