"""Vocabularies as files and folders."""

from pathlib import Path

import pytest
from vocabularies import vocabulary


@pytest.fixture
def vocab_file(tmp_path: Path) -> Path:
    path = tmp_path / "vocab.txt"
    path.write_text("".join(f"{token}\n" for token in vocabulary()), encoding="utf-8")
    return path
