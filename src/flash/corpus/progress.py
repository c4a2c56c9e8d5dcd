"""How far the reading of the input is: a bar on a terminal, plain log lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

_logger = logging.getLogger(__name__)


class ReadingProgress:
    """Counts bytes and documents; shows rate and time left.

    Args:
        title: What is going on, a word or two.
        total_bytes: Size of all input files, as on disk.
        log_interval: Documents between two log lines, where standard error is no terminal.
    """

    def __init__(self, title: str, total_bytes: int, log_interval: int) -> None:
        self._title = title
        self._total_bytes = total_bytes
        self._log_interval = log_interval
        self._bytes = self._documents = 0
        self._begin_seconds = time.perf_counter()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task(title, total=total_bytes)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def add_bytes(self, count: int) -> None:
        """Count ``count`` more bytes as read."""
        self._bytes += count
        self._bar.advance(self._task, count)

    def add_documents(self, count: int) -> None:
        """Count ``count`` more documents as done."""
        before, self._documents = self._documents, self._documents + count
        if self._bar.disable and before // self._log_interval != self._documents // self._log_interval:
            seconds = time.perf_counter() - self._begin_seconds
            _logger.info(
                "%s: %d documents, %.1f of %.1f MB read, %.2f MB/s, %.0f s left",
                self._title,
                self._documents,
                self._bytes / 1e6,
                self._total_bytes / 1e6,
                self._bytes / 1e6 / seconds,
                seconds * (self._total_bytes - self._bytes) / max(1, self._bytes),
            )
