"""Vocabularies as files and folders, and the place of the shared sample corpora."""

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
    folder = Path(__file__).parents[3] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the sample corpora are not there: ../shared/data beside the repository")
    return folder
