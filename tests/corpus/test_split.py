import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from texts import mixed_text
from vocabularies import ORDINARY_TEXT, tokenizers_by_kind

from flash.corpus.clean import clean_text
from flash.corpus.segment import RjiebaSegmenter
from flash.corpus.sentences import splits_cluster
from flash.corpus.split import BlockSplitter
from flash.corpus.token_spans import SpanEncoder

ENCODERS = {name: SpanEncoder(tokenizer.to_str()) for name, tokenizer in tokenizers_by_kind().items()}
SEGMENTER = RjiebaSegmenter()


def split(text, *, kind="bert uncased", max_tokens=20, min_chars=1):
    splitter = BlockSplitter(ENCODERS[kind], SEGMENTER, max_tokens, min_chars)
    return [block for block, _ in splitter.split(text)]


@pytest.mark.parametrize("kind", ENCODERS)
@settings(deadline=None, max_examples=60)
@given(text=mixed_text.map(clean_text), max_tokens=st.integers(4, 40), min_chars=st.integers(1, 12))
def test_blocks_joined_give_the_text_back_and_fit(kind, text, max_tokens, min_chars):
    encoder = ENCODERS[kind]
    splitter = BlockSplitter(encoder, SEGMENTER, max_tokens, min_chars)
    blocks = list(splitter.split(text))
    assert "".join(block for block, _ in blocks) == text
    for block, spans in blocks:
        alone = encoder.encode(block)
        assert spans.starts.tolist() == alone.starts.tolist()
        assert spans.ends.tolist() == alone.ends.tolist()
        assert len(spans.starts) <= max_tokens or len(block) == 1


@pytest.mark.parametrize("kind", ENCODERS)
def test_long_text_that_fits_has_the_tokens_that_it_has_alone(kind):
    text = (ORDINARY_TEXT * 60)[2:9001]
    ((block, spans),) = BlockSplitter(ENCODERS[kind], SEGMENTER, 10**6, 1).split(text)
    assert block == text
    assert [part.tolist() for part in spans] == [part.tolist() for part in ENCODERS[kind].encode(text)]


def test_text_that_fits_is_one_block():
    assert split("今天的天气很好。我们去公园玩。") == ["今天的天气很好。我们去公园玩。"]


def test_cut_is_at_the_last_sentence_end_that_fits():
    assert split("今天的天气很好。我们去公园玩。小明说你好！然后大家一起回家吃饭。", max_tokens=20) == [
        "今天的天气很好。我们去公园玩。",
        "小明说你好！然后大家一起回家吃饭。",
    ]


def test_closing_quote_stays_with_its_sentence():
    assert split("他说：“今天天气很好。”我们一起去公园玩吧。", max_tokens=13) == [
        "他说：“今天天气很好。”",
        "我们一起去公园玩吧。",
    ]


def test_decimal_point_ends_no_sentence():
    blocks = split("圆周率是3.14159，这个数字我们大家今天都要记住。", max_tokens=9)
    assert not any(block.endswith("3.") for block in blocks)


def test_sentence_that_does_not_fit_is_cut_at_a_clause():
    assert split("今天的天气很好，我们大家一起去公园玩", max_tokens=12) == ["今天的天气很好，", "我们大家一起去公园玩"]


def test_clause_that_does_not_fit_is_cut_between_words():
    assert split("我们一起去图书馆学习人工智能", max_tokens=7) == ["我们一起去", "图书馆学习", "人工智能"]


def test_latin_word_is_kept_whole():
    assert split("we like weather today", max_tokens=8) == ["we like weather ", "today"]


def test_character_keeps_its_marks():
    text = "👨\u200d👩\u200d👧" * 10 + "e\u0301" * 30
    for kind in ENCODERS:
        cuts, position = [], 0
        for block in split(text, kind=kind, max_tokens=24):
            position += len(block)
            cuts.append(position)
        assert not any(splits_cluster(text, cut) for cut in cuts), kind


def test_word_longer_than_the_tokenizer_takes_makes_no_endless_block():
    blocks = split("A" * 10_000, max_tokens=20)
    assert "".join(blocks) == "A" * 10_000
    assert max(map(len, blocks)) <= 160


@pytest.mark.parametrize("length", range(21, 60))
def test_no_piece_shorter_than_the_least_is_left(length):
    text = "今天的天气很好，我们去公园玩。" * 5
    blocks = split(text[:length], max_tokens=20, min_chars=10)
    assert min(map(len, blocks)) >= 10
    assert "".join(blocks) == text[:length]
