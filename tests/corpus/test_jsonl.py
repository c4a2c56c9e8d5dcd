import json

import pytest

from flash.corpus import workers
from flash.corpus.documents import ReadingSettings
from flash.corpus.jsonl import JsonlSettings, convert_to_jsonl, merge_to_jsonl
from flash.errors import InputError


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "in"
    for name in ("b/2.txt", "a/1.txt", "文件 名.txt"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        documents = [f"{name}的第{i}篇文章，内容很长。\n它有两行。" for i in range(30)]
        path.write_text("\n\n".join(documents), encoding="utf-8")
    (folder / "readme.md").write_text("not text")
    return folder


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def in_order(tree):
    names = ["a/1.txt", "b/2.txt", "文件 名.txt"]
    return [{"text": f"{name}的第{i}篇文章，内容很长。\n它有两行。"} for name in names for i in range(30)]


def test_all_documents_are_in_one_shuffled_file(tree, tmp_path):
    counts = merge_to_jsonl(tree, tmp_path / "out.jsonl")
    found = rows(tmp_path / "out.jsonl")
    assert found != in_order(tree)
    assert sorted(found, key=str) == sorted(in_order(tree), key=str)
    assert counts["documents"] == 90
    assert counts["characters"] == sum(len(row["text"]) for row in found)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out.jsonl"]


def test_without_shuffle_the_order_is_that_of_the_files(tree, tmp_path):
    merge_to_jsonl(tree, tmp_path / "out.jsonl", JsonlSettings(shuffle_seed=None))
    assert rows(tmp_path / "out.jsonl") == in_order(tree)


def test_result_does_not_depend_on_the_number_of_workers(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "_BYTES_PER_WORKER", 1)
    for count in (1, 2):
        merge_to_jsonl(tree, tmp_path / f"{count}.jsonl", workers=count)
    assert (tmp_path / "1.jsonl").read_bytes() == (tmp_path / "2.jsonl").read_bytes()


def test_seed_decides_the_order(tree, tmp_path):
    for seed in (1, 2):
        merge_to_jsonl(tree, tmp_path / f"{seed}.jsonl", JsonlSettings(shuffle_seed=seed))
    assert rows(tmp_path / "1.jsonl") != rows(tmp_path / "2.jsonl")


def test_one_file_of_any_name_is_taken(tmp_path):
    (tmp_path / "corpus").write_text("第一篇文章的内容很长。\n\n第二篇文章的内容很长。", encoding="utf-8")
    merge_to_jsonl(tmp_path / "corpus", tmp_path / "out.jsonl", JsonlSettings(shuffle_seed=None))
    assert rows(tmp_path / "out.jsonl") == [{"text": "第一篇文章的内容很长。"}, {"text": "第二篇文章的内容很长。"}]


def test_short_documents_are_counted_and_left_out(tmp_path, caplog):
    (tmp_path / "a.txt").write_text("短\n\n十个字以上的一篇文章。\n\n好", encoding="utf-8")
    counts = merge_to_jsonl(tmp_path / "a.txt", tmp_path / "out.jsonl")
    assert counts["documents"] == 1
    assert "left out: 2 short_document" in caplog.messages


def test_key_and_separator_can_be_chosen(tmp_path):
    (tmp_path / "a.txt").write_text("第一篇文章\n\n的内容很长。\n###\n第二篇文章的内容很长。", encoding="utf-8")
    reading = ReadingSettings(json_key="content", document_separator="###")
    merge_to_jsonl(tmp_path / "a.txt", tmp_path / "out.jsonl", JsonlSettings(shuffle_seed=None, reading=reading))
    assert rows(tmp_path / "out.jsonl") == [
        {"content": "第一篇文章\n\n的内容很长。"},
        {"content": "第二篇文章的内容很长。"},
    ]


def test_one_file_beside_each_input(tree):
    counts = convert_to_jsonl(tree)
    assert counts["documents"] == 90
    assert rows(tree / "a" / "1.txt.jsonl") == in_order(tree)[:30]
    with pytest.raises(InputError, match=r"1\.txt\.jsonl exists: pass --overwrite"):
        convert_to_jsonl(tree)
    convert_to_jsonl(tree, overwrite=True)


def test_bad_input_is_left_out_and_told(tree, tmp_path, caplog):
    (tree / "bad.txt").write_bytes("前面的一行很长很长。\n".encode() + b"\xff\n" + "后面的一行。".encode())
    (tree / "empty.txt").touch()
    counts = merge_to_jsonl(tree, tmp_path / "out.jsonl")
    assert counts["documents"] == 91
    assert {"text": "前面的一行很长很长。\n后面的一行。"} in rows(tmp_path / "out.jsonl")
    assert "left out: 1 empty_file, 1 invalid_utf8, 1 other_file" in caplog.messages


def test_input_without_text_is_an_error_and_leaves_nothing(tmp_path):
    (tmp_path / "empty.txt").touch()
    with pytest.raises(InputError, match="no usable text in the 1 input files: 1 empty_file"):
        merge_to_jsonl(tmp_path / "empty.txt", tmp_path / "out.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["empty.txt"]


def test_existing_output_is_replaced_only_when_told(tree, tmp_path):
    (tmp_path / "out.jsonl").write_text("earlier")
    with pytest.raises(InputError, match=r"out\.jsonl exists: pass --overwrite"):
        merge_to_jsonl(tree, tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text() == "earlier"
    merge_to_jsonl(tree, tmp_path / "out.jsonl", overwrite=True)
    assert len(rows(tmp_path / "out.jsonl")) == 90
