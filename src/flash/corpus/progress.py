"""How far the work is: a bar on a terminal, plain log lines elsewhere; both with rate and time left."""

from __future__ import annotations

import logging
import sys
import time
from typing import Literal, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from flash.errors import InputError

Unit = Literal["bytes", "documents", "tokens"]


class _TokenRate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f} tokens/s")


_AMOUNT_COLUMNS: dict[Unit, tuple[type[ProgressColumn], ...]] = {
    "bytes": (DownloadColumn, TransferSpeedColumn),
    "documents": (MofNCompleteColumn,),
    "tokens": (_TokenRate,),
}

_logger = logging.getLogger(__name__)


class WorkProgress:
    """Counts work and documents, and shows them.

    Args:
        title: What is going on, a word or two.
        total: All the work, in ``unit``.
        log_interval: Documents between two log lines, where standard error is no terminal.
        unit: What `advance` counts: bytes of the input as on disk, documents, or tokens.
    """

    def __init__(self, title: str, total: int, log_interval: int, unit: Unit = "bytes") -> None:
        if log_interval < 1:
            raise InputError(f"log_interval must be at least 1, got {log_interval}; 10000 documents are usual")
        self._title = title
        self._total = total
        self._unit = unit
        self._log_interval = log_interval
        self._done = self._documents = 0
        self._begin_seconds = time.perf_counter()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            *(column() for column in _AMOUNT_COLUMNS[unit]),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task(title, total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def advance(self, count: int) -> None:
        """Count ``count`` more of the unit as done."""
        self._done += count
        self._bar.advance(self._task, count)

    def add_documents(self, count: int) -> None:
        """Count ``count`` more documents as done."""
        before, self._documents = self._documents, self._documents + count
        if self._bar.disable and before // self._log_interval != self._documents // self._log_interval:
            seconds = time.perf_counter() - self._begin_seconds
            _logger.info(
                "%s: %d documents, %.0f a second, %.0f %% of the %s, %.0f s left",
                self._title,
                self._documents,
                self._documents / seconds,
                100 * self._done / max(1, self._total),
                self._unit,
                seconds * (self._total - self._done) / max(1, self._done),
            )
