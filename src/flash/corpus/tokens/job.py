"""The plan and all that a worker needs, as files in the work folder: every engine's workers begin by reading them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flash.corpus.annotate import SPECIAL_TOKEN_COUNT, AnnotationSettings
from flash.corpus.documents import ReadingSettings
from flash.corpus.folders import Folder, LocalFolder, open_folder
from flash.corpus.input_files import InputFile
from flash.corpus.records import Reject
from flash.corpus.remote import RemotePath, is_remote
from flash.corpus.segment import SegmenterChoice, segmenter_description
from flash.corpus.tokens.plan import Segment
from flash.corpus.tokens.settings import TokenSettings
from flash.corpus.user_dictionary import DictionaryEntry, UserDictionary
from flash.errors import InputError

PLAN = "plan.json"
_TOKENIZER = "tokenizer.json"

# What decides the content besides the code that reads it.
_PACKAGES = ("flashquad", "tokenizers", "transformers", "pyarrow")


@dataclass(frozen=True)
class Job:
    """All that a task needs to know, but for its number.

    Args:
        work: The folder for what is not finished.
        settings: What decides the content.
        tokenizer: Its description, with ``special_ids``.
        tokenizer_json: The tokenizer itself.
        files: What is read.
        tasks: What each task reads of it.
        skipped: What was left out when the files were looked for.
    """

    work: Folder
    settings: TokenSettings
    tokenizer: dict[str, Any]
    tokenizer_json: str
    files: Sequence[InputFile]
    tasks: Sequence[Sequence[Segment]]
    skipped: Sequence[Reject]

    @property
    def input_bytes(self) -> int:
        """Size of all input files."""
        return sum(entry["bytes"] for entry in self.plan["inputs"])

    @property
    def dataset(self) -> Folder:
        """The folder where the result is made: beside the work on a local disk, around it behind a URL."""
        if isinstance(self.work, LocalFolder):
            return self.work.child("dataset")
        return open_folder(self.work.place.rpartition("/")[0])

    @property
    def annotation(self) -> AnnotationSettings:
        """What turns a document into blocks."""
        most_tokens = self.settings.max_length - SPECIAL_TOKEN_COUNT
        least_chars = self.settings.min_block_chars
        return AnnotationSettings(self.tokenizer_json, most_tokens, least_chars, self.settings.segmenter)

    @cached_property
    def segmenter(self) -> dict[str, Any]:
        """The segmenter's description."""
        return segmenter_description(self.settings.segmenter)

    @cached_property
    def plan(self) -> dict[str, Any]:
        """The plan as it is written: two runs may share their finished tasks if and only if these are equal."""
        versions = {name: version(name) for name in _PACKAGES}
        if self.settings.deduplicate:
            versions["datatrove"] = version("datatrove")
        plan = {
            "tokenizer": self.tokenizer,
            "segmenter": self.segmenter,
            "settings": asdict(self.settings),
            "versions": versions,
            "inputs": [
                {"path": _as_text(file.path), "kind": file.kind, "bytes": file.size_bytes(), "version": file.version()}
                for file in self.files
            ],
            # of another machine's worker, which begins elsewhere
            "folder": _as_text(Path.cwd()) if any(_is_relative(file) for file in self.files) else None,
            "tasks": self.tasks,
            "skipped": [asdict(reject) for reject in self.skipped],
        }
        written: dict[str, Any] = json.loads(json.dumps(plan))
        return written

    def save(self) -> None:
        """Write it to the work folder, the plan last."""
        with self.work.writing(_TOKENIZER) as path:
            path.write_text(self.tokenizer_json, encoding="utf-8")
        with self.work.writing(PLAN) as path:
            path.write_text(json.dumps(self.plan), encoding="ascii")  # escaped: names need not be valid Unicode


@lru_cache(maxsize=1)
def load_job(work: str) -> Job:
    """Read what `Job.save` wrote."""
    work_folder = open_folder(work)
    plan = work_folder.read_json(PLAN)
    if plan is None:
        raise InputError(f"{work} holds no whole plan: run the command that made it again")
    with work_folder.open_binary(_TOKENIZER) as file:
        tokenizer_json = file.read().decode("utf-8")
    settings = dict(plan["settings"])
    segmenter = settings["segmenter"]
    dictionary = segmenter["user_dictionary"]
    if dictionary is not None:
        entries = tuple(DictionaryEntry(*entry) for entry in dictionary["entries"])
        dictionary = UserDictionary(dictionary["name"], dictionary["sha256"], entries)
    settings["segmenter"] = SegmenterChoice(segmenter["name"], dictionary)
    settings["reading"] = ReadingSettings(**settings["reading"])
    folder = _local_path(plan["folder"] or "")
    job = Job(
        work=work_folder,
        settings=TokenSettings(**settings),
        tokenizer=plan["tokenizer"],
        tokenizer_json=tokenizer_json,
        files=[InputFile(_path(file["path"]), file["kind"], folder) for file in plan["inputs"]],
        tasks=[[Segment(*segment) for segment in task] for task in plan["tasks"]],
        skipped=[Reject(**reject) for reject in plan["skipped"]],
    )
    job.__dict__["plan"] = plan  # as it was made: the input may have changed since, and is not looked at again
    return job


def check_same_plan(job: Job, found: dict[str, Any]) -> None:
    """Raise InputError where the work folder holds the work of another run.

    Args:
        job: What is to be done now.
        found: The plan that is there.
    """
    wanted = job.plan
    if found == wanted:
        return
    way_out = "give the same command again to go on with it, or pass --overwrite to begin anew"
    for part in ("tokenizer", "segmenter"):
        old, new = found.get(part, {}), wanted[part]
        if old != new:
            raise InputError(
                f"{job.work.place} holds the work of a run with the {part} {_shown(old)}, not {_shown(new)}: {way_out}"
            )
    differing = [name for name in wanted if found.get(name) != wanted[name]]
    raise InputError(f"{job.work.place} holds the work of a run with other {' and '.join(differing)}: {way_out}")


def read_plan(work: Folder) -> dict[str, Any] | None:
    """Return the plan in a work folder; None if there is none, or it was cut short."""
    plan: dict[str, Any] | None = work.read_json(PLAN)
    return plan


def _is_relative(file: InputFile) -> bool:
    return isinstance(file.path, Path) and not file.path.is_absolute()


def _as_text(path: Path | RemotePath) -> str:
    """Return a path as text that does not depend on the locale, which another run or machine may not share."""
    return str(path) if isinstance(path, RemotePath) else os.fsencode(path).decode("utf-8", "surrogateescape")


def _path(text: str) -> Path | RemotePath:
    """Return the path that `_as_text` made the text of."""
    return RemotePath(text) if is_remote(text) else _local_path(text)


def _local_path(text: str) -> Path:
    return Path(os.fsdecode(text.encode("utf-8", "surrogateescape")))


def _shown(description: dict[str, Any]) -> str:
    hashed = description.get("sha256") or description.get("version", "")
    return f"{description.get('name')} ({hashed[:12]})"
