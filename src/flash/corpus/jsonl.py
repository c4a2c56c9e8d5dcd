"""Tree of text files -> JSON lines, a document a line: one shuffled file, or one beside each input."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flash.corpus.documents import ReadingSettings, read_documents
from flash.corpus.input_files import InputFile, find_input_files
from flash.corpus.lines import check_encoding
from flash.corpus.progress import WorkProgress
from flash.corpus.records import Document, Reject
from flash.corpus.rejects import RejectLog, RejectTally
from flash.corpus.shuffle import LineShuffler, encode_json_line
from flash.corpus.staging import check_replaceable, scratch_folder, staged
from flash.corpus.workers import ordered_map, usable_workers
from flash.errors import InputError


@dataclass(frozen=True, slots=True)
class JsonlSettings:
    """What decides the content of the JSON lines.

    Args:
        min_document_chars: Shorter documents are left out.
        shuffle_seed: Of the order of documents in one merged file; None keeps the order of the files.
        reading: How the files are read; ``json_key`` is the key written, too.
    """

    min_document_chars: int = 10
    shuffle_seed: int | None = 2022
    reading: ReadingSettings = field(default_factory=ReadingSettings)

    def __post_init__(self) -> None:
        check_encoding(self.reading.encoding)


def merge_to_jsonl(
    input_path: Path,
    output: Path,
    settings: JsonlSettings | None = None,
    *,
    workers: int = 1,
    overwrite: bool = False,
    log_interval: int = 10_000,
) -> Counter[str]:
    """Write all documents below ``input_path`` into one JSON lines file and return what was counted.

    The order depends on the settings and the input alone, not on the number of workers or the file system. Needs
    room on disk for three times the text while it works.

    Args:
        input_path: A folder of ``.txt`` files, compressed or not, or one file of any name.
        output: The file to write.
        settings: What decides the content.
        workers: Most processes that convert files; 0 is one a core.
        overwrite: Replace a file that is there.
        log_interval: Documents between two log lines, where standard error is no terminal.

    Raises:
        InputError: Nothing usable in the input, or an argument is wrong.
        OSError: The output cannot be written.
    """
    settings = settings or JsonlSettings()
    files, skipped = find_input_files([input_path], kinds=["text"])
    with staged(output, overwrite=overwrite) as partial, scratch_folder(output) as scratch:
        converted = [scratch / f"{index:08d}.jsonl" for index in range(len(files))]
        counts = _convert_files(
            files, converted, skipped, settings, workers=workers, overwrite=False, log_interval=log_interval
        )
        lines = _take_lines(converted)
        with partial.open("wb") as file:
            if settings.shuffle_seed is None:
                file.writelines(lines)
            else:
                with LineShuffler(scratch / "buckets", random.Random(settings.shuffle_seed)) as shuffler:
                    for line in lines:
                        shuffler.add(line)
                    file.writelines(shuffler.drain())
    return counts


def convert_to_jsonl(
    input_path: Path,
    settings: JsonlSettings | None = None,
    *,
    workers: int = 1,
    overwrite: bool = False,
    log_interval: int = 10_000,
) -> Counter[str]:
    """Write ``FILE.jsonl`` beside each text file below ``input_path``, in the order of the text, and return counts.

    Arguments and errors are those of `merge_to_jsonl`.
    """
    settings = settings or JsonlSettings()
    files, skipped = find_input_files([input_path], kinds=["text"])
    outputs = [Path(f"{file.path}.jsonl") for file in files]
    for output in outputs:
        check_replaceable(output, overwrite=overwrite)
    return _convert_files(
        files, outputs, skipped, settings, workers=workers, overwrite=overwrite, log_interval=log_interval
    )


@dataclass(frozen=True, slots=True)
class _ConvertedFile:
    counts: Counter[str]
    rejects: RejectTally


class _FileConverter:
    """Converts one text file to one JSON lines file, in a worker."""

    def __init__(self, settings: JsonlSettings) -> None:
        self._settings = settings

    def __call__(self, task: tuple[InputFile, Path, bool]) -> _ConvertedFile:
        file, output, overwrite = task
        counts = Counter[str]()
        rejects = RejectTally()
        records = read_documents(file, self._settings.reading, on_read=lambda count: counts.update(bytes=count))
        with staged(output, overwrite=overwrite) as partial, partial.open("wb") as lines:
            for record in records:
                if isinstance(record, Reject):
                    rejects.add(record)
                if not isinstance(record, Document):
                    continue
                text = record.text.strip()
                if len(text) < self._settings.min_document_chars:
                    detail = f"{len(text)} characters, fewer than {self._settings.min_document_chars}"
                    rejects.add(Reject("short_document", record.source, record.line, detail, len(text)))
                else:
                    row = {self._settings.reading.json_key: text}
                    lines.write(encode_json_line(row))
                    counts.update(documents=1, characters=len(text))
        return _ConvertedFile(counts, rejects)


def _convert_files(
    files: Sequence[InputFile],
    outputs: Sequence[Path],
    skipped: Sequence[Reject],
    settings: JsonlSettings,
    *,
    workers: int,
    overwrite: bool,
    log_interval: int,
) -> Counter[str]:
    counts = Counter[str]()
    rejects = RejectLog()
    for reject in skipped:
        rejects.add(reject)
    total_bytes = sum(file.size_bytes() for file in files)
    tasks = ((file, output, overwrite) for file, output in zip(files, outputs, strict=True))
    with WorkProgress("to jsonl", total_bytes, log_interval) as progress:
        for converted in ordered_map(_FileConverter, (settings,), tasks, usable_workers(workers, total_bytes)):
            counts.update(converted.counts)
            rejects.merge(converted.rejects)
            progress.advance(converted.counts["bytes"])
            progress.add_documents(converted.counts["documents"])
    rejects.summarize()
    if not counts["documents"]:
        raise InputError(f"no usable text in the {len(files)} input files: {rejects.tally}")
    return counts


def _take_lines(paths: Iterable[Path]) -> Iterator[bytes]:
    """Yield the lines of all files, and remove each file when it was read."""
    for path in paths:
        with path.open("rb") as lines:
            yield from lines
        path.unlink()
