"""The last stage: rejects and manifest, and the dataset put in its place."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from flash.corpus.embedded import portable_path
from flash.corpus.records import Reject
from flash.corpus.rejects import RejectLog, RejectTally
from flash.corpus.tokens import tokenize
from flash.corpus.tokens.job import Job
from flash.corpus.tokens.shards import read_index, read_shard_account

FORMAT_VERSION = 2
MANIFEST = "manifest.json"
REJECTS = "rejects.jsonl"

_COUNTS = (
    "characters",
    "documents",
    "continued_documents",
    "sequences",
    "rows",
    "tokens",
    "words",
    "characters_in_blocks",
    "characters_rejected",
)


def write_manifest(job: Job) -> dict[str, Any]:
    """Write ``rejects.jsonl`` and, last of all, ``manifest.json`` into the dataset; return the manifest."""
    folder = job.work.child(tokenize.FOLDER)
    accounts = [tokenize.read_account(folder, task) for task in range(len(job.tasks))]
    index = read_index(job)
    shards = [read_shard_account(job, shard) for shard in range(index["shards"])] if index is not None else []
    if None in accounts or None in shards or index is None:
        raise ChildProcessError(f"not every task of {job.work.place} is finished: give the same command again")
    whole = [account for account in accounts if account is not None]
    entries = [shard for shard in shards if shard is not None]
    counts = sum((Counter(account["counts"]) for account in whole), Counter[str]())
    counts["rows"] = sum(shard["rows"] for shard in entries)
    kept_and_rejected = counts["characters_in_blocks"] + counts["characters_rejected"]
    assert counts["characters"] == kept_and_rejected, "characters got lost"
    plan = job.plan
    options = {name: value for name, value in plan["settings"].items() if name != "segmenter"}
    manifest = {
        "format_version": FORMAT_VERSION,
        "format": "tokens",
        "options": options,
        "tokenizer": job.tokenizer,
        "segmenter": job.segmenter,
        "versions": plan["versions"],
        "counts": {name: counts[name] for name in _COUNTS},
        "rejects": dict(sorted(_write_rejects(job, whole).items())),
        "inputs": [_input(job, number, segments) for number, segments in _segments_by_file(whole)],
        "shards": entries,
    }
    job.dataset.write_json(MANIFEST, manifest)
    return manifest


def _segments_by_file(accounts: Sequence[dict[str, Any]]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    by_file: dict[int, list[dict[str, Any]]] = {}
    for account in accounts:
        for segment in account["segments"]:
            by_file.setdefault(segment["file"], []).append(segment)
    yield from by_file.items()


def _input(job: Job, number: int, segments: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a file's entry in the manifest."""
    described = {
        "path": portable_path(job.files[number].name),
        "bytes": sum(segment["byte_count"] for segment in segments),
        "documents": sum(segment["document_count"] for segment in segments),
    }
    if len(segments) == 1:
        return described | {"sha256": segments[0]["sha256"]}
    offset, ranges = 0, []
    for segment in segments:
        ranges.append({"offset": offset, "bytes": segment["byte_count"], "sha256": segment["sha256"]})
        offset += segment["byte_count"]
    return described | {"ranges": ranges}


def _write_rejects(job: Job, accounts: Sequence[dict[str, Any]]) -> Counter[str]:
    """Write the rejects of all tasks to one file, unless there are none; tell the first, and return all numbers."""
    log = RejectLog()
    rejects = _rejects(job, accounts)
    first = next(rejects, None)
    if first is None:
        return log.tally.counts
    with job.dataset.writing(REJECTS) as path, path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for reject in chain([first], rejects):
            log.add(reject)
            file.write(_reject_line(reject))
    log.summarize()
    return log.tally.counts


def tell_rejects(job: Job) -> RejectTally:
    """Tell why nothing is left, where no dataset comes of the work; return all numbers."""
    folder = job.work.child(tokenize.FOLDER)
    accounts = [tokenize.read_account(folder, task) for task in range(len(job.tasks))]
    log = RejectLog(only_counted=frozenset())  # a short text is a fault where there is no other
    for reject in _rejects(job, [account for account in accounts if account is not None]):
        log.add(reject)
    return log.tally


def _rejects(job: Job, accounts: Sequence[dict[str, Any]]) -> Iterator[Reject]:
    yield from chain(job.skipped, _blank_files(job, accounts), _rejects_of_tasks(job, accounts))


def _blank_files(job: Job, accounts: Sequence[dict[str, Any]]) -> Iterator[Reject]:
    """Yield the files that were read in parts and hold nothing; one that was read whole has said so itself."""
    for number, segments in _segments_by_file(accounts):
        if len(segments) > 1 and not any(segment["record_count"] for segment in segments):
            yield Reject("empty_file", job.files[number].name, None, "it holds no text: fill it, or leave it out")


def _rejects_of_tasks(job: Job, accounts: Sequence[dict[str, Any]]) -> Iterator[Reject]:
    """Yield the rejects of all tasks, with the numbers of their lines counted from the beginning of the file."""
    folder = job.work.child(tokenize.FOLDER)
    lines_before = Counter[int]()
    for task, account in enumerate(accounts):
        firsts = []
        for segment in account["segments"]:
            firsts.append(lines_before[segment["file"]])
            lines_before[segment["file"]] += segment["line_count"]
        with folder.open_binary(tokenize.rejects_name(task)) as file:
            for line in file:
                row = json.loads(line)
                number = row.pop("segment")
                if row["line"] is not None:
                    row["line"] += firsts[number]
                if job.files[account["segments"][number]["file"]].kind == "parquet":
                    row["offset"] = None  # a document's is the number of its row, which `line` tells already
                yield Reject(**row)


def _reject_line(reject: Reject) -> str:
    row = {"file": reject.source, "offset": reject.offset, "line": reject.line, "reason": reject.reason}
    return json.dumps(row | {"detail": reject.detail, "characters": reject.characters}, ensure_ascii=False) + "\n"
