from pathlib import Path

import pytest
from filelock import FileLock

from flash.corpus.staging import check_replaceable, scratch_folder, staged
from flash.errors import InputError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_output_appears_at_the_end(tmp_path):
    output = tmp_path / "new" / "out"
    with staged(output, overwrite=False) as partial:
        partial.write_text("text")
        assert not output.exists()
    assert output.read_text() == "text"
    assert names(tmp_path / "new") == ["out"]


def test_error_leaves_nothing_behind(tmp_path):
    with pytest.raises(OSError, match="full"), staged(tmp_path / "out", overwrite=False) as partial:  # noqa: PT012
        partial.mkdir()
        (partial / "half").write_text("half")
        raise OSError("full")
    assert names(tmp_path) == []


def test_error_leaves_an_earlier_output_as_it_was(tmp_path):
    output = tmp_path / "out"
    output.write_text("earlier")
    with pytest.raises(OSError, match="full"), staged(output, overwrite=True) as partial:  # noqa: PT012
        partial.write_text("half")
        raise OSError("full")
    assert output.read_text() == "earlier"
    assert names(tmp_path) == ["out"]


def test_an_output_below_a_file_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("text")
    for output in (tmp_path / "file" / "out", tmp_path / "file" / "deep" / "out"):
        with pytest.raises(InputError, match=r"out cannot be made, because .*file is a file: name another"):
            check_replaceable(output, overwrite=True)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that not even root can write to")
@pytest.mark.parametrize("output", ["/proc/out", "/proc/new/out"])
def test_a_place_that_cannot_be_written_to_is_named(output):
    message = rf"^{Path(output).parent} cannot be written to \(No such file or directory\): .*name another output"
    with pytest.raises(OSError, match=message), staged(Path(output), overwrite=False):
        pass


def test_existing_output_is_replaced_only_when_told(tmp_path):
    output = tmp_path / "out"
    output.write_text("earlier")
    with pytest.raises(InputError, match="out exists: pass --overwrite"), staged(output, overwrite=False):
        pass
    with staged(output, overwrite=True) as partial:
        partial.write_text("later")
    assert output.read_text() == "later"
    assert names(tmp_path) == ["out"]


def test_empty_folder_is_no_output(tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    with staged(output, overwrite=False) as partial:
        partial.mkdir()
        (partial / "file").touch()
    assert names(output) == ["file"]


def test_folder_that_holds_anything_else_is_never_replaced(tmp_path):
    output = tmp_path / "home"
    output.mkdir()
    (output / "manifest.json").touch()
    (output / "letter").touch()
    anything_else = pytest.raises(InputError, match="home is not replaced, because it holds letter")
    with anything_else, staged(output, overwrite=True, own_files=["*.json"]):
        pass
    assert names(output) == ["letter", "manifest.json"]
    (output / "letter").unlink()
    with staged(output, overwrite=True, own_files=["*.json"]) as partial:
        partial.mkdir()
    assert names(output) == []


def test_file_is_never_replaced_by_a_folder(tmp_path):
    output = tmp_path / "letter.txt"
    output.write_text("precious")
    no_folder = pytest.raises(InputError, match=r"letter\.txt is not replaced, because it is no folder: name another")
    with no_folder, staged(output, overwrite=True, own_files=["*.json"]):
        pass
    assert output.read_text() == "precious"


def test_leftovers_of_a_killed_run_are_removed_and_told(tmp_path, caplog):
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.scratch").mkdir()
    with staged(tmp_path / "out", overwrite=False) as partial, scratch_folder(tmp_path / "out") as scratch:
        assert names(scratch) == []
        partial.mkdir()
    assert names(tmp_path) == ["out"]
    assert "out.partial, left by a run that did not finish" in caplog.text
    assert "out.scratch, left by a run that did not finish" in caplog.text


def test_output_moved_aside_by_a_killed_run_comes_back(tmp_path):
    (tmp_path / "out.replaced").write_text("earlier")
    with pytest.raises(OSError, match="full"), staged(tmp_path / "out", overwrite=True):
        raise OSError("full")
    assert (tmp_path / "out").read_text() == "earlier"
    assert names(tmp_path) == ["out"]


def test_output_that_came_back_is_not_replaced_unless_told(tmp_path):
    (tmp_path / "out.replaced").write_text("earlier")
    with pytest.raises(InputError, match="out exists: pass --overwrite"), staged(tmp_path / "out", overwrite=False):
        pass
    assert (tmp_path / "out").read_text() == "earlier"


def test_two_processes_do_not_write_one_output(tmp_path):
    busy = pytest.raises(InputError, match="being written by another process")
    with FileLock(tmp_path / ".out.lock"), busy, staged(tmp_path / "out", overwrite=False):
        pass


def test_link_to_an_output_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    with staged(tmp_path / "out", overwrite=False) as partial:
        partial.mkdir()
        (partial / "file").touch()
    assert (tmp_path / "out").is_symlink()
    assert names(tmp_path / "disk") == ["file"]
