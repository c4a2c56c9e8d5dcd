"""What was left out and why: told in few lines, kept in full in a file."""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self, TextIO

from flash.corpus.records import Reject

# Of each reason so many are told one by one. Those that are no fault of the input are only counted.
_TOLD_PER_REASON = 3
_ONLY_COUNTED = frozenset({"short_block", "short_document", "empty_text"})

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class RejectTally:
    """How many rejects there were of each reason, and the first few of each: small however many there were."""

    counts: Counter[str] = field(default_factory=Counter)
    first: list[Reject] = field(default_factory=list)

    def add(self, reject: Reject) -> None:
        """Count one reject."""
        self.counts[reject.reason] += 1
        if self.counts[reject.reason] <= _TOLD_PER_REASON:
            self.first.append(reject)

    def __str__(self) -> str:
        return ", ".join(f"{count} {reason}" for reason, count in sorted(self.counts.items())) or "nothing left out"


class RejectLog:
    """Counts rejects by reason, warns of the first few of each, and writes every one to a file.

    Args:
        path: A JSON lines file, made at the first reject; None where none is wanted.
        only_counted: Reasons that are no fault of the input, of which none is told one by one.
    """

    def __init__(self, path: Path | None = None, *, only_counted: frozenset[str] = _ONLY_COUNTED) -> None:
        self._path = path
        self._only_counted = only_counted
        self._file: TextIO | None = None
        self.tally = RejectTally()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, reject: Reject) -> None:
        """Count, tell and write one reject."""
        self._tell(reject)
        self.tally.add(reject)
        if self._path is not None:
            self._file = self._file or self._path.open("w", encoding="utf-8")
            row = asdict(reject)
            del row["offset"]  # the dataset folder's file has never had it
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def merge(self, tally: RejectTally) -> None:
        """Add what another process counted; of all but the first few of each reason only the number is known."""
        for reject in tally.first:
            self.add(reject)
        self.tally.counts.update(tally.counts - Counter(reject.reason for reject in tally.first))

    def summarize(self) -> None:
        """Say how many there were of each reason, if any."""
        if self.tally.counts:
            _logger.warning("left out: %s", self.tally)

    def _tell(self, reject: Reject) -> None:
        if reject.reason in self._only_counted or self.tally.counts[reject.reason] >= _TOLD_PER_REASON:
            return
        place = reject.source if reject.line is None else f"{reject.source}:{reject.line}"
        _logger.warning("%s: %s (%s)", place, reject.detail, reject.reason)
