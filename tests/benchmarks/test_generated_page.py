"""A generated page is written, or compared with a fresh run."""

from pathlib import Path

import pytest

from generated_page import markdown_table, write_or_compare


def test_a_written_page_passes_its_check(tmp_path: Path):
    page = tmp_path / "docs" / "page.md"
    assert write_or_compare(page, "a\nb\n", check=False) == 0
    assert page.read_text(encoding="utf-8") == "a\nb\n"
    assert write_or_compare(page, "a\nb\n", check=True) == 0


def test_a_check_shows_what_differs_and_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    page = tmp_path / "page.md"
    page.write_text("a\nb\n", encoding="utf-8")
    assert write_or_compare(page, "a\nc\n", check=True) == 1
    shown = capsys.readouterr().out.splitlines()
    assert "-b" in shown
    assert "+c" in shown
    assert page.read_text(encoding="utf-8") == "a\nb\n"


def test_a_missing_page_fails_its_check(tmp_path: Path):
    assert write_or_compare(tmp_path / "page.md", "a\n", check=True) == 1


def test_a_table_has_numbers_to_the_right():
    assert markdown_table(["model", "128"], [["FLASH", "1.0"]]).splitlines() == [
        "| model | 128 |",
        "| --- | ---: |",
        "| FLASH | 1.0 |",
    ]
