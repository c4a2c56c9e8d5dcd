from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash.corpus.lines import Line, RawLine, UnsupportedTextError, check_encoding, read_lines, split_lines
from flash.corpus.records import Reject
from flash.errors import InputError


def read(data, *, chunk_bytes=1 << 20, encoding="utf-8", max_line_bytes=1 << 20):
    chunks = (data[i : i + chunk_bytes] for i in range(0, len(data), chunk_bytes))
    return list(read_lines(chunks, "some.txt", encoding, max_line_bytes))


@given(st.text(alphabet="ab\r\n").map(str.encode), st.integers(1, 5))
def test_lines_end_at_lf_crlf_and_lone_cr_wherever_a_chunk_ends(data, chunk_bytes):
    chunks = [data[i : i + chunk_bytes] for i in range(0, len(data), chunk_bytes)]
    begins = accumulate((len(line) for line in data.splitlines(keepends=True)), initial=0)
    lines = zip(data.splitlines(), begins, strict=False)
    expected = [RawLine(number, line, True, begin) for number, (line, begin) in enumerate(lines, start=1)]
    assert list(split_lines(chunks, max_line_bytes=100)) == expected


@given(st.text(alphabet="今天a\n", max_size=50), st.integers(1, 7), st.integers(1, 9))
def test_long_line_comes_in_pieces_that_give_it_back(text, chunk_bytes, max_line_bytes):
    lines = read(text.encode(), chunk_bytes=chunk_bytes, max_line_bytes=max_line_bytes)
    joined = "".join(line.text + "\n" * line.is_last_piece for line in lines)
    assert joined.removesuffix("\n") == text.removesuffix("\n")


def test_byte_order_mark_is_dropped():
    assert read("\ufeff今天\n天".encode()) == [Line(1, "今天", True, 3), Line(2, "天", True, 10)]
    assert read("今天".encode("utf-8-sig"), chunk_bytes=1)[0].text.endswith("今天")


@pytest.mark.parametrize("bad", [b"\xff", b"\x80", b"\xe4\xbb", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xc0\xaf"])
def test_line_with_invalid_bytes_is_left_out_alone(bad):
    lines = read("第一\n".encode() * 3 + b"x" + bad + "\n第三".encode())
    assert [line.text for line in lines if isinstance(line, Line)] == ["第一", "第一", "第一", "第三"]
    (reject,) = [line for line in lines if isinstance(line, Reject)]
    assert (reject.reason, reject.source, reject.line) == ("invalid_utf8", "some.txt", 4)
    assert bad[:1].hex() in reject.detail
    assert "pass --encoding" in reject.detail
    assert "iconv" in reject.detail


def test_only_the_bad_piece_of_a_long_line_is_left_out():
    data = "今".encode() * 400 + b"\xff" + "天".encode() * 400
    lines = read(data, chunk_bytes=100, max_line_bytes=100)
    texts = [line.text for line in lines if isinstance(line, Line)]
    assert sum(isinstance(line, Reject) for line in lines) == 1
    assert set("".join(texts)) == {"今", "天"}
    assert len("".join(texts)) > 700


def test_gbk_file_is_recognized_at_once():
    with pytest.raises(UnsupportedTextError, match=r"GBK.*--encoding gb18030"):
        read("今天的天气很好\nabc\n我们去公园玩".encode("gbk"))


def test_gbk_file_can_be_read():
    assert read("今天\n龘".encode("gb18030"), encoding="gb18030") == [Line(1, "今天", True, 0), Line(2, "龘", True, 5)]


def test_utf16_file_is_recognized():
    with pytest.raises(UnsupportedTextError, match=r"UTF-16.*iconv"):
        read("今天".encode("utf-16"))


def test_a_few_bad_lines_make_no_gbk_file():
    lines = read("今天天气\n".encode() * 3 + "今天天气\n".encode("gbk"))
    assert [isinstance(line, Reject) for line in lines] == [False, False, False, True]


@pytest.mark.parametrize(("given", "name"), [("UTF8", "utf-8"), ("utf-8-sig", "utf-8"), ("GBK", "gbk")])
def test_encodings_go_by_one_name(given, name):
    assert check_encoding(given) == name


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ("utf-99", "unknown encoding 'utf-99'"),
        ("utf-16", "iconv"),
        ("undefined", "unknown encoding 'undefined'"),
        ("rot13", "unknown encoding 'rot13'"),
    ],
)
def test_encoding_that_cannot_be_read_is_refused(encoding, message):
    with pytest.raises(InputError, match=message):
        check_encoding(encoding)
