"""Two processes never train into one folder."""

import errno
import subprocess
import sys

import pytest
from filelock import FileLock

from flash.errors import InputError
from flash.training.folder_lock import LOCK, holds_nothing, only_process_in


def test_a_second_process_is_turned_away_and_the_first_one_is_not_disturbed(tmp_path):
    folder = tmp_path / "new" / "out"
    with only_process_in(folder):
        assert holds_nothing(folder)
        (folder / "checkpoint").write_text("kept")
        taken = pytest.raises(InputError, match=r"another process trains into .*out.*another --output_dir")
        with taken, only_process_in(folder):
            pytest.fail("both were let in")
        assert (folder / LOCK).exists()
    assert [path.name for path in folder.iterdir()] == ["checkpoint"]
    with only_process_in(folder):
        pass


def test_the_lock_of_a_process_that_was_killed_holds_nobody_off(tmp_path):
    code = "import os, sys; from filelock import FileLock; FileLock(sys.argv[1]).acquire(); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / LOCK)], check=False)
    assert (tmp_path / LOCK).exists()
    with only_process_in(tmp_path):
        pass
    assert not (tmp_path / LOCK).exists()


@pytest.mark.parametrize("there_before", [True, False])
def test_a_folder_into_which_nothing_was_put_is_removed_if_it_is_new(there_before, tmp_path):
    folder = tmp_path / "out"
    if there_before:
        folder.mkdir()
    with pytest.raises(InputError), only_process_in(folder):
        raise InputError("a wrong setting")
    assert folder.exists() == there_before


def test_a_file_system_without_locks_is_named_and_used(tmp_path, monkeypatch, caplog):
    def refuse(self, **_):
        raise OSError(errno.ENOTSUP, "no locks here")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with only_process_in(tmp_path):
        (tmp_path / "checkpoint").write_text("kept")
    assert "keeps no locks" in caplog.text
    assert (tmp_path / "checkpoint").exists()
