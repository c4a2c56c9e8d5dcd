import pytest
import torch

from flash.corpus.documents import ReadingSettings
from flash.corpus.tokenizer_loading import load_tokenizer
from flash.inspection.lengths import (
    _compare,
    _Prediction,
    lengths_to_measure,
    measure_lengths,
    sentences_at,
    tokens_to_encode,
)
from flash.inspection.sentences import draw_sentences, place_alone
from flash.inspection.texts import read_texts

from helpers import FLOAT32, normal
from small_models import ARCHITECTURES, small_model, write_text


@pytest.fixture(scope="module")
def tokenizer(toy_vocabulary):
    return load_tokenizer(toy_vocabulary)


@pytest.fixture(scope="module")
def texts(tokenizer, tmp_path_factory):
    path = write_text(tmp_path_factory.mktemp("text") / "text.txt")
    return read_texts([path], tokenizer, max_length=64, rows=4, stream_tokens=10**6, seed=0, reading=ReadingSettings())


@pytest.fixture(scope="module")
def sentences(texts, tokenizer):
    return draw_sentences(texts, tokenizer, count=5, seed=0, inputs="text.txt")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_changes_no_prediction(architecture, sentences, texts, tokenizer):
    model = small_model(architecture)
    alone, *padded, within = measure_lengths(model, tokenizer, sentences, texts.stream, max_length=60, lengths=[128])
    assert [one.setting for one in padded] == ["padded_right", "padded_left"]
    for measures in padded:
        assert measures.loss == pytest.approx(alone.loss, rel=1e-6)
        assert measures.accuracy == alone.accuracy
        assert abs(measures.loss_change) < 1e-5
        assert measures.hidden_cosine.p10 > 1 - 1e-9
        assert abs(measures.kl_divergence) < 1e-9
    # and what other text around a sentence changes is not too little to be seen
    assert within.kl_divergence > 1e-3
    assert within.hidden_cosine.mean < 1 - 1e-3


def test_the_sentence_alone_is_what_the_model_says_of_it(sentences, texts, tokenizer):
    model = small_model("flash_quad")
    alone = measure_lengths(model, tokenizer, sentences, texts.stream, max_length=60, lengths=[])[0]
    losses, hits = [], []
    for sentence in sentences:
        labels = torch.from_numpy(sentence.labels)
        logits = model(input_ids=place_alone(sentence, tokenizer).input_ids).logits[0, 1:-1]
        losses.append(torch.nn.functional.cross_entropy(logits, labels, reduction="none")[labels >= 0])
        hits.append((logits.argmax(dim=-1) == labels)[labels >= 0])
    assert alone.loss == pytest.approx(torch.cat(losses).mean().item(), rel=1e-5)
    assert alone.accuracy == torch.cat(hits).double().mean().item()
    assert alone.masked_tokens == len(torch.cat(hits))
    assert (alone.loss_change, alone.kl_divergence, alone.hidden_cosine.mean) == (0.0, 0.0, 1.0)
    assert alone.length == sum(len(sentence.labels) + 2 for sentence in sentences) / 5


def test_long_inputs_are_compared_with_the_same_sentences_alone(monkeypatch, sentences, texts, tokenizer):
    monkeypatch.setattr("flash.inspection.lengths.TOKENS_PER_LENGTH", 256)
    model = small_model("flash_quad")
    two = measure_lengths(model, tokenizer, sentences, texts.stream, max_length=40, lengths=[128])[-1]
    first = measure_lengths(model, tokenizer, sentences[:2], texts.stream, max_length=40, lengths=[128])
    assert (two.sentences, first[0].sentences) == (2, 2)
    assert two.loss_change == pytest.approx(first[-1].loss - first[0].loss, rel=1e-6)
    assert two.distinct_alone == first[0].distinct_predictions


def test_predictions_that_depend_on_nothing_are_all_the_same(sentences, texts, tokenizer):
    model = small_model("flash_quad")
    torch.nn.init.zeros_(model.lm_head.dense.weight)
    torch.nn.init.ones_(model.lm_head.dense.bias)
    measures = measure_lengths(model, tokenizer, sentences, texts.stream, max_length=40, lengths=[64])[-1]
    assert measures.distinct_predictions == 1 / measures.masked_tokens
    assert measures.kl_divergence == pytest.approx(0.0, abs=1e-12)


def test_the_divergence_is_weighed_by_what_is_predicted_alone_and_the_error_is_that_of_a_mean():
    here, alone = (normal(3, 7, seed=seed).log_softmax(dim=-1) for seed in (1, 2))
    labels = torch.tensor([1, 4, 6])
    measures = _compare("within", 64, *([_Prediction(torch.ones(3, 2), x, labels)] for x in (here, alone)))
    expected = sum((p * (p / q).log()).sum() for p, q in zip(alone.exp(), here.exp(), strict=True)) / 3
    assert measures.kl_divergence == pytest.approx(expected.item())
    first, second, third = (alone - here)[range(3), labels].tolist()
    mean = (first + second + third) / 3
    assert measures.loss_change == pytest.approx(mean)
    variance = ((first - mean) ** 2 + (second - mean) ** 2 + (third - mean) ** 2) / 2
    assert measures.loss_change_error == pytest.approx((variance / 3) ** 0.5)


def test_numbers_that_are_not_finite_are_left_out(sentences, texts, tokenizer):
    model = small_model("flash_quad")
    with torch.no_grad():
        model.base_model.layers[0].out_proj.bias[0] = float("inf")
    for measures in measure_lengths(model, tokenizer, sentences, texts.stream, max_length=40, lengths=[64]):
        assert measures.loss is None
        assert measures.kl_divergence is None
        assert measures.hidden_cosine.mean is None


def test_as_many_tokens_are_encoded_as_foretold(sentences, texts, tokenizer):
    counted = []
    model = small_model("flash")
    measure_lengths(
        model, tokenizer, sentences, texts.stream, max_length=40, lengths=[64, 128], on_tokens=counted.append
    )
    assert sum(counted) == tokens_to_encode(sentences, 40, [64, 128])


@pytest.mark.parametrize(
    ("max_length", "longest", "text", "expected"),
    [
        (512, 512, 10**6, [64, 128, 256, 512, 1024, 2048, 4096]),
        (128, 128, 10**6, [64, 128, 256, 512, 1024]),
        (100, 128, 10**6, [64, 100, 128, 256, 512, 1024]),
        (128, 128, 300, [64, 128, 256]),
        (512, 2048, 10**6, [64, 128, 256, 512, 2048, 4096, 8192]),
        (512, 3000, 10**6, [64, 128, 256, 512, 3000, 6000, 8192]),
        (512, 16384, 10**6, [64, 128, 256, 512, 8192]),
        (8192, 512, 10**6, [64, 128, 256, 512, 1024, 2048, 4096, 8192]),
        (32, 16, 10**6, [64, 128]),
        (128, 128, 40, []),
    ],
)
def test_lengths_double_up_to_eight_times_the_trained_one(max_length, longest, text, expected):
    assert lengths_to_measure(max_length, longest, text) == expected


def test_the_work_of_a_length_is_bounded():
    assert [sentences_at(length, 32) for length in (64, 512, 4096, 10**6)] == [32, 32, 4, 1]


def test_hidden_states_of_a_sentence_alone_do_not_depend_on_the_batch(sentences, texts, tokenizer):
    model = small_model("gau_alpha")
    one, many = (
        measure_lengths(model, tokenizer, some, texts.stream, max_length=40, lengths=[])[1]
        for some in (sentences[:1], sentences)
    )
    torch.testing.assert_close(one.hidden_cosine.mean, many.hidden_cosine.mean, **FLOAT32)
