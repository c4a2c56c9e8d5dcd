"""Documents in batches, as they travel to the workers and come back as rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from flash.corpus.annotate import AnnotationSettings, Annotator
from flash.corpus.arrow import to_record_batch
from flash.corpus.records import Block, Document, InputSummary, Record, Reject

# Enough that handing over costs nothing beside the work, few enough that some for each worker fit in memory.
_BATCH_CHARS = 1 << 18
_BATCH_RECORDS = 4096


@dataclass(frozen=True, slots=True)
class AnnotatedBatch:
    """The rows that a batch of documents became, what was left out, counts of both, and the files that ended in it."""

    rows: pa.RecordBatch
    rejects: list[Reject]
    summaries: list[InputSummary]
    counts: Counter[str]


class BatchAnnotator:
    """Annotates batches of documents; the other records pass through, so that their order is kept."""

    def __init__(self, settings: AnnotationSettings) -> None:
        self._annotator = Annotator(settings)

    def __call__(self, records: list[Record]) -> AnnotatedBatch:
        """Annotate one batch."""
        blocks: list[Block] = []
        rejects: list[Reject] = []
        summaries: list[InputSummary] = []
        counts = Counter[str]()
        documents = [record for record in records if isinstance(record, Document)]
        annotated = iter(self._annotator.annotate_all(documents))
        for record in records:
            if isinstance(record, Reject):
                rejects.append(record)
                counts["characters"] += record.characters
                continue
            if isinstance(record, InputSummary):
                summaries.append(record)
                continue
            counts["documents"] += record.part == 0
            counts["continued_documents"] += record.part == 1
            of_document = next(annotated)
            counts["characters"] += of_document.characters
            for result in of_document.results:
                if isinstance(result, Reject):
                    rejects.append(result)
                else:
                    blocks.append(result)
        counts["blocks"] = len(blocks)
        counts["characters_in_blocks"] = sum(len(block.text) for block in blocks)
        counts["characters_rejected"] = sum(reject.characters for reject in rejects)
        counts["tokens"] = sum(len(block.token_ids) for block in blocks)
        counts["continuation_tokens"] = sum(int(block.continues_word.sum()) for block in blocks)
        return AnnotatedBatch(to_record_batch(blocks), rejects, summaries, counts)


def in_batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Group records into batches of about equal work."""
    batch: list[Record] = []
    size = 0
    for record in records:
        batch.append(record)
        size += len(record.text) if isinstance(record, Document) else 0
        if size >= _BATCH_CHARS or len(batch) >= _BATCH_RECORDS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
