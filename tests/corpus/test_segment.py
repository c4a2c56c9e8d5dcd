import hashlib
import sys

import pytest
import rjieba
from hypothesis import given
from texts import mixed_text

from flash.corpus.clean import clean_text
from flash.corpus.segment import RjiebaSegmenter, SegmenterChoice, load_segmenter, segmenter_description
from flash.corpus.user_dictionary import read_user_dictionary
from flash.errors import InputError


@given(mixed_text.map(clean_text))
def test_words_are_rjiebas_own_and_give_the_text_back(text):
    words = RjiebaSegmenter().cut(text)
    assert words == rjieba.cut(text)
    assert "".join(words) == text


def test_segmenter_that_changes_the_text_is_noticed(monkeypatch):
    monkeypatch.setattr(rjieba, "cut", lambda text: ["别的"])
    with pytest.raises(RuntimeError, match="changed the text"):
        RjiebaSegmenter().cut("今天")


def test_name_and_version_are_those_of_the_library():
    segmenter = RjiebaSegmenter()
    assert segmenter.name == "rjieba"
    assert segmenter.version.count(".") == 2


def dictionary(tmp_path, text):
    path = tmp_path / "words.txt"
    path.write_text(text, encoding="utf-8")
    return read_user_dictionary(path)


def test_words_of_a_user_dictionary_are_cut_as_one_and_only_there(tmp_path):
    text = "我爱苹果派对吧云计算平台"
    words = dictionary(tmp_path, "苹果派对 1000 n\n\n云计算平台\n")
    assert RjiebaSegmenter(words).cut(text) == ["我", "爱", "苹果派对", "吧", "云计算平台"]
    assert "苹果派对" not in RjiebaSegmenter().cut(text)


def test_dictionary_is_described_by_name_size_and_content(tmp_path):
    choice = SegmenterChoice("rjieba", dictionary(tmp_path, "苹果派对\n云计算平台 5\n计算 n\n"))
    described = segmenter_description(choice)["user_dictionary"]
    assert described["name"] == str(tmp_path / "words.txt")
    assert described["words"] == 3
    assert described["sha256"] == hashlib.sha256((tmp_path / "words.txt").read_bytes()).hexdigest()
    assert choice.user_dictionary.entries[1:] == (("云计算平台", 5, None), ("计算", None, "n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("苹果派对 许多 n\n", r"words\.txt:1: '苹果派对 许多 n' is no entry"),
        ("苹果\n苹果 1 2 n\n", r"words\.txt:2: .* is no entry"),
        ("\n", "holds no words"),
        (f"苹果 {10**30} n\n", r"words\.txt:1: a frequency has at most 12 digits, this one 31"),
        (b"\xff\xfe", "is not in UTF-8"),
        (None, "cannot be read: No such file"),
    ],
)
def test_wrong_dictionary_is_refused_by_line(tmp_path, text, message):
    path = tmp_path / "words.txt"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message):
        read_user_dictionary(path)


@given(mixed_text.map(clean_text))
def test_white_space_parts_words_and_stays(text):
    words = load_segmenter(SegmenterChoice("whitespace")).cut(text)
    assert "".join(words) == text
    assert [word for word in words if not word.isspace()] == text.split()


def test_function_of_the_users_cuts(tmp_path, monkeypatch):
    module = (
        "import re\n__version__ = '7'\ncut = re.compile('..?').findall\ndef bad(text): return [text[1:]]\nvalue = 3\n"
    )
    (tmp_path / "my_cuts.py").write_text(module, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    segmenter = load_segmenter(SegmenterChoice("my_cuts:cut"))
    assert segmenter.cut("今天的天气很") == ["今天", "的天", "气很"]
    assert (segmenter.name, segmenter.version) == ("my_cuts:cut", "7")
    with pytest.raises(InputError, match=r"my_cuts:bad changed the text it was to cut, '今天'"):
        load_segmenter(SegmenterChoice("my_cuts:bad")).cut("今天")
    with pytest.raises(InputError, match="my_cuts:value is no function"):
        load_segmenter(SegmenterChoice("my_cuts:value"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:cut", "no_such_module:cut cannot be imported: ModuleNotFoundError: No module named"),
        ("json:no_such_function", "cannot be imported: AttributeError: module 'json' has no attribute"),
        (":cut", "cannot be imported"),
        ("..:cut", "cannot be imported"),
        ("hanlp", "there is no segmenter 'hanlp': name rjieba, jieba, whitespace"),
    ],
)
def test_segmenter_that_is_not_there_is_refused(name, message):
    with pytest.raises(InputError, match=message):
        load_segmenter(SegmenterChoice(name))


def test_whatever_a_function_of_the_users_does_is_said_with_its_name(tmp_path, monkeypatch):
    module = "def fails(text): raise KeyError(3)\ndef nothing(text): return None\ndef numbers(text): return [1]\n"
    (tmp_path / "my_faults.py").write_text(module, encoding="utf-8")
    (tmp_path / "my_syntax.py").write_text("def\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for name, error in (
        ("fails", "KeyError: 3"),
        ("nothing", "TypeError: .*iterable"),
        ("numbers", "TypeError: .*str"),
    ):
        segmenter = load_segmenter(SegmenterChoice(f"my_faults:{name}"))
        with pytest.raises(InputError, match=f"my_faults:{name} failed at '今天': {error}"):
            segmenter.cut("今天")
    with pytest.raises(InputError, match="my_syntax:cut cannot be imported: SyntaxError"):
        load_segmenter(SegmenterChoice("my_syntax:cut"))


def test_function_that_was_changed_has_another_version(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    versions = []
    for module in ("cut = list\n", "cut = str.split\n"):
        (tmp_path / "my_versions.py").write_text(module, encoding="utf-8")
        versions.append(load_segmenter(SegmenterChoice("my_versions:cut")).version)
        assert versions[-1] == hashlib.sha256(module.encode()).hexdigest()
    assert load_segmenter(SegmenterChoice("builtins:list")).version == "unknown"


def test_segmenter_that_takes_no_dictionary_says_so(tmp_path):
    with pytest.raises(InputError, match="whitespace takes no user dictionary"):
        load_segmenter(SegmenterChoice("whitespace", dictionary(tmp_path, "苹果\n")))


def test_jieba_is_asked_for_by_name_and_told_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "jieba", None)
    with pytest.raises(InputError, match="jieba is not installed: pip install jieba"):
        load_segmenter(SegmenterChoice("jieba"))


def test_jieba_cuts_with_its_own_dictionary_and_the_users(tmp_path):
    jieba = pytest.importorskip("jieba", reason="needs pip install jieba")
    words = dictionary(tmp_path, "苹果派对 1000 n\n")
    assert load_segmenter(SegmenterChoice("jieba")).cut("今天的天气很好") == list(jieba.cut("今天的天气很好"))
    assert "苹果派对" in load_segmenter(SegmenterChoice("jieba", words)).cut("我爱苹果派对")
