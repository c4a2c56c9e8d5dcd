"""Pages of docs/ that a program writes: written anew, or compared with a fresh run."""

import difflib
import re
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flash.errors import InputError

DOCS = Path(__file__).parents[1] / "docs"
_TABLE = re.compile(r"(<!-- table (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill_tables(text: str, tables: Mapping[str, Callable[[Any], str]], records: Any) -> str:
    """Write each table of ``records`` between its marks, ``<!-- table NAME -->`` and ``<!-- end -->``.

    Raises:
        InputError: A mark names no table.
    """
    for match in _TABLE.finditer(text):
        if match["name"] not in tables:
            raise InputError(f"{match[1].strip()}: there is no such table; there are {', '.join(tables)}")
    return _TABLE.sub(lambda match: f"{match[1]}\n{tables[match['name']](records)}\n\n{match[3]}", text)


def write_or_compare(page: Path, text: str, *, check: bool) -> int:
    """Write ``text`` to ``page``; or, to ``check``, print where the page differs from it.

    Returns:
        Exit code: 1 when a checked page differs or is missing.
    """
    if not check:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, encoding="utf-8")
        return 0
    written = page.read_text(encoding="utf-8") if page.exists() else ""
    difference = list(
        difflib.unified_diff(written.splitlines(), text.splitlines(), str(page), "a fresh run", lineterm="", n=1)
    )
    print("\n".join(difference) if difference else f"{page} is what a fresh run writes")
    return 1 if difference else 0


def versions() -> str:
    """Name the versions that a page may depend on, without the build of PyTorch (``+cpu``)."""
    return ", ".join(f"{package} {version(package).partition('+')[0]}" for package in ("torch", "transformers"))


def markdown_table(header: list[str], rows: list[list[str]], *, numbers: bool = True) -> str:
    """Write a Markdown table, its first column to the left and, where ``numbers``, the others to the right."""
    rule = ["---", *(["---:" if numbers else ":---:"] * (len(header) - 1))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))
