"""docs/quality.md shows what the records say."""

import re
import sys

import pytest

from flash.errors import InputError

import page
from figures import looks
from generated_page import fill_tables
from page import DOCS, PAGE, RECORDS
from runs import read_records
from tables import TABLES


@pytest.fixture(scope="module")
def text():
    return PAGE.read_text(encoding="utf-8")


def test_the_tables_of_the_page_are_what_the_records_give(text):
    assert fill_tables(text, TABLES, read_records(RECORDS)) == text


def test_every_table_is_shown_and_every_figure_is_there(text):
    assert set(re.findall(r"<!-- table ([\w-]+) -->", text)) == set(TABLES)
    figures = re.findall(r"\]\((figures/[\w.-]+)\)", text)
    assert all((DOCS / figure).is_file() for figure in figures)


def test_a_table_that_was_changed_by_hand_is_written_anew(text):
    changed = re.sub(r"\| FLASH-Quad \|.*", "| FLASH-Quad | 0 |", text, count=1)
    assert changed != text
    assert fill_tables(changed, TABLES, read_records(RECORDS)) == text


def test_no_two_lines_of_a_figure_look_the_same():
    drawn = list(looks())
    assert len(drawn) == len(set(drawn)) == 32


def test_a_page_without_records_is_left_as_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(page, "RECORDS", tmp_path / "runs.jsonl")
    monkeypatch.setattr(page, "PAGE", tmp_path / "quality.md")
    monkeypatch.setattr(sys, "argv", ["page.py"])
    page.PAGE.write_text("<!-- table lengths -->\nnumbers\n<!-- end -->\n", encoding="utf-8")
    with pytest.raises(SystemExit) as stop:
        page.main()
    assert stop.value.code == 2
    assert "runs.jsonl holds no records" in capsys.readouterr().err
    assert "numbers" in page.PAGE.read_text(encoding="utf-8")


def test_a_mark_of_no_table_is_named():
    with pytest.raises(InputError, match="<!-- table nothing -->: there is no such table; there are comparison-3M"):
        fill_tables("<!-- table nothing -->\n<!-- end -->", TABLES, {})
