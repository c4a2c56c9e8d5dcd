"""Pretraining that goes on from a model: what it brings, and what does not fit it."""

import os
import shutil

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from flash import FLASHQuadForMaskedLM
from flash.errors import InputError
from flash.training.pretrain import result_summary

from toy_pretraining import TOKENS, log_history


def test_an_initial_model_is_gone_on_from(train, toy_run, toy_dataset):
    result, output_dir = train(do_eval=True, do_train=False, init_model=str(toy_run), config=None)
    (last,) = (entry for entry in log_history(toy_run) if entry["step"] == 10 and "eval_loss" in entry)
    assert result.metrics["eval_loss"] == pytest.approx(last["eval_loss"], rel=1e-6)
    assert not (output_dir / "model.safetensors").exists()
    assert "model  " not in result_summary(result)


def test_an_initial_model_in_half_precision_is_trained_in_float32(train, toy_run, tmp_path):
    half = FLASHQuadForMaskedLM.from_pretrained(toy_run, dtype=torch.bfloat16)
    half.save_pretrained(tmp_path / "half")
    assert FLASHQuadForMaskedLM.from_pretrained(tmp_path / "half").dtype == torch.bfloat16
    settings = {"init_model": str(tmp_path / "half"), "tokenizer_name": str(toy_run), "config": None}
    _, output_dir = train(**settings, max_steps=1, warmup_steps=0, learning_rate=1e-6)
    trained = FLASHQuadForMaskedLM.from_pretrained(output_dir)
    assert trained.dtype == torch.float32
    assert any(not torch.equal(weights, weights.bfloat16().float()) for weights in trained.parameters())


def test_an_initial_model_brings_its_own_settings(train, toy_run):
    with pytest.raises(InputError, match=r"--config is for a new model; --init_model brings its own settings"):
        train(init_model=str(toy_run))


def test_an_initial_model_runs_on_the_backend_that_is_asked_for(train, toy_run, monkeypatch):
    settings = {"init_model": str(toy_run), "do_eval": True, "do_train": False}
    expected, _ = train(**settings, config=None)
    result, _ = train(**settings, config="attention_backend=reference")
    assert result.metrics["eval_loss"] == pytest.approx(expected.metrics["eval_loss"], rel=1e-5)
    if not torch.cuda.is_available():
        monkeypatch.delenv("TRITON_INTERPRET", raising=False)  # in which the kernels would run
        with pytest.raises(InputError, match="attention_backend='fused' cannot run"):
            train(**settings, config="attention_backend=fused")
    with pytest.raises(InputError, match="--config attention_backend=flash: there are auto, reference"):
        train(**settings, config="attention_backend=flash")


def test_an_initial_model_that_is_not_there_or_damaged_is_named(train, toy_run, toy_vocabulary, tmp_path):
    settings = {"config": None, "tokenizer_name": str(toy_vocabulary)}
    refusal = "--init_model: cannot load a masked language model from"
    # without --tokenizer_name the model is the tokenizer's folder too, yet it is the model that is spoken of
    for others in (settings, {"config": None}):
        with pytest.raises(InputError, match=rf"{refusal} {tmp_path}/nowhere: there is no such folder"):
            train(init_model=str(tmp_path / "nowhere"), **others)
    damaged = tmp_path / "damaged"
    shutil.copytree(toy_run, damaged, ignore=shutil.ignore_patterns("checkpoint-*"))
    os.truncate(damaged / "model.safetensors", 1000)
    with pytest.raises(InputError, match=rf"{refusal} {damaged}: "):
        train(init_model=str(damaged), **settings)


def test_an_initial_model_of_another_architecture_is_refused(train, toy_vocabulary, tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 16}
    BertForMaskedLM(BertConfig(vocab_size=len(TOKENS), **sizes)).save_pretrained(tmp_path / "bert")
    with pytest.raises(InputError, match=r"bert is a BertForMaskedLM; only FLASH-Quad, FLASH and GAU-alpha models"):
        train(init_model=str(tmp_path / "bert"), config=None, tokenizer_name=str(toy_vocabulary))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ((*TOKENS, "龘"), r"has \d+ tokens but the model .* only \d+ embeddings"),
        ((*TOKENS[:-1], "龘"), "has another vocabulary than the one saved with the model"),
        (TOKENS[:-1], "has another vocabulary than the one saved with the model"),
    ],
    ids=["larger", "other", "smaller"],
)
def test_another_vocabulary_than_the_initial_models_is_refused(train, toy_run, tmp_path, tokens, message):
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    with pytest.raises(InputError, match=message) as raised:
        train(config=None, init_model=str(toy_run), tokenizer_name=str(vocabulary))
    assert str(vocabulary) in str(raised.value)
    assert str(toy_run) in str(raised.value)
