"""What each stage does with one task, whoever runs it: done already is left alone, so any of it may be done again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from flash.corpus.folders import PART_SUFFIX
from flash.corpus.records import Record
from flash.corpus.tokens import tokenize
from flash.corpus.tokens.finish import tell_rejects, write_manifest
from flash.corpus.tokens.job import Job
from flash.corpus.tokens.output import is_finished, publish
from flash.corpus.tokens.shards import write_index
from flash.errors import InputError


def tokenize_task(job: Job, task: int, on_read: Callable[[int], object]) -> dict[str, Any]:
    """Do a task of the first stage and return its account."""
    account = tokenize.read_account(job.work.child(tokenize.FOLDER), task)
    if account is not None:
        on_read(sum(segment["byte_count"] for segment in account["segments"]))
        return account
    return tokenize.tokenize_records(job, task, read_records(job, task, on_read))


def read_records(job: Job, task: int, on_read: Callable[[int], object]) -> Iterator[Record]:
    """Yield what a task reads, duplicates as rejects if so asked; see `tokenize.read_task`."""
    records = tokenize.read_task(job, task, on_read)
    if job.settings.deduplicate is None:
        return records
    from flash.corpus.tokens.deduplication import reject_duplicates  # needs datatrove, which is not always there

    return reject_duplicates(job, task, records)


def build_index(job: Job) -> dict[str, Any]:
    """Put together what the first stage made.

    Raises:
        InputError: It made nothing.
    """
    index = write_index(job)
    if not index["tokens"]:
        tally = tell_rejects(job)
        job.work.remove()
        raise InputError(f"no usable text in the {len(job.files)} input files: {tally}")
    return index


def finish(job: Job) -> None:
    """Write the manifest, if that is not done, and put the dataset in its place."""
    if not is_finished(job.work):
        for name in job.dataset.names():
            if name.endswith(PART_SUFFIX):  # of a writer that was killed
                job.dataset.remove(name)
        write_manifest(job)
    publish(job)
