import os
import shutil

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, pipeline

from flash import FLASHQuadConfig, FLASHQuadForMaskedLM
from flash.errors import InputError
from flash.inference.fill_mask import Candidate, FilledSentence, MaskFiller

from toy_pretraining import TOKENS

SENTENCES = ("今天的天[MASK]很好", "hello [MASK]，今天的[MASK][MASK]", "[MASK]", "学生们喜欢[MASK]静地读书。")


@pytest.fixture(scope="module")
def filler(toy_run):
    return MaskFiller(str(toy_run))


@pytest.fixture
def model_dir(toy_run, tmp_path):
    """A model folder that may be changed."""
    return shutil.copytree(toy_run, tmp_path / "model", ignore=shutil.ignore_patterns("checkpoint-*", "logs"))


@pytest.mark.parametrize("text", SENTENCES)
@pytest.mark.parametrize("top_k", [1, 5, 40])
def test_candidates_are_those_of_the_pipeline(filler, toy_run, text, top_k):
    expected = pipeline("fill-mask", model=str(toy_run))(text, top_k=top_k)
    if text.count("[MASK]") == 1:
        expected = [expected]
    masks = filler.fill(text, top_k=top_k).masks
    assert len(masks) == text.count("[MASK]")
    for candidates, from_pipeline in zip(masks, expected, strict=True):
        ids = filler.tokenizer.convert_tokens_to_ids([candidate.token for candidate in candidates])
        assert ids == [candidate["token"] for candidate in from_pipeline]
        probabilities = [candidate.probability for candidate in candidates]
        assert probabilities == pytest.approx([candidate["score"] for candidate in from_pipeline], rel=0, abs=1e-6)


def test_all_candidates_of_a_mask_share_a_probability_of_one(filler):
    (candidates,) = filler.fill(SENTENCES[0], top_k=len(TOKENS)).masks
    probabilities = [candidate.probability for candidate in candidates]
    assert sum(probabilities) == pytest.approx(1)
    assert probabilities == sorted(probabilities, reverse=True)


def test_a_filled_sentence_is_written_as_in_the_earlier_readme():
    sentence = FilledSentence(
        text="今天的天[MASK]很[MASK]",
        pieces=["今天的天", "很", ""],
        masks=[[Candidate("气", 0.99478), Candidate("空", 0.0011)], [Candidate("好", 1.0)]],
    )
    assert sentence.in_brackets() == "今天的天[气+0.9948||空+0.0011]很[好+1.0000]"


def test_the_sentence_around_the_masks_is_left_as_it_is(filler):
    filled = filler.fill("Hello  WORLD，[MASK]𠀀[MASK] ", top_k=1)
    assert filled.pieces == ["Hello  WORLD，", "𠀀", " "]
    first, second = (candidates[0] for candidates in filled.masks)
    assert filled.in_brackets() == (
        f"Hello  WORLD，[{first.token}+{first.probability:.4f}]𠀀[{second.token}+{second.probability:.4f}] "
    )


def test_a_text_longer_than_in_training_is_filled(filler):
    assert len(filler.fill("今天的天气很好，" * 20 + "[MASK]").masks[0]) == 5


def test_a_text_without_a_mask_is_refused_with_the_way_out(filler):
    with pytest.raises(InputError, match=r"no \[MASK\] in '今天的天气很好'; write \[MASK\] where a token is to be"):
        filler.fill("今天的天气很好")


@pytest.mark.parametrize("top_k", [0, -1, len(TOKENS) + 1])
def test_more_or_fewer_candidates_than_there_are_are_refused(filler, top_k):
    with pytest.raises(InputError, match=rf"top_k must lie between 1 and the vocabulary's {len(TOKENS)}, got {top_k}"):
        filler.fill(SENTENCES[0], top_k=top_k)


def test_a_tokenizer_may_be_a_vocab_txt(model_dir, toy_vocabulary, filler):
    for path in model_dir.glob("tokenizer*"):
        path.unlink()
    filled = MaskFiller(str(model_dir), tokenizer=str(toy_vocabulary)).fill(SENTENCES[1])
    assert filled == filler.fill(SENTENCES[1])


def test_a_model_with_a_plain_vocab_txt_beside_it_needs_no_other(model_dir, toy_vocabulary, filler):
    for path in model_dir.glob("tokenizer*"):
        path.unlink()
    shutil.copy(toy_vocabulary, model_dir / "vocab.txt")
    assert MaskFiller(str(model_dir)).fill(SENTENCES[0]) == filler.fill(SENTENCES[0])


def test_a_vocabulary_larger_than_the_model_is_refused(toy_run, tmp_path):
    vocabulary = tmp_path / "larger.txt"
    vocabulary.write_text("".join(f"{token}\n" for token in (*TOKENS, "龘")), encoding="utf-8")
    message = rf"{vocabulary} has {len(TOKENS) + 1} tokens but the model {toy_run} only {len(TOKENS)} embeddings; pass"
    with pytest.raises(InputError, match=message):
        MaskFiller(str(toy_run), tokenizer=str(vocabulary))


def test_a_vocabulary_of_the_same_size_but_other_tokens_is_refused(toy_run, tmp_path):
    vocabulary = tmp_path / "other.txt"
    vocabulary.write_text("".join(f"{token}\n" for token in (*TOKENS[:-1], "龘")), encoding="utf-8")
    message = rf"{vocabulary} .* has another vocabulary than the one saved with the model {toy_run} "
    with pytest.raises(InputError, match=message):
        MaskFiller(str(toy_run), tokenizer=str(vocabulary))


def test_embeddings_without_a_token_are_never_candidates_and_keep_their_probability(toy_vocabulary, tmp_path):
    config = FLASHQuadConfig(vocab_size=len(TOKENS) + 8, hidden_size=16, num_hidden_layers=1, s=8)
    model = FLASHQuadForMaskedLM(config)
    model.lm_head.bias.data[len(TOKENS) :] = 9.0  # they would be first
    model.save_pretrained(tmp_path)
    filler = MaskFiller(str(tmp_path), tokenizer=str(toy_vocabulary))
    (candidates,) = filler.fill("[MASK]", top_k=len(TOKENS)).masks
    assert {candidate.token for candidate in candidates} == set(TOKENS)
    with torch.no_grad():
        logits = filler.model(**filler.tokenizer("[MASK]", return_tensors="pt")).logits[0, 1]
    expected = logits.softmax(dim=-1)[: len(TOKENS)].sort(descending=True).values
    assert [candidate.probability for candidate in candidates] == pytest.approx(expected.tolist(), rel=1e-5)
    assert expected.sum() < 0.1


def test_a_text_that_is_not_utf8_is_refused_and_shown(filler):
    text = "今天[MASK]".encode("gb18030").decode("utf-8", "surrogateescape")
    with pytest.raises(
        InputError, match=r"not UTF-8 at character 1 of '\\udcbd.*\[MASK\]'; convert the text"
    ) as raised:
        filler.fill(text)
    assert str(raised.value).isprintable()


def test_a_model_that_cannot_be_loaded_is_named(model_dir, tmp_path, toy_vocabulary):
    (tmp_path / "empty").mkdir()
    for name in ("nowhere", "empty"):
        with pytest.raises(
            InputError, match=rf"cannot load a masked language model from {tmp_path}/{name}: "
        ) as raised:
            MaskFiller(str(tmp_path / name))
        assert "\n" not in str(raised.value)
    os.truncate(model_dir / "model.safetensors", 1000)
    with pytest.raises(InputError, match=rf"cannot load a masked language model from {model_dir}: "):
        MaskFiller(str(model_dir))


def test_masked_language_models_of_other_architectures_are_filled_too(tmp_path, toy_vocabulary):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 16}
    BertForMaskedLM(BertConfig(vocab_size=len(TOKENS), **sizes)).save_pretrained(tmp_path)
    filled = MaskFiller(str(tmp_path), tokenizer=str(toy_vocabulary)).fill(SENTENCES[1])
    assert [len(candidates) for candidates in filled.masks] == [5, 5, 5]


def test_a_text_longer_than_another_model_reads_is_refused(tmp_path, toy_vocabulary):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 16}
    config = BertConfig(vocab_size=len(TOKENS), max_position_embeddings=8, **sizes)
    BertForMaskedLM(config).save_pretrained(tmp_path)
    filler = MaskFiller(str(tmp_path), tokenizer=str(toy_vocabulary))
    assert len(filler.fill("今天的天气[MASK]").masks) == 1  # 8 tokens with [CLS] and [SEP]
    with pytest.raises(InputError, match="the text has 9 tokens, and this BertForMaskedLM reads at most 8; shorten it"):
        filler.fill("今天的天气很[MASK]")
