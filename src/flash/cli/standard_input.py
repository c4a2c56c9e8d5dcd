"""Texts on standard input, one a line."""

import sys
from collections.abc import Iterator


def lines_of_standard_input() -> Iterator[str]:
    """Give the lines that are not blank, without their ends (LF or CR LF) and without a byte-order mark.

    Bytes that are not UTF-8 become lone surrogates, so that a bad line can be named as a bad argument is.
    """
    sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    for number, line in enumerate(sys.stdin):
        text = (line if number else line.removeprefix("\ufeff")).rstrip("\r\n")
        if text.strip():
            yield text
