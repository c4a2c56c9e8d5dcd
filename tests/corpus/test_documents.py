import bz2
import errno
import gzip
import hashlib
import io
import json
import lzma
import os

import pytest
import zstandard

from flash.corpus import documents
from flash.corpus.byte_streams import HashedFile
from flash.corpus.documents import ReadingSettings, read_documents
from flash.corpus.input_files import InputFile, kind_of
from flash.corpus.records import Document, Reject
from flash.errors import InputError


def read(path, **settings):
    """Return the documents' texts, the rejects and the summary of one file."""
    file = InputFile(path, kind_of(path) or "text")
    *records, summary = read_documents(file, ReadingSettings(**settings), on_read=lambda count: None)
    texts = [record.text for record in records if isinstance(record, Document)]
    return texts, [record for record in records if isinstance(record, Reject)], summary


@pytest.fixture
def write(tmp_path):
    def write(data, name="some.txt"):
        path = tmp_path / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return write


def test_documents_are_separated_by_blank_lines(write):
    texts, rejects, summary = read(write("一\n二\n\n\u3000 \n三\n\n\n四"))
    assert texts == ["一\n二", "三", "四"]
    assert rejects == []
    assert summary.document_count == 3


def test_separator_line_is_compared_without_the_space_around_it(write):
    texts, _, _ = read(write("一\n\n二\n  ### \n三"), document_separator="###")
    assert texts == ["一\n\n二", "三"]


@pytest.mark.parametrize(("given", "texts"), [(" ### ", ["一\n\n二", "三"]), ("\n", ["一", "二\n###\n三"])])
def test_separator_may_be_given_with_space_around_it(write, given, texts):
    assert read(write("一\n\n二\n###\n三"), document_separator=given)[0] == texts


def test_separator_of_several_lines_is_refused():
    with pytest.raises(InputError, match=r"must be one line, got 'a\\nb'"):
        ReadingSettings(document_separator="a\nb")


def test_every_kind_of_line_end_counts(write):
    texts, _, _ = read(write("一\r\n二\r\n\r\n三\r四\r\r五"))
    assert texts == ["一\n二", "三\n四", "五"]


@pytest.mark.parametrize("data", ["", " \n\t\n\u3000\n\xa0\n", "\ufeff", "\n\n\n"])
def test_file_without_text_is_reported(write, data):
    texts, rejects, _ = read(write(data))
    assert texts == []
    assert [(reject.reason, reject.line) for reject in rejects] == [("empty_file", None)]


def test_rest_of_a_document_with_a_bad_line_is_kept(write):
    texts, rejects, _ = read(write("一\n".encode() + b"\xff\n" + "二\n\n三".encode()))
    assert texts == ["一\n二", "三"]
    assert [(reject.reason, reject.line) for reject in rejects] == [("invalid_utf8", 2)]


def test_gbk_file_is_reported_once_and_read_when_told(write):
    path = write("今天的天气很好\n我们去公园玩\n\n他来了".encode("gbk"))
    texts, rejects, _ = read(path)
    assert texts == []
    assert [reject.reason for reject in rejects] == ["looks_like_gbk"]
    texts, rejects, _ = read(path, encoding="gb18030")
    assert texts == ["今天的天气很好\n我们去公园玩", "他来了"]
    assert rejects == []


@pytest.mark.parametrize("size", [10, 25, 100])
def test_long_document_goes_on_in_another_record_and_nothing_is_lost(write, size):
    text = "今天的天气很好。我们去公园玩！" * 10 + "没有句号" * 20
    path = write(text + "\n\n" + "下一篇")
    settings = ReadingSettings(max_document_chars=size)
    *records, _ = read_documents(InputFile(path, "text"), settings, on_read=lambda count: None)
    first = [record for record in records if record.line == 1]
    assert "".join(record.text for record in first) == text
    assert [record.part for record in first] == list(range(len(first)))
    assert [record.is_last_part for record in first] == [False] * (len(first) - 1) + [True]
    assert max(len(record.text) for record in first) <= size
    assert [(record.text, record.line, record.part) for record in records[len(first) :]] == [("下一篇", 3, 0)]
    if size == 25:
        assert first[0].text == "今天的天气很好。我们去公园玩！今天的天气很好。"


def test_rest_of_a_long_document_is_not_a_few_characters(write):
    texts, _, _ = read(write("字" * 1005), max_document_chars=1000)
    assert [len(text) for text in texts] == [938, 67]


def test_white_space_at_a_seam_stands_before_it(write):
    texts, _, _ = read(write("今天。" * 5 + "\u200b\u3000 \t" + "天气。" * 5), max_document_chars=20)
    assert texts == ["今天。" * 5 + "\u200b\u3000 \t", "天气。" * 5]


def test_line_longer_than_a_chunk_is_one_document(write):
    line = "今天的天气很好。" * 100_000  # 2.4 MB
    texts, _, summary = read(write(line + "\n第二行"))
    assert "".join(texts) == line + "\n第二行"
    assert len(texts) == 1
    assert summary.document_count == 1


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress), (".zst", zstandard.compress)],
)
def test_compressed_files_are_read_whole(write, suffix, compress):
    # two frames, as parallel compressors and `cat` make them
    data = compress("一\n\n".encode()) + compress("二".encode())
    texts, rejects, summary = read(write(data, f"some.txt{suffix}"))
    assert texts == ["一", "二"]
    assert rejects == []
    assert summary.sha256 == hashlib.sha256(data).hexdigest()
    assert summary.byte_count == len(data)


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress), (".zst", zstandard.compress)],
)
def test_damaged_archive_is_reported(write, suffix, compress):
    whole = compress("".join(f"第{i}篇\n\n" for i in range(1000)).encode())
    for data in (whole[:-20], b"not an archive"):
        _, rejects, _ = read(write(data, f"some.txt{suffix}"))
        assert [(reject.reason, reject.line) for reject in rejects] == [("unreadable_file", None)]


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_little_is_lost_of_a_small_archive_that_was_cut_short(write, suffix, compress):
    lines = [os.urandom(30).hex() for _ in range(2000)]
    data = compress("\n\n".join(lines).encode())
    texts, rejects, _ = read(write(data[: len(data) // 2], f"some.txt{suffix}"))
    assert texts == lines[: len(texts)]
    assert len(texts) > 800
    assert [reject.reason for reject in rejects] == ["unreadable_file"]


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress), (".zst", zstandard.compress)],
)
def test_zeros_behind_an_archive_are_no_fault_and_anything_else_is_told(write, suffix, compress):
    whole = compress("一\n\n二\n".encode())
    for data in (whole + bytes(20_000), whole + bytes(3) + whole):
        texts, rejects, summary = read(write(data, f"some.txt{suffix}"))
        assert texts == ["一", "二"] if data.endswith(bytes(9)) else ["一", "二\n一", "二"]
        assert rejects == []
        assert summary.byte_count == len(data)
    texts, rejects, _ = read(write(whole + b"something else", f"some.txt{suffix}"))
    assert texts == ["一", "二"]
    assert [reject.reason for reject in rejects] == ["unreadable_file"]


def test_archive_of_very_much_is_held_in_parts(write):
    data = gzip.compress(b"a" * (40 << 20))
    file = InputFile(write(data, "some.txt.gz"), "text")
    sizes = [len(chunk) for chunk in HashedFile(file, lambda count: None).chunks()]
    assert sum(sizes) == 40 << 20
    assert max(sizes) < 3 << 20


def test_frames_that_hold_nothing_are_passed_over(write):
    skipped = b"\x50\x2a\x4d\x18\x04\x00\x00\x00\xff\xff\xff\xff"  # as pzstd writes them
    frame = zstandard.compress("一\n".encode())
    texts, rejects, _ = read(write(skipped + frame + skipped + zstandard.compress(b"") + frame, "some.txt.zst"))
    assert (texts, rejects) == (["一\n一"], [])


def test_what_was_read_of_a_damaged_archive_is_kept(write):
    noise = os.urandom(3 << 20).hex()
    data = zstandard.compress(f"第一篇\n\n第二篇\n{noise}".encode())
    texts, rejects, summary = read(write(data[:-1000], "some.txt.zst"))
    assert texts[0] == "第一篇"
    assert texts[1].startswith("第二篇\n" + noise[:1000])
    assert rejects[0].reason == "unreadable_file"
    assert summary.document_count == 2


def test_file_that_cannot_be_opened_is_reported(tmp_path):
    texts, rejects, summary = read(tmp_path / "gone.txt")
    assert texts == []
    assert rejects[0].reason == "unreadable_file"
    assert "No such file" in rejects[0].detail
    assert summary.byte_count == 0


class BrokenStream(io.BytesIO):
    """Gives what there is, and then not the end but an error."""

    def __init__(self, data, error):
        super().__init__(data)
        self.error = error

    def read(self, size=-1):
        data = super().read(size)
        if not data:
            raise self.error
        return data


@pytest.mark.parametrize("name", ["some.txt", "some.jsonl", "some.txt.gz"])
@pytest.mark.parametrize("error", [ConnectionResetError("peer went away"), OSError(errno.EIO, "Input/output error")])
def test_failure_of_network_or_disk_is_no_end_of_the_file(write, monkeypatch, name, error):
    file = write(b"", name)
    data = gzip.compress("今天\n".encode())[:-9] if name.endswith("gz") else "今天\n".encode()
    monkeypatch.setattr(InputFile, "open_binary", lambda self: BrokenStream(data, error))
    with pytest.raises(OSError, match=r"reading it failed \(.*\): give the same command again: '.*some"):
        read(file)


def test_json_lines_are_read_by_their_key(write):
    path = write('{"content": "一\\n二"}\n\n{"content": "三", "text": 4}\r\n', "some.jsonl")
    texts, rejects, _ = read(path, json_key="content")
    assert texts == ["一\n二", "三"]
    assert rejects == []


@pytest.mark.parametrize(
    ("line", "reason", "shown"),
    [
        ('{"text": "一', "broken_json", "Unterminated string"),
        ('{"text": "一"} {"text": "二"}', "broken_json", "Extra data"),
        ("今天", "broken_json", "Expecting value"),
        ("[" * 100_000, "broken_json", "recursion"),
        ('["一"]', "broken_json", "['一'] is no object"),
        (
            '{"content": "一", "id": 1}',
            "missing_key",
            "['content', 'id']: name the key that holds the text with --json-key (of the scripts: --json_key)",
        ),
        ('{"text": 12}', "not_a_string", "12, no string: put the text there, or name another key with --json-key"),
        ('{"text": null}', "not_a_string", "None"),
        ('{"text": ["一"]}', "not_a_string", "['一']"),
        ('{"text": " \\n"}', "empty_text", "blank"),
    ],
)
def test_bad_json_line_is_left_out_alone(write, line, reason, shown):
    path = write('{"text": "前"}\n' + line + '\n{"text": "后"}', "some.jsonl")
    texts, rejects, _ = read(path)
    assert texts == ["前", "后"]
    (reject,) = rejects
    assert (reject.reason, reject.source, reject.line) == (reason, str(path), 2)
    assert shown in reject.detail
    assert len(reject.detail) < 250


@pytest.mark.parametrize(
    "data",
    [
        json.dumps([{"text": "一"}, {"text": "二"}]),
        json.dumps([{"text": "一"}, {"text": "二"}], indent=1),
        '\n[{"text": "一"},\n{"text": "二"}]',
        json.dumps({"text": "一"}, indent=4) + "\n" + json.dumps({"text": "二"}, indent=4),
        "[\n" + '"一",\n' * 100 + "]",
    ],
)
def test_json_that_is_no_json_lines_is_reported_once(write, data):
    texts, rejects, _ = read(write(data, "some.json"))
    assert texts == []
    assert [(reject.reason, reject.line) for reject in rejects] == [("not_json_lines", None)]
    assert "this is not JSON lines, one object a line" in rejects[0].detail


def test_bad_first_json_line_is_left_out_alone(write):
    for line in ('{"text": "一', '["一"]'):
        texts, rejects, _ = read(write(line + '\n{"text": "后"}', "some.jsonl"))
        assert texts == ["后"]
        assert [(reject.reason, reject.line) for reject in rejects] == [("broken_json", 1)]


def test_json_line_beyond_the_limit_is_left_out_alone(write, monkeypatch):
    monkeypatch.setattr(documents, "_MAX_JSON_LINE_BYTES", 1 << 20)
    long_line = json.dumps({"text": "好" * 2_000_000}, ensure_ascii=False)
    texts, rejects, _ = read(write(f'{{"text": "前"}}\n{long_line}\n{{"text": "后"}}', "some.jsonl"))
    assert texts == ["前", "后"]
    assert [(reject.reason, reject.line) for reject in rejects] == [("json_line_too_long", 2)]


def test_reject_names_a_file_on_one_line(tmp_path):
    path = tmp_path / "名 字\n换行.txt"
    path.write_bytes(b"")
    _, rejects, _ = read(path)
    assert isinstance(rejects[0], Reject)
    assert rejects[0].source.endswith("名 字\\n换行.txt")
