import pytest
from hypothesis import given
from texts import mixed_text

from flash.corpus.clean import blank_run_end, clean_text


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("今天\n天气", "今天 天气"),
        ("a\r\n\r\nb\rc", "a b c"),
        ("第一\t第二\u3000第三\xa0第四", "第一 第二 第三 第四"),
        ("甲\u2028乙\u2029丙\x85丁\x0b戊\x0c己\x1c庚", "甲 乙 丙 丁 戊 己 庚"),
        ("北\x00京\ufeff大\ufffd学", "北京大学"),
        ("北\u200b京 \u202a大\u2060学\xad", "北京 大学"),
        ("a \x00 b", "a b"),
        ("好\ud83d的", "好的"),
        ("👨\u200d👩\u200d👧", "👨\u200d👩\u200d👧"),
        ("Ａ１㎏", "Ａ１㎏"),
        (" \n\t\u3000", ""),
    ],
)
def test_white_space_becomes_one_space_and_what_is_no_text_goes(raw, cleaned):
    assert clean_text(raw) == cleaned


@given(mixed_text)
def test_result_is_one_line_that_can_be_encoded(text):
    cleaned = clean_text(text)
    assert cleaned.splitlines() in ([], [cleaned])
    assert cleaned == cleaned.strip()
    assert "  " not in cleaned
    cleaned.encode("utf-8")


@given(mixed_text, mixed_text)
def test_parts_cleaned_alone_give_the_whole_where_the_seam_is_behind_the_white_space(first, second):
    text = first + "好" + second
    seam = blank_run_end(text, len(first) + 1, len(text))
    joined = clean_text(text[:seam], goes_on=True) + clean_text(text[seam:])
    assert joined.rstrip() == clean_text(text)


@given(mixed_text)
def test_cleaning_twice_changes_nothing_more(text):
    assert clean_text(clean_text(text)) == clean_text(text)
