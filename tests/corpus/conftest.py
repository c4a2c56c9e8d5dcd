"""Vocabularies as files and folders, and the place of the shared sample corpora."""

import os
from pathlib import Path

import pytest
from vocabularies import vocabulary


@pytest.fixture
def vocab_file(tmp_path: Path) -> Path:
    path = tmp_path / "vocab.txt"
    path.write_text("".join(f"{token}\n" for token in vocabulary()), encoding="utf-8")
    return path


@pytest.fixture
def shared_data() -> Path:
    beside_repository = Path(__file__).parents[3] / "shared" / "data"
    folder = Path(os.environ.get("FLASHQUAD_SHARED_DATA", beside_repository))
    if not folder.is_dir():
        pytest.skip(f"the sample corpora are not at {folder}: name their folder in FLASHQUAD_SHARED_DATA")
    return folder
