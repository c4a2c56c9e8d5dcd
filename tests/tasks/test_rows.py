"""Files of every form give the same rows, and a broken line costs itself alone."""

import csv
import gzip
import json

import pyarrow as pa
import pyarrow.parquet
import pytest
import zstandard

from flash.corpus.records import Reject
from flash.errors import InputError
from flash.tasks.rows import read_rows

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
        ("a.parquet", b"no parquet", "is no Parquet file"),
        ("a.json.gz", b"no gzip", "cannot be read"),
    ],
)
def test_a_file_that_is_nothing_of_the_kind_is_refused(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(read_rows(tmp_path / name))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.json: no such file"):
        list(read_rows(tmp_path / "nowhere.json"))
