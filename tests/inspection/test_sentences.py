import numpy as np
import pytest

from flash.corpus.documents import ReadingSettings
from flash.corpus.tokenizer_loading import load_tokenizer
from flash.errors import InputError
from flash.inspection.sentences import (
    MIN_SENTENCE_TOKENS,
    MaskedSentence,
    draw_sentences,
    place_alone,
    place_padded,
    place_within,
)
from flash.inspection.texts import PASSAGE_TOKENS, read_texts

from small_models import write_text


@pytest.fixture(scope="module")
def tokenizer(toy_vocabulary):
    return load_tokenizer(toy_vocabulary)


def texts_of(path, tokenizer, **changes):
    settings = {"max_length": 64, "rows": 5, "stream_tokens": 10**6, "seed": 3, "reading": ReadingSettings()}
    return read_texts([path], tokenizer, **(settings | changes))


@pytest.fixture(scope="module")
def texts(tokenizer, tmp_path_factory):
    return texts_of(write_text(tmp_path_factory.mktemp("text") / "text.txt"), tokenizer)


@pytest.fixture(scope="module")
def sentences(texts, tokenizer):
    return draw_sentences(texts, tokenizer, count=6, seed=1, inputs="text.txt")


def test_passages_joined_are_the_tokens_of_all_text(tokenizer, tmp_path):
    path = write_text(tmp_path / "text.txt", documents=4)
    texts = texts_of(path, tokenizer)
    documents = path.read_text(encoding="utf-8").split("\n\n")
    expected = [index for text in documents for index in tokenizer(text, add_special_tokens=False)["input_ids"]]
    assert texts.stream.tolist() == expected
    assert texts.documents == 4
    for passage in texts.passages:
        end = passage.start + len(passage.token_ids)
        assert len(passage.token_ids) <= PASSAGE_TOKENS
        assert texts.stream[passage.start : end].tolist() == passage.token_ids.tolist()
        assert passage.word_starts[0]


def test_rows_are_whole_blocks_between_cls_and_sep(texts, tokenizer):
    assert len(texts.rows) == 5
    for row in texts.rows:
        assert (row[0], row[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        assert len(row) <= 64


def test_the_seed_decides_the_rows(tokenizer, tmp_path):
    path = write_text(tmp_path / "text.txt")
    first, again, other = (texts_of(path, tokenizer, seed=seed) for seed in (1, 1, 2))
    assert [row.tolist() for row in first.rows] == [row.tolist() for row in again.rows]
    assert [row.tolist() for row in first.rows] != [row.tolist() for row in other.rows]


def test_no_more_is_read_than_needed(tokenizer, tmp_path):
    path = write_text(tmp_path / "text.txt", documents=40)
    texts = texts_of(path, tokenizer, rows=2, stream_tokens=300)
    assert 4 * 2 * 64 <= len(texts.stream) < 4 * 2 * 64 + 200
    assert texts.documents < 10


def test_json_lines_give_the_same_as_text(tokenizer, tmp_path):
    path = write_text(tmp_path / "text.txt", documents=3)
    lines = (f'{{"content": "{text}"}}' for text in path.read_text(encoding="utf-8").split("\n\n"))
    (tmp_path / "text.jsonl").write_text("\n".join(lines), encoding="utf-8")
    read = texts_of(tmp_path / "text.jsonl", tokenizer, reading=ReadingSettings(json_key="content"))
    assert read.stream.tolist() == texts_of(path, tokenizer).stream.tolist()


def test_a_file_without_text_is_refused(tokenizer, tmp_path):
    (tmp_path / "empty.txt").write_text("\n\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"no usable text in .*empty.txt: 1 empty_file"):
        texts_of(tmp_path / "empty.txt", tokenizer)


def test_text_in_blocks_that_are_too_short_is_refused_with_the_reason(tokenizer, tmp_path):
    (tmp_path / "short.txt").write_text("今天很好\n\n天气很好", encoding="utf-8")
    with pytest.raises(InputError, match=r"no usable text in .*short.txt: 2 short_block; name files with more text"):
        texts_of(tmp_path / "short.txt", tokenizer)


def test_every_sentence_has_something_to_score_and_no_special_token_in_its_text(sentences, texts, tokenizer):
    assert len({sentence.start for sentence in sentences}) == 6
    for sentence in sentences:
        original = texts.stream[sentence.start : sentence.start + len(sentence.labels)]
        scored = sentence.labels >= 0
        assert len(original) >= MIN_SENTENCE_TOKENS
        assert scored.any()
        assert not np.isin(original, tokenizer.all_special_ids).any()
        assert sentence.labels[scored].tolist() == original[scored].tolist()
        assert sentence.masked_ids[~scored].tolist() == original[~scored].tolist()


def test_text_in_short_sentences_only_is_refused(tokenizer, tmp_path):
    (tmp_path / "short.txt").write_text("\n\n".join(["今天的天气很好，我们"] * 5), encoding="utf-8")
    texts = texts_of(tmp_path / "short.txt", tokenizer)
    with pytest.raises(InputError, match=r"no sentence of at least 14 tokens without \[UNK\] in short.txt"):
        draw_sentences(texts, tokenizer, count=4, seed=0, inputs="short.txt")


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_stands_on_one_side_and_the_sentence_is_where_it_is_said_to_be(sentences, tokenizer, side):
    placed = place_padded(sentences, tokenizer, length=50, side=side)
    for row, (sentence, begin) in enumerate(zip(sentences, placed.begins, strict=True)):
        count = len(sentence.masked_ids)
        assert placed.input_ids[row, begin : begin + count].tolist() == sentence.masked_ids.tolist()
        assert placed.input_ids[row, begin - 1] == tokenizer.cls_token_id
        assert placed.attention_mask[row].sum() == count + 2
        assert placed.attention_mask[row, 0 if side == "right" else -1] == 1


def test_a_sentence_alone_has_no_padding(sentences, tokenizer):
    placed = place_alone(sentences[0], tokenizer)
    assert placed.attention_mask.all()
    assert placed.input_ids.shape == (1, len(sentences[0].masked_ids) + 2)


@pytest.mark.parametrize("length", [64, 65, 200])
def test_inside_other_text_the_sentence_is_in_the_middle_of_its_own(sentences, texts, tokenizer, length):
    placed = place_within(sentences, texts.stream, tokenizer, length=length)
    assert placed.input_ids.shape == (6, length)
    for row, (sentence, begin) in enumerate(zip(sentences, placed.begins, strict=True)):
        end = begin + len(sentence.masked_ids)
        assert abs(begin - (length - end)) <= 1
        assert placed.input_ids[row, begin:end].tolist() == sentence.masked_ids.tolist()
        following = [texts.stream[(sentence.start + end - begin + k) % len(texts.stream)] for k in range(10)]
        assert placed.input_ids[row, end : end + 10].tolist() == following


def test_behind_the_end_of_the_text_comes_its_beginning(tokenizer):
    stream = np.arange(10, 50)
    sentence = MaskedSentence(38, np.array([4, 49]), np.array([48, -100]))
    placed = place_within([sentence], stream, tokenizer, length=10)
    assert placed.input_ids[0, 1:-1].tolist() == [45, 46, 47, 4, 49, 10, 11, 12]
