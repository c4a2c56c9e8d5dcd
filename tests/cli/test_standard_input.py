import io
import sys

import pytest

from flash.cli.standard_input import lines_of_standard_input


@pytest.fixture
def lines(monkeypatch):
    def read(content):
        # as Python opens standard input on Unix: line ends stay as they are
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", newline="\n"))
        return list(lines_of_standard_input())

    return read


def test_lines_have_neither_ends_nor_a_byte_order_mark_and_blank_ones_are_none(lines):
    content = "\ufeff今天\r\n\r\n  \n天气 \t好\n\ufeff很".encode()
    assert lines(content) == ["今天", "天气 \t好", "\ufeff很"]
    assert lines(b"\xef\xbb\xbf\r\n") == []


def test_a_line_that_is_not_utf_8_does_not_cost_the_others(lines):
    assert lines(b"a\n\xc4\xe3\nb\n") == ["a", "\udcc4\udce3", "b"]
