"""Stage 1: one task's text -> sorted runs of rows, its rejects, and an account of both."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import lru_cache
from typing import Any, TextIO

import numpy as np

from flash.corpus.annotate import AnnotatedDocument, AnnotationSettings, Annotator
from flash.corpus.batches import in_batches
from flash.corpus.documents import read_documents
from flash.corpus.folders import Folder
from flash.corpus.records import Block, Document, InputSummary, Record, Reject
from flash.corpus.tokens.job import Job
from flash.corpus.tokens.ordering import document_key
from flash.corpus.tokens.runs import RunWriter
from flash.errors import InputError

# The account of a task is written last: what is there without it is done again.
FOLDER = "tasks"


def task_name(task: int) -> str:
    """Return how the names of a task's files begin."""
    return f"{task:06d}"


def rejects_name(task: int) -> str:
    """Return the name of a task's rejects: JSON lines, each with the number of its segment in the task."""
    return f"{task_name(task)}.rejects.jsonl"


def read_account(folder: Folder, task: int) -> dict[str, Any] | None:
    """Return a finished task's account; None if it is not finished, or a file of it is not as it was written."""
    account: dict[str, Any] | None = folder.read_json(f"{task_name(task)}.json")
    if account is None:
        return None
    files = [(run["file"], run["bytes"]) for run in account["runs"]] + [(rejects_name(task), account["rejects_bytes"])]
    return account if all(folder.size_bytes(name) == size for name, size in files) else None


def read_task(job: Job, task: int, on_read: Callable[[int], object]) -> Iterator[Record]:
    """Yield what a task is to read, a summary behind each of its segments.

    Args:
        job: Says what that is.
        task: Number of the task.
        on_read: Called with the number of bytes (as on disk) after every read.

    Raises:
        InputError: A file is not as long any more as when the work was planned.
        OSError: It is gone, or this machine does not see it; or reading it failed.
    """
    for segment in job.tasks[task]:
        file = job.files[segment.file]
        size, planned = file.size_bytes(), job.plan["inputs"][segment.file]["bytes"]
        if size != planned:  # its parts would begin within documents, and what was cut off would be missed by nobody
            raise InputError(
                f"{file.name} has {size:,} bytes, it had {planned:,} when the work was planned: pass --overwrite to "
                "begin anew"
            )
        yield from read_documents(file, job.settings.reading, on_read, begin=segment.begin, end=segment.end)


def tokenize_records(job: Job, task: int, records: Iterable[Record]) -> dict[str, Any]:
    """Turn records into rows, write them to the work folder, and return the account, which is written there too.

    Args:
        job: How that is done.
        task: Number of the task.
        records: Of `read_task`; duplicates may have become rejects.
    """
    folder = job.work.child(FOLDER)
    annotator = _annotator(job.annotation)
    runs = RunWriter(folder, task_name(task), job.tokenizer["vocab_size"])
    special_ids = job.tokenizer["special_ids"]
    first_id, last_id = (np.array([special_ids[name]], dtype=np.int32) for name in ("cls", "sep"))
    special = np.ones(1, dtype=bool)
    counts = Counter[str]()
    segments: list[dict[str, Any]] = []

    def add(block: Block, key: int) -> None:
        begins_word = ~block.continues_word
        counts["sequences"] += 1
        counts["characters_in_blocks"] += len(block.text)
        counts["words"] += int(begins_word.sum())
        counts["tokens"] += len(block.token_ids) + 2
        runs.add(
            key,
            np.concatenate((first_id, block.token_ids, last_id)),
            np.concatenate((special, begins_word, special)),
        )

    with folder.writing(rejects_name(task)) as path:
        with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
            rejects = _RejectFile(file)
            for record, annotated in _annotated(annotator, records):
                if isinstance(record, InputSummary):
                    segment = job.tasks[task][len(segments)]
                    segments.append({**segment._asdict(), **asdict(record)})
                elif isinstance(record, Reject):
                    counts["characters"] += record.characters
                    rejects.add(record, len(segments))
                else:
                    counts["characters"] += annotated.characters
                    counts["documents"] += record.part == 0
                    counts["continued_documents"] += record.part == 1
                    file_number = job.tasks[task][len(segments)].file
                    key = document_key(file_number, record.offset, job.settings.shuffle_seed)
                    for result in annotated.results:
                        if isinstance(result, Reject):
                            rejects.add(result, len(segments))
                        else:
                            add(result, key)
        rejects_bytes = path.stat().st_size
    runs.flush()
    counts["characters_rejected"] = rejects.characters
    account = {
        "segments": segments,
        "counts": counts,
        "rejects": rejects.counts,
        "rejects_bytes": rejects_bytes,
        "runs": runs.runs,
    }
    folder.write_json(f"{task_name(task)}.json", account)
    return account


def _annotated(annotator: Annotator, records: Iterable[Record]) -> Iterator[tuple[Record, AnnotatedDocument]]:
    """Yield each record with what a document became; many documents are annotated at once."""
    for batch in in_batches(records):
        annotated = iter(annotator.annotate_all([record for record in batch if isinstance(record, Document)]))
        for record in batch:
            yield record, next(annotated) if isinstance(record, Document) else AnnotatedDocument([], 0)


class _RejectFile:
    """Writes rejects, and counts them."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.counts = Counter[str]()
        self.characters = 0

    def add(self, reject: Reject, segment: int) -> None:
        self.counts[reject.reason] += 1
        self.characters += reject.characters
        self._file.write(json.dumps({"segment": segment} | asdict(reject), ensure_ascii=False) + "\n")


@lru_cache(maxsize=1)
def _annotator(settings: AnnotationSettings) -> Annotator:
    """Return an annotator, made once in each process: its tables and its segmenter take half a second."""
    return Annotator(settings)
