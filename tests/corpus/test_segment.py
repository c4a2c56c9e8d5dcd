import pytest
import rjieba
from hypothesis import given
from texts import mixed_text

from flash.corpus.clean import clean_text
from flash.corpus.segment import RjiebaSegmenter


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
