import os
from pathlib import Path

import pytest

from flash.corpus.input_files import find_input_files, kind_of, printable
from flash.errors import InputError


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.txt", "text"),
        ("a.TXT.zst", "text"),
        ("a.jsonl", "json"),
        ("a.json.gz", "json"),
        ("a.md", None),
        ("a.gz", None),
    ],
)
def test_name_says_the_kind(name, kind):
    assert kind_of(Path(name)) == kind


def test_folder_is_searched_in_the_order_of_names(tmp_path):
    for name in ("b/2.txt", "b/1.txt", "a.jsonl", "c/文件 名字.txt", "b.txt", "notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    files, rejects = find_input_files([tmp_path])
    names = [str(file.path.relative_to(tmp_path)) for file in files]
    assert names == ["a.jsonl", "b/1.txt", "b/2.txt", "b.txt", "c/文件 名字.txt"]
    assert [(reject.reason, Path(reject.source).name) for reject in rejects] == [("other_file", "notes.md")]


def test_named_file_is_taken_whatever_its_name(tmp_path):
    (tmp_path / "corpus").touch()
    files, _ = find_input_files([tmp_path / "corpus"])
    assert [file.kind for file in files] == ["text"]


def test_link_to_a_folder_above_does_not_go_round_for_ever(tmp_path):
    (tmp_path / "a.txt").touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    files, rejects = find_input_files([tmp_path])
    assert len(files) == 1
    assert [(reject.reason, Path(reject.source).name) for reject in rejects] == [("repeated_folder", "loop")]


def test_linked_folder_is_read(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.txt").touch()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    files, rejects = find_input_files([tmp_path / "in"])
    assert [file.path for file in files] == [tmp_path / "in" / "link" / "a.txt"]
    assert rejects == []


def test_what_the_work_makes_itself_is_passed_over(tmp_path):
    for name in ("a.txt", "out/manifest.json", "out.work/tasks/000000.json", "outer/b.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("out")
    files, rejects = find_input_files([tmp_path], passed_over=[tmp_path / "link", f"{tmp_path}/out.work"])
    assert [file.path for file in files] == [tmp_path / "a.txt", tmp_path / "outer" / "b.txt"]
    assert rejects == []
    files, _ = find_input_files([tmp_path / "out"], passed_over=[tmp_path / "out"])
    assert len(files) == 1  # who names it wants it


@pytest.mark.parametrize(
    "held",
    [
        ["tokenizer.json", "vocab.txt"],
        ["manifest.json", "rejects.jsonl", "tokenizer/vocab.txt"],
        ["plan.json", "tokenizer.json", "tasks/000000.rejects.jsonl"],
        ["dataset_info.json", "state.json"],
    ],
)
def test_datasets_tokenizers_and_unfinished_work_are_no_text(tmp_path, held):
    for name in ("a.txt", *(f"runs/data/{name}" for name in held)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    files, rejects = find_input_files([tmp_path])
    assert [file.path.name for file in files] == ["a.txt"]
    assert [(reject.reason, Path(reject.source).name) for reject in rejects] == [("other_folder", "data")]
    files, _ = find_input_files([tmp_path / "runs" / "data"])
    assert files  # who names it wants it


def test_what_is_no_readable_file_is_reported(tmp_path):
    (tmp_path / "a.txt").touch()
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    (tmp_path / "itself.txt").symlink_to(tmp_path / "itself.txt")
    os.mkfifo(tmp_path / "pipe.txt")
    files, rejects = find_input_files([tmp_path])
    assert len(files) == 1
    assert [(reject.reason, Path(reject.source).name) for reject in rejects] == [
        ("dangling_link", "gone.txt"),
        ("unreadable_file", "itself.txt"),
        ("special_file", "pipe.txt"),
    ]


def test_folder_that_cannot_be_listed_is_reported(tmp_path, monkeypatch):
    (tmp_path / "a.txt").touch()
    (tmp_path / "closed").mkdir()
    list_folder = Path.iterdir

    def iterdir(path):
        if path.name == "closed":
            raise PermissionError(13, "Permission denied")
        return list_folder(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    files, rejects = find_input_files([tmp_path])
    assert len(files) == 1
    assert [reject.reason for reject in rejects] == ["unreadable_folder"]


def test_path_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere does not exist"):
        find_input_files([tmp_path / "nowhere"])


def test_folder_without_text_is_refused(tmp_path):
    (tmp_path / "a.md").touch()
    with pytest.raises(InputError, match=r"no file to read in .*\.txt"):
        find_input_files([tmp_path])


def test_any_path_is_printed_on_one_line():
    assert printable(Path("名 字\n换行.txt")) == "名 字\\n换行.txt"
    assert printable(Path(os.fsdecode(b"bad\xff.txt"))) == "bad\\xff.txt"
