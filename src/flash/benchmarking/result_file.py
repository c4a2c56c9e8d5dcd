"""A CSV that measurements are appended to one by one, so that nothing is lost and a rerun goes on."""

from __future__ import annotations

import csv
import io
import logging
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Generic, TypeVar, get_type_hints

from flash.benchmarking.records import Conditions, Point
from flash.errors import InputError

P = TypeVar("P", bound=Point)
_logger = logging.getLogger(__name__)
_PARSERS: dict[Any, Callable[[str], Any]] = {
    str: str,
    int: int,
    tuple[float, ...]: lambda text: tuple(map(_positive, text.split())),
}


class ResultFile(Generic[P]):
    """Rows of one type of `Point`: first what they were measured under, then what was measured, then what it gives."""

    def __init__(self, path: Path, row_type: type[P]) -> None:
        self.path = path
        self.row_type = row_type
        self.condition_types = get_type_hints(Conditions)
        hints = get_type_hints(row_type)
        self.own_types = {field.name: hints[field.name] for field in fields(row_type) if field.name != "conditions"}
        self.stored = [*self.condition_types, *self.own_types]
        self.columns = [*self.stored, *row_type.derived_columns]

    def read(self) -> list[P]:
        """Read all rows, none where there is no file. A last line that a killed process left unfinished is cut off.

        Raises:
            InputError: A line is none of this program's.
        """
        if not self.path.exists():
            return []
        try:
            text = self.path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise InputError(
                f"{self.path}: no text in UTF-8, so none of `flashquad bench`; name another --output"
            ) from None
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            _logger.warning("%s: leaving out its last line, which was not written to its end", self.path)
            self.path.write_text(whole, encoding="utf-8")
        reader = csv.reader(io.StringIO(whole))
        header = next(reader, None)
        if header is None:
            return []
        if header != self.columns:
            raise InputError(
                f"{self.path}, line 1: the columns are not those of `flashquad bench`; name another --output"
            )
        return [self._parse(cells, reader.line_num) for cells in reader]

    def read_matching(self, conditions: Conditions) -> list[P]:
        """Read all rows, to go on where they end.

        Raises:
            InputError: They were measured under other conditions.
        """
        rows = self.read()
        for row in rows:
            for name, value in asdict(conditions).items():
                before = getattr(row.conditions, name)
                if before != value:
                    raise InputError(
                        f"{self.path} was measured with {name} {before or 'none'}, this run has {value or 'none'}: "
                        "name another --output, or run with the settings of before"
                    )
        return rows

    def append(self, rows: Iterable[P]) -> None:
        """Add rows, on disk when it returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not self.path.exists() or not self.path.stat().st_size
        with self.path.open("a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self.columns, lineterminator="\n", restval="")
            if is_new:
                writer.writeheader()
            writer.writerows({name: _text(value) for name, value in flat(row).items()} for row in rows)
            file.flush()
            os.fsync(file.fileno())

    def _parse(self, cells: list[str], line: int) -> P:
        try:
            read = dict(zip(self.columns, cells, strict=True))
            conditions = {name: _PARSERS[kind](read[name]) for name, kind in self.condition_types.items()}
            own = {name: _PARSERS[kind](read[name]) for name, kind in self.own_types.items()}
            return self.row_type(conditions=Conditions(**conditions), **own)
        except ValueError as error:
            raise InputError(f"{self.path}, line {line}: no row of `flashquad bench` ({error}); remove it") from None


def flat(row: Point) -> dict[str, Any]:
    """Return a row as it is written: conditions, what was measured, what that gives."""
    stored = asdict(row)
    return stored.pop("conditions") | stored | row.derived()


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError(f"{text} is no number above 0")
    return number


def _text(value: Any) -> Any:
    if isinstance(value, tuple):
        return " ".join(f"{one:.6g}" for one in value)
    return f"{value:.6g}" if isinstance(value, float) else value
