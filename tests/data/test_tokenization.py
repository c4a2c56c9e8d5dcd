import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash.corpus.tokenizer_loading import load_tokenizer
from flash.data.tokenization import tokenize_rows

from helpers import few_examples
from toy_pretraining import SENTENCES

texts = st.lists(st.sampled_from([*SENTENCES, "world", "未知的龘字", " "]), min_size=1, max_size=6).map("".join)


@pytest.fixture(scope="module")
def tokenizer(toy_vocabulary):
    return load_tokenizer(toy_vocabulary)


def tokenize(tokenizer, text, references, *, max_length=64, mark_word_pieces=False):
    return tokenize_rows(
        {"text": [text], "chinese_ref": [references]},
        [0],
        tokenizer=tokenizer,
        max_length=max_length,
        mark_word_pieces=mark_word_pieces,
    )


def token_ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def join_pieces(columns):
    """Put the pieces of a row together again: all ids, and for each whether it continues a word."""
    ids, continues = [], []
    for piece, positions in zip(columns["input_ids"], columns["continuations"], strict=True):
        flags = np.zeros(len(piece), dtype=bool)
        flags[positions] = True
        assert not flags[0]
        assert not flags[-1]
        ids += piece[1:-1].tolist()
        continues += flags[1:-1].tolist()
    return ids, continues


def test_references_count_cls_and_so_do_continuations(tokenizer):
    columns = tokenize(tokenizer, "今天的天气", [2, 5])
    assert columns["input_ids"][0].tolist() == tokenizer("今天的天气")["input_ids"]
    assert columns["continuations"][0].tolist() == [2, 5]


@few_examples
@given(texts, st.integers(3, 40), st.randoms(use_true_random=False))
def test_no_token_is_lost_and_references_follow(tokenizer, text, max_length, random):
    ids = token_ids(tokenizer, text)
    flags = [index > 0 and random.random() < 0.5 for index in range(len(ids))]
    references = [index + 1 for index, flag in enumerate(flags) if flag]
    columns = tokenize(tokenizer, text, references, max_length=max_length)
    joined_ids, joined_flags = join_pieces(columns)
    assert joined_ids == ids
    starts = np.cumsum([0] + [len(piece) - 2 for piece in columns["input_ids"]])[:-1]
    for index, (before, after) in enumerate(zip(flags, joined_flags, strict=True)):
        assert after == (before and index not in starts)
        # a piece may begin within a word only if that word fills the piece before
        if before and index in starts:
            assert all(flags[index - (max_length - 2) + 1 : index])
    assert all(3 <= len(piece) <= max_length for piece in columns["input_ids"])
    assert columns["row"] == [0] * len(columns["input_ids"])
    for piece in columns["input_ids"]:
        assert (piece[0], piece[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)


def test_a_long_row_is_cut_before_the_word_that_does_not_fit(tokenizer):
    # 今天 | 的 | 天气 | 很 | 好: room for four tokens is filled with 今天的, because 天气 stays whole
    columns = tokenize(tokenizer, "今天的天气很好", [2, 5], max_length=6)
    pieces = [tokenizer.convert_ids_to_tokens(piece.tolist())[1:-1] for piece in columns["input_ids"]]
    assert pieces == [list("今天的"), list("天气很好")]
    assert [positions.tolist() for positions in columns["continuations"]] == [[2], [2]]


def test_a_row_that_just_fits_is_not_cut(tokenizer):
    assert len(tokenize(tokenizer, "今天的天气很好", [2, 5], max_length=9)["input_ids"]) == 1
    assert len(tokenize(tokenizer, "今天的天气很好", [2, 5], max_length=8)["input_ids"]) == 2


def test_a_word_longer_than_a_row_is_cut_within(tokenizer):
    columns = tokenize(tokenizer, "今天的天气很好", [2, 3, 4, 5, 6, 7], max_length=5)
    assert [len(piece) - 2 for piece in columns["input_ids"]] == [3, 3, 1]
    assert [positions.tolist() for positions in columns["continuations"]] == [[2, 3], [2, 3], []]


def test_the_first_token_of_a_text_continues_nothing(tokenizer):
    assert tokenize(tokenizer, "今天", [1, 2])["continuations"][0].tolist() == [2]


@pytest.mark.parametrize(("mark_word_pieces", "continuations"), [(True, [3, 5]), (False, [5])])
def test_word_pieces_continue_their_word_where_the_references_mark_only_chinese(
    tokenizer, mark_word_pieces, continuations
):
    columns = tokenize(tokenizer, "hello world 今天", [5], mark_word_pieces=mark_word_pieces)
    tokens = tokenizer.convert_ids_to_tokens(columns["input_ids"][0].tolist())
    assert tokens == ["[CLS]", "hello", "wor", "##ld", "今", "天", "[SEP]"]
    assert columns["continuations"][0].tolist() == continuations


@pytest.mark.parametrize("references", [[6], [2, 100], [0], [-1], None])
def test_a_row_with_references_outside_its_text_comes_back_empty_and_the_others_whole(tokenizer, references):
    columns = tokenize_rows(
        {"text": ["今天", "今天的天气", "天气很好"], "chinese_ref": [[2], references, [2]]},
        [10, 11, 12],
        tokenizer=tokenizer,
        max_length=64,
        mark_word_pieces=False,
    )
    assert columns["row"] == [10, 11, 12]
    assert [len(ids) for ids in columns["input_ids"]] == [4, 0, 6]
    assert [positions.tolist() for positions in columns["continuations"]] == [[2], [], [2]]


def test_an_empty_text_gives_no_row(tokenizer):
    columns = tokenize_rows(
        {"text": ["", None, "今天"], "chinese_ref": [[], [], [2]]},
        [0, 1, 2],
        tokenizer=tokenizer,
        max_length=64,
        mark_word_pieces=False,
    )
    assert columns["row"] == [2]
