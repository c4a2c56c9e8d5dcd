import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from texts import mixed_text
from vocabularies import tokenizers_by_kind

from flash.corpus.clean import clean_text
from flash.corpus.token_spans import SpanEncoder

TOKENIZERS = tokenizers_by_kind()
# of the others nothing is known, so a long text is estimated
EXACT_KINDS = [
    "bert uncased",
    "bert cased",
    "bert accents kept",
    "bert han not isolated",
    "no normalizer",
    "added tokens",
]


def offsets(spans):
    return list(zip(spans.starts.tolist(), spans.ends.tolist(), strict=True))


@pytest.mark.parametrize("kind", EXACT_KINDS)
@settings(deadline=None, max_examples=200)
@given(mixed_text.map(clean_text))
def test_tokens_are_those_of_the_tokenizer(kind, text):
    spans = SpanEncoder(TOKENIZERS[kind].to_str()).encode_document(text)
    expected = TOKENIZERS[kind].encode(text, add_special_tokens=False)
    assert spans.ids.tolist() == expected.ids
    assert offsets(spans) == expected.offsets


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(deadline=None, max_examples=40)
@given(st.lists(mixed_text.map(clean_text), max_size=5))
def test_texts_encoded_together_have_the_tokens_they_have_apart(kind, texts):
    encoder = SpanEncoder(TOKENIZERS[kind].to_str())
    for together, text in zip(encoder.encode_documents(texts), texts, strict=True):
        apart = encoder.encode_document(text)
        assert [part.tolist() for part in together] == [part.tolist() for part in apart]


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(deadline=None, max_examples=60)
@given(mixed_text.map(clean_text))
def test_text_cut_at_a_seam_has_the_same_tokens(kind, text):
    encoder = SpanEncoder(TOKENIZERS[kind].to_str())
    whole = offsets(encoder.encode(text))
    for cut in range(len(text) + 1):
        if encoder.is_seam(text, cut):
            second = [(start + cut, end + cut) for start, end in offsets(encoder.encode(text[cut:]))]
            assert offsets(encoder.encode(text[:cut])) + second == whole


def test_a_bert_tokenizer_is_asked_only_once_about_what_stands_between_seams(monkeypatch):
    encoder = SpanEncoder(TOKENIZERS["bert uncased"].to_str())
    asked = []
    encode = encoder._tokenizer.encode

    class Observed:
        def encode(self, text, **options):
            asked.append(text)
            return encode(text, **options)

    monkeypatch.setattr(encoder, "_tokenizer", Observed())
    encoder.encode_document("今天，hello world。我们在2023年去公园玩！hello")
    assert asked == ["hello", "world", "2023"]


@pytest.mark.parametrize("kind", ["nfkc", "whitespace", "byte level", "metaspace", "characters"])
def test_unknown_tokenizer_has_no_seam_within_a_text(kind):
    encoder = SpanEncoder(TOKENIZERS[kind].to_str())
    assert not any(encoder.is_seam("今天，天气", cut) for cut in range(1, 5))


def test_added_token_is_never_cut():
    encoder = SpanEncoder(TOKENIZERS["added tokens"].to_str())
    assert not encoder.is_seam("今。天气", 2)
    assert not encoder.is_seam("在北京的", 2)
    assert encoder.is_seam("在公园的", 2)


def test_padding_and_truncation_are_off():
    tokenizer = tokenizers_by_kind()["bert uncased"]
    tokenizer.enable_padding(length=20)
    tokenizer.enable_truncation(3)
    assert len(SpanEncoder(tokenizer.to_str()).encode("今天的天气").starts) == 5
