from bisect import bisect_right
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given, settings
from texts import mixed_text
from vocabularies import tokenizers_by_kind

from flash.corpus.clean import clean_text
from flash.corpus.records import TokenSpans
from flash.corpus.segment import RjiebaSegmenter
from flash.corpus.token_spans import SpanEncoder
from flash.corpus.word_refs import continuation_marks

TOKENIZERS = tokenizers_by_kind()


def positions(words, offsets):
    starts = np.array([start for start, _ in offsets], dtype=np.int32)
    ends = np.array([end for _, end in offsets], dtype=np.int32)
    (marks,) = continuation_marks([words], [TokenSpans(np.zeros_like(starts), starts, ends)])
    return (np.flatnonzero(marks) + 1).tolist()


def test_characters_of_a_word_continue_it_and_cls_is_counted():
    assert positions(["今天", "的", "天气"], [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]) == [2, 5]


def test_word_pieces_continue_a_latin_word():
    assert positions(["hello", " ", "world"], [(0, 3), (3, 5), (6, 9), (9, 11)]) == [2, 4]


def test_token_over_a_cut_counts_by_where_it_begins():
    # one [UNK] for both words: the second has no token of its own
    assert positions(["生僻", "字"], [(0, 3)]) == []
    # the token over the cut begins inside the first word; what follows it is inside the second
    assert positions(["今天", "天气"], [(0, 1), (1, 3), (3, 4)]) == [2, 3]


def test_word_whose_first_character_gives_no_token_begins_with_the_next():
    # private-use characters and joiners, which BERT's normalizer drops
    assert positions(["今天", " ", "\ue5d2天气", "\u200d好"], [(0, 1), (1, 2), (4, 5), (5, 6), (7, 8)]) == [2, 4]
    assert positions(["\ue5d2天气"], [(1, 2), (2, 3)]) == [2]


def test_several_tokens_of_one_character_are_one_word_at_most():
    assert positions(["龘", "好"], [(0, 1), (0, 1), (0, 1), (1, 2)]) == [2, 3]
    assert positions(["龘龘"], [(0, 1), (0, 1), (1, 2), (1, 2)]) == [2, 3, 4]


def test_token_without_width_counts_by_its_place():
    assert positions(["今天", "好"], [(0, 0), (0, 1), (1, 1), (1, 2), (2, 2), (2, 3)]) == [3, 4]


def test_nothing_gives_nothing():
    assert positions([], []) == []


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(deadline=None, max_examples=60)
@given(mixed_text.map(clean_text))
def test_marks_stand_where_the_segmenter_did_not_cut(kind, text):
    words = RjiebaSegmenter().cut(text)
    word_begins = list(accumulate(map(len, words), initial=0))
    expected, previous_end = [], 0
    for position, (start, end) in enumerate(TOKENIZERS[kind].encode(text, add_special_tokens=False).offsets, start=1):
        if word_begins[bisect_right(word_begins, start) - 1] < previous_end:
            expected.append(position)
        previous_end = end
    spans = SpanEncoder(TOKENIZERS[kind].to_str()).encode(text)
    (marks,) = continuation_marks([words], [spans])
    assert (np.flatnonzero(marks) + 1).tolist() == expected
