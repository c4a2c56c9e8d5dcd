from dataclasses import replace

import pytest

from flash.benchmarking.records import Timing
from flash.benchmarking.result_file import ResultFile
from flash.errors import InputError

from measured import CONDITIONS, memory, padding, timing, without_numbers


@pytest.fixture
def file(tmp_path):
    return ResultFile(tmp_path / "folder" / "times.csv", Timing)


@pytest.mark.parametrize("rows", [[timing()], [memory()], [padding()]], ids=["timing", "memory", "padding"])
def test_rows_are_read_as_they_were_written(tmp_path, rows):
    file = ResultFile(tmp_path / "rows.csv", type(rows[0]))
    file.append(rows)
    assert file.read() == rows


def test_rows_are_added_behind_those_of_before(file):
    rows = [timing(), without_numbers("bert", "too slow", note='4 steps, of "9 s"; the budget'), timing("flash")]
    file.append(rows[:1])
    file.append(rows[1:])
    assert file.read() == rows
    assert file.path.read_text(encoding="utf-8").count("contestant") == 1


def test_no_file_is_no_row(file):
    assert file.read() == []


def test_the_columns_that_people_read_hold_median_and_quartiles(file):
    file.append([timing("flash", seconds=(1.0, 2.0, 0.5), base=(2.0, 2.0, 2.0))])
    header, cells = (line.split(",") for line in file.path.read_text(encoding="utf-8").splitlines())
    row = dict(zip(header, cells, strict=True))
    assert [row[f"tokens_per_second_{name}"] for name in ("least", "q25", "median", "q75", "most")] == [
        "64",
        "96",
        "128",
        "192",
        "256",
    ]
    assert [row[f"ratio_{name}"] for name in ("least", "median", "most")] == ["1", "2", "4"]
    # 1000 operations a step of 1 s, against 2000 a second
    assert (row["flops_per_second"], row["share_of_product_rate"]) == ("1000", "0.5")


def test_a_line_cut_off_by_a_kill_is_left_out_and_the_file_goes_on(file):
    file.append([timing(), timing("flash")])
    text = file.path.read_text(encoding="utf-8")
    file.path.write_text(text[:-30], encoding="utf-8")
    assert file.read() == [timing()]
    file.append([timing("bert")])
    assert file.read() == [timing(), timing("bert")]


@pytest.mark.parametrize(
    ("name", "value"),
    [("threads", 4), ("size", "small"), ("rounds", 5), ("torch", "2.1"), ("baseline", "bert"), ("variables", "A=1")],
)
def test_rows_of_other_conditions_are_refused(file, name, value):
    file.append([timing()])
    with pytest.raises(
        InputError, match=rf"times\.csv was measured with {name} .*, this run has {value}: name another"
    ):
        file.read_matching(replace(CONDITIONS, **{name: value}))
    assert file.read_matching(CONDITIONS) == [timing()]


def test_another_csv_is_refused(file):
    file.path.parent.mkdir()
    file.path.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 1: the columns are not those of"):
        file.read()


def test_what_is_no_text_is_refused(file):
    file.path.parent.mkdir()
    file.path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"times\.csv: no text in UTF-8"):
        file.read()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (",64,", ",many,"),
        ("1 2 4", "1 two 4"),
        ("1 2 4", "1 0 4"),
        ("1 2 4", "1 nan 4"),
        ("1 2 4", ""),
        (",ok,", ",failed,"),
        (",abc,", ","),
    ],
)
def test_a_line_changed_by_hand_is_named(file, old, new):
    file.append([timing()])
    text = file.path.read_text(encoding="utf-8")
    assert old in text
    file.path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError, match="line 2: no row of"):
        file.read()
