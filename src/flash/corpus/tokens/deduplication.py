"""Documents that were there before, found by datatrove; the hashes of all, the pairs, and which to leave out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from datatrove.data import Document as TroveDocument
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup import (
    ExactDedupConfig,
    ExactDedupFilter,
    ExactDedupSignature,
    ExactFindDedups,
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.utils.hashing import HashConfig
from datatrove.utils.word_tokenizers import WordTokenizer

from flash.corpus.clean import clean_text
from flash.corpus.records import Document, Record, Reject
from flash.corpus.segment import Segmenter, SegmenterChoice, load_segmenter
from flash.corpus.tokens.job import Job, load_job
from flash.corpus.tokens.tokenize import read_task

_FOLDER = "duplicates"

# The pairs of all hashes are looked for in so many parts; whoever does it, a hash is in the same part.
_EXACT_PARTS = 16

# datatrove 0.10 gives its other choice, xxhash, strings, which xxhash 4 does not take.
_HASH = HashConfig(precision=64, hash_fc="sha1")


class ReadCleanDocuments(PipelineStep):
    """Gives datatrove's blocks the documents of a task, cleaned, in their order."""

    type = "reader"
    name = "cleaned documents"

    def __init__(self, work: str) -> None:
        super().__init__()
        self.work = work

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[TroveDocument]:
        """Yield the documents of task ``rank``."""
        for record in read_task(load_job(self.work), rank, on_read=lambda count: None):
            if isinstance(record, Document):
                yield _to_trove(record)


class SegmenterWords(WordTokenizer):
    """The words of a segmenter, for the n-grams of MinHash."""

    def __init__(self, choice: SegmenterChoice) -> None:
        super().__init__()
        self._choice = choice

    @cached_property
    def _segmenter(self) -> Segmenter:
        # not before the first text: some segmenters cannot be pickled; and once, for some take a second to be made
        return load_segmenter(self._choice)

    def word_tokenize(self, text: str) -> list[str]:
        """Return the words of ``text``, white space left out."""
        return [word for word in self._segmenter.cut(text) if not word.isspace()]

    def sent_tokenize(self, text: str) -> list[str]:
        """Return the text: no block in use here asks for sentences."""
        return [text]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Return the span of the text, for the same reason."""
        return [(0, len(text))]


def finding_stages(job: Job) -> list[tuple[str, list[PipelineStep], int]]:
    """Return the stages that find the duplicates: name, pipeline and number of tasks of each."""
    folder = job.work.child(_FOLDER).place
    signatures, pairs, removed = (f"{folder}/{name}" for name in ("signatures", "pairs", "removed"))
    read, tasks = ReadCleanDocuments(job.work.place), len(job.tasks)
    if job.settings.deduplicate == "exact":
        exact = _exact_config()
        sign = ExactDedupSignature(signatures, exact, finder_workers=_EXACT_PARTS)
        find = ExactFindDedups(data_folder=signatures, output_folder=removed, config=exact)
        return [("sign", [read, sign], tasks), ("find", [find], _EXACT_PARTS)]
    similar = MinhashConfig(hash_config=_HASH)
    sign = MinhashDedupSignature(signatures, similar, language=SegmenterWords(job.settings.segmenter))
    find = MinhashDedupBuckets(input_folder=signatures, output_folder=pairs, config=similar)
    cluster = MinhashDedupCluster(input_folder=pairs, output_folder=removed, config=similar)
    return [("sign", [read, sign], tasks), ("find", [find], similar.num_buckets), ("cluster", [cluster], 1)]


def reject_duplicates(job: Job, task: int, records: Iterator[Record]) -> Iterator[Record]:
    """Yield the records of a task, a `Reject` in the place of each document that was there before."""
    folder = f"{job.work.child(_FOLDER).place}/removed"
    if job.settings.deduplicate == "exact":
        drop = ExactDedupFilter(data_folder=folder, config=_exact_config())
    else:
        drop = MinhashDedupFilter(input_folder=folder)
    waiting: list[Record] = []

    def documents() -> Iterator[TroveDocument]:
        for record in records:
            waiting.append(record)
            if isinstance(record, Document):
                yield _to_trove(record)
                if waiting:  # the filter let it fall: its text is not held until one is kept, which may be far off
                    waiting[-1] = _as_reject(record)

    for kept in drop.run(documents(), rank=task):
        assert kept.metadata["record"] is waiting[-1]
        yield from waiting
        waiting.clear()
    yield from waiting


def _as_reject(document: Document) -> Reject:
    characters = len(clean_text(document.text, goes_on=not document.is_last_part))
    detail = "the same text, or much the same, is kept elsewhere"
    return Reject("duplicate", document.source, document.line, detail, characters, document.offset)


def _to_trove(document: Document) -> TroveDocument:
    text = clean_text(document.text, goes_on=not document.is_last_part)
    return TroveDocument(text=text, id="", metadata={"record": document})


def _exact_config() -> ExactDedupConfig:
    return ExactDedupConfig(content_getter=_content, hash_config=_HASH)


def _content(document: TroveDocument) -> str:
    return str(document.text)
