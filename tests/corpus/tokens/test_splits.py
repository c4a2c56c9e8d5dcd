import io
import itertools
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flash.corpus.documents import ReadingSettings, read_documents
from flash.corpus.input_files import InputFile
from flash.corpus.records import Document, InputSummary, Reject
from flash.corpus.tokens.splits import next_document, split_places

LINES = st.lists(
    st.sampled_from(["今天", "天气很好", "", "", " ", "###", '{"text": "今天"}', '{"text": 3}', "{", "\xff", "a" * 30])
)
LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r", "\n\n"])


def read(file, reading, begin=0, end=None):
    *records, summary = read_documents(file, reading, lambda count: None, begin, end)
    return records, summary


def placed(records, lines_before=0):
    return [
        (type(record), getattr(record, "text", None) or record.detail, record.offset, record.line + lines_before)
        for record in records
        if isinstance(record, (Document, Reject)) and record.line is not None
    ]


@settings(deadline=None, max_examples=150)
@example(["\xff", "{"], "\n", 1, "json", "")
@given(LINES, LINE_ENDS, st.integers(1, 60), st.sampled_from(["text", "json"]), st.sampled_from(["", "###"]))
def test_parts_give_the_documents_of_the_whole(tmp_path_factory, lines, line_end, range_bytes, kind, separator):
    path = tmp_path_factory.mktemp("splits") / "file"
    path.write_bytes(line_end.join(lines).encode("utf-8").replace("\xff".encode(), b"\xff"))
    file, reading = InputFile(path, kind), ReadingSettings(document_separator=separator)
    whole, summary = read(file, reading)
    places = split_places(file, reading, range_bytes)
    parts, lines_before, byte_count = [], 0, 0
    for begin, end in itertools.pairwise([0, *places, None]):
        records, of_part = read(file, reading, begin, end)
        parts += placed(records, lines_before)
        lines_before += of_part.line_count
        byte_count += of_part.byte_count
    assert parts == placed(whole)
    assert (lines_before, byte_count) == (summary.line_count, summary.byte_count)


def test_parts_are_about_as_large_as_asked(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "0123456789"}\n' * 1000)
    places = split_places(InputFile(path, "json"), ReadingSettings(), 2300)
    assert len(places) == 9
    assert all(2300 <= end - begin < 2400 for begin, end in itertools.pairwise([0, *places]))


def test_one_document_longer_than_everything_is_not_cut(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps({"text": "今" * 3_000_000}, ensure_ascii=False).encode())
    assert split_places(InputFile(path, "json"), ReadingSettings(), 1000) == []
    assert next_document(io.BytesIO(b"a" * 3_000_000 + b"\nb"), 5, 3_000_002, None) == 3_000_001


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jsonl.gz", b"\x1f\x8b" * 100),
        ("a.jsonl", "今天天气\n".encode("gbk") * 100),
        ("a.jsonl", b"[\n" + b'{"text": "a"},\n' * 100 + b"]"),
        ("a.jsonl", b"\xef\xbb\xbf[\n" + b'{"text": "a"},\n' * 100 + b"]"),
        ("a.parquet", b"no parquet at all" * 100),
    ],
)
def test_file_that_is_compressed_or_not_what_it_seems_is_one_part(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    kind = "parquet" if name.endswith("parquet") else "json"
    assert split_places(InputFile(path, kind), ReadingSettings(), 50) == []


def test_row_groups_of_parquet_are_parts(tmp_path):
    path = tmp_path / "a.parquet"
    texts = [f"{i} 今天的天气很好" for i in range(100)]
    pq.write_table(pa.table({"id": range(100), "text": texts}), path, row_group_size=10, compression="none")
    file = InputFile(path, "parquet")
    places = split_places(file, ReadingSettings(), 600)
    assert len(places) > 2
    records, byte_count = [], 0
    for begin, end in itertools.pairwise([0, *places, None]):
        part, summary = read(file, ReadingSettings(), begin, end)
        records += part
        byte_count += summary.byte_count
    assert [(record.text, record.line, record.offset) for record in records] == [
        (text, number + 1, number) for number, text in enumerate(texts)
    ]
    assert byte_count == path.stat().st_size


def test_sha256_of_a_parquet_file_read_whole_is_that_of_the_file(tmp_path):
    import hashlib

    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["今天的天气很好"] * 5}), path, row_group_size=2)
    _, summary = read(InputFile(path, "parquet"), ReadingSettings())
    assert isinstance(summary, InputSummary)
    assert summary.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"content": ["今天"]}, "missing_key"),
        ({"text": [1, 2]}, "not_a_string"),
    ],
)
def test_parquet_without_texts_is_rejected(tmp_path, table, reason):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(table), path)
    (reject,), _ = read(InputFile(path, "parquet"), ReadingSettings())
    assert reject.reason == reason
    assert "--json-key" in reject.detail


def test_parquet_with_two_columns_of_the_name_is_rejected(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array(["今天"])] * 2, names=["text", "text"]), path)
    (reject,), _ = read(InputFile(path, "parquet"), ReadingSettings())
    assert (reject.reason, reject.detail) == (
        "repeated_column",
        "several columns are called 'text': rename all but one",
    )


def test_rows_of_parquet_without_a_text_are_left_out_alone(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["今天", None, " ", "天气"]}), path)
    records, _ = read(InputFile(path, "parquet"), ReadingSettings())
    assert [(record.line, getattr(record, "reason", "")) for record in records] == [
        (1, ""), (2, "not_a_string"), (3, "empty_text"), (4, ""),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["string", "dictionary"])
def test_rows_of_parquet_that_are_not_utf8_are_left_out_alone(tmp_path, kind):
    values = pa.array(["今天".encode(), b"\xff\xfe", "天气".encode()], pa.binary())
    column = pa.Array.from_buffers(pa.string(), 3, values.buffers())
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": column.dictionary_encode() if kind == "dictionary" else column}), path)
    records, _ = read(InputFile(path, "parquet"), ReadingSettings())
    assert [(record.line, getattr(record, "reason", "")) for record in records] == [
        (1, ""),
        (2, "invalid_utf8"),
        (3, ""),
    ]
    assert [record.text for record in records if isinstance(record, Document)] == ["今天", "天气"]


def test_damaged_parquet_is_rejected(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["今天"] * 1000}), path)
    path.write_bytes(path.read_bytes()[:-20])
    (reject,), _ = read(InputFile(path, "parquet"), ReadingSettings())
    assert reject.reason == "unreadable_file"
