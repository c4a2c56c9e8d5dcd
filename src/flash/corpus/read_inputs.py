"""All input files -> one stream of records, in the order of the files or shuffled, with progress shown."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from flash.corpus.documents import ReadingSettings, read_documents
from flash.corpus.input_files import InputFile
from flash.corpus.progress import WorkProgress
from flash.corpus.records import Document, Record
from flash.corpus.shuffle import LineShuffler, decode_document, encode_document


def read_inputs(
    files: Sequence[InputFile], settings: ReadingSettings, *, title: str, log_interval: int
) -> Iterator[Record]:
    """Yield the records of all files, one file after the other.

    Args:
        files: What to read.
        settings: How it is read.
        title: Of the progress shown.
        log_interval: Documents between two log lines, where standard error is no terminal.
    """
    total_bytes = sum(file.size_bytes() for file in files)
    with WorkProgress(title, total_bytes, log_interval) as progress:
        for file in files:
            for record in read_documents(file, settings, progress.advance):
                yield record
                progress.add_documents(isinstance(record, Document))


def shuffled(records: Iterable[Record], seed: int, folder: Path, *, title: str, log_interval: int) -> Iterator[Record]:
    """Yield the documents among ``records`` in random order, and before them all others in the order they have.

    Args:
        records: All are read before the first document is given out; they are kept on disk meanwhile.
        seed: Decides the order, together with the number of documents.
        folder: Made here for what is kept.
        title: Of the progress shown.
        log_interval: Documents between two log lines, where standard error is no terminal.
    """
    with LineShuffler(folder, random.Random(seed)) as shuffler:
        for record in records:
            if isinstance(record, Document):
                shuffler.add(encode_document(record))
            else:
                yield record
        with WorkProgress(title, shuffler.count, log_interval, unit="documents") as progress:
            for line in shuffler.drain():
                yield decode_document(line)
                progress.advance(1)
                progress.add_documents(1)
