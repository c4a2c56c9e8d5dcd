"""Files of every form give the same rows, and a broken line costs itself alone."""

import bz2
import csv
import gzip
import json
import lzma

import pyarrow as pa
import pyarrow.parquet
import pytest
import zstandard

from flash.corpus.records import Reject
from flash.errors import InputError
from flash.tasks.rows import Row, read_rows

ROWS = [{"text": "今天，很好", "label": "1"}, {"text": 'a "b"\tc', "label": "0"}, {"text": "两行\n一格", "label": "1"}]


def write(path, rows):
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    match path.name.split(".", 1)[1]:
        case "json" | "jsonl":
            path.write_text(lines, encoding="utf-8")
        case "json.gz":
            path.write_bytes(gzip.compress(lines.encode()))
        case "jsonl.zst":
            path.write_bytes(zstandard.compress(lines.encode()))
        case "csv":
            with path.open("w", encoding="utf-8-sig", newline="") as out:
                writer = csv.DictWriter(out, ["text", "label"])
                writer.writeheader()
                writer.writerows(rows)
        case "parquet":
            pa.parquet.write_table(pa.Table.from_pylist(rows), path)


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.json.gz", "a.jsonl.zst", "a.csv", "a.parquet"])
def test_every_form_gives_the_same_rows(name, tmp_path):
    write(tmp_path / name, ROWS)
    assert [row.values for row in read_rows(tmp_path / name)] == ROWS


def test_a_quotation_mark_in_tsv_is_a_character(tmp_path):
    (tmp_path / "a.tsv").write_text('text\tlabel\n他说"好\t1\n', encoding="utf-8")
    assert [row.values for row in read_rows(tmp_path / "a.tsv")] == [{"text": '他说"好', "label": "1"}]


@pytest.mark.parametrize("indent", [None, 2])
def test_one_json_document_is_read_as_the_rows_it_lists(indent, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(ROWS, indent=indent), encoding="utf-8")
    assert [row.values for row in read_rows(tmp_path / "a.json")] == ROWS


def test_a_document_over_many_lines_is_one_row(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"data": [1, 2]}, indent=1), encoding="utf-8")
    assert [row.values for row in read_rows(tmp_path / "a.json")] == [{"data": [1, 2]}]


@pytest.mark.parametrize("broken", ['{"text": "x"', "nonsense", "[1, 2", '"text"', '{"text": "\udcff"}'])
@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_broken_line_is_told_with_its_number_and_the_others_are_kept(broken, place, tmp_path):
    lines = [json.dumps(row) for row in ROWS]
    lines.insert(place, broken)
    (tmp_path / "a.json").write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    found = list(read_rows(tmp_path / "a.json"))
    (reject,) = [row for row in found if isinstance(row, Reject)]
    assert (reject.reason, reject.line) == ("broken_line", place + 1)
    assert [row.values for row in found if not isinstance(row, Reject)] == ROWS


def test_a_row_of_another_width_is_told(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nx,1\ny\nz,0,0\nw,1\n", encoding="utf-8")
    found = list(read_rows(tmp_path / "a.csv"))
    assert [row.line for row in found if isinstance(row, Reject)] == [3, 4]
    assert [row.values["text"] for row in found if not isinstance(row, Reject)] == ["x", "w"]


def test_a_quotation_mark_that_is_not_closed_costs_its_line_alone(tmp_path):
    lines = ["text,label", *(f"文本{number},1" for number in range(3000))]
    lines[2001] = '他说"好,1'  # within a cell it is a character
    lines[2002] = '"他说好,1'
    lines[2003] = '"两行'
    lines[2004] = '一格",1'
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = list(read_rows(tmp_path / "a.csv"))
    assert [row.line for row in found if isinstance(row, Reject)] == [2003]
    kept = [row.values["text"] for row in found if not isinstance(row, Reject)]
    untouched = [f"文本{number}" for number in range(3000)]
    assert kept == [*untouched[:2000], '他说"好', "两行\n一格", *untouched[2004:]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"", "is empty"),
        ("a.json", b"\n \n", "is empty"),
        ("a.csv", b"\xef\xbb\xbf", "is empty"),
        ("a.txt", b"x", "ends in .json"),
        ("a.csv", "文本,标签\n好,1\n".encode("gb18030"), "a.csv:1 is not UTF-8"),
        ("a.csv", b"text,label,label\nx,1,2\n", "has 2 columns 'label'"),
        ("a.tsv", b"text\tlabel\ttext \nx\t1\t2\n", "has 2 columns 'text'"),
        ("a.csv", b"text;label\nx, y;1\n", r"single column, 'text;label'; divide the columns of a \.csv by commas"),
        ("a.tsv", b"text,label\nx,1\n", r"single column, 'text,label'; .* those of a \.tsv by tabs"),
        ("a.parquet", b"no parquet", "is no Parquet file"),
        ("a.json.gz", b"no gzip", "cannot be read"),
        ("a.json.xz", b"no xz", "cannot be read"),
        ("a.json.zst", b"no zstd", "cannot be read"),
    ],
)
def test_a_file_that_is_nothing_of_the_kind_is_refused(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(read_rows(tmp_path / name))


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [
        ("gz", gzip.compress),
        ("bz2", bz2.compress),
        ("xz", lzma.compress),
        ("zst", zstandard.ZstdCompressor(write_checksum=True).compress),
    ],
)
def test_a_compressed_file_is_read_in_whole_or_refused(suffix, compress, tmp_path):
    path = tmp_path / f"a.jsonl.{suffix}"
    lines = [json.dumps({"number": number, "text": f"{number**5:x}"}) + "\n" for number in range(40_000)]
    content = compress("".join(lines[:30_000]).encode()) + compress("".join(lines[30_000:]).encode())
    path.write_bytes(content)
    assert sum(isinstance(row, Row) for row in read_rows(path)) == 40_000
    damaged = bytearray(content)
    damaged[len(content) // 2 : len(content) // 2 + 40] = b"\xff" * 40
    for other in (content[: len(content) // 2], bytes(damaged)):
        path.write_bytes(other)
        with pytest.raises(InputError, match="cannot be read"):
            list(read_rows(path))


@pytest.mark.parametrize("separator", [",", "\t"])
def test_in_a_table_bytes_that_are_not_utf8_cost_their_line(separator, tmp_path):
    lines = [f"文本{number}{separator}1\n".encode() for number in range(5)]
    lines[2] = f"文本{separator}1\n".encode("gb18030")
    path = tmp_path / ("a.csv" if separator == "," else "a.tsv")
    path.write_bytes(f"text{separator} label\n".encode() + b"".join(lines))
    found = list(read_rows(path))
    (reject,) = [row for row in found if isinstance(row, Reject)]
    assert (reject.reason, reject.line, reject.detail) == (
        "broken_line",
        4,
        "this line is not UTF-8; save the file as UTF-8",
    )
    good = [row.values for row in found if isinstance(row, Row)]
    assert good == [{"text": f"文本{number}", "label": "1"} for number in (0, 1, 3, 4)]


def test_in_parquet_a_text_that_is_not_utf8_costs_its_row(tmp_path):
    offsets, data = b"".join(place.to_bytes(4, "little") for place in (0, 1, 2, 3)), b"a\xffb"
    texts = pa.Array.from_buffers(pa.string(), 3, [None, pa.py_buffer(offsets), pa.py_buffer(data)])
    pa.parquet.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    first, second, third = read_rows(tmp_path / "a.parquet")
    assert (first, third) == (Row(1, {"text": "a"}), Row(3, {"text": "b"}))
    assert isinstance(second, Reject)
    assert (second.reason, second.line) == ("broken_line", 2)


def test_parquet_that_is_damaged_or_has_two_columns_of_a_name_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    pa.parquet.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["label", "label"]), path)
    with pytest.raises(InputError, match="has 2 columns 'label'"):
        list(read_rows(path))
    pa.parquet.write_table(pa.table({"text": ["a" * 1000] * 1000}), path)
    content = bytearray(path.read_bytes())
    content[10:60] = b"\xff" * 50
    path.write_bytes(content)
    with pytest.raises(InputError, match="or a damaged one"):
        list(read_rows(path))


@pytest.mark.parametrize("name", ["train", "train.json"])
def test_a_folder_in_the_place_of_a_file_is_named(name, tmp_path):
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=f"{name} is a folder; name the file in it"):
        list(read_rows(tmp_path / name))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.json: no such file"):
        list(read_rows(tmp_path / "nowhere.json"))
