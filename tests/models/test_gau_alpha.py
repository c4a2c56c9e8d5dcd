import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM

from flash import GAUAlphaConfig, GAUAlphaForMaskedLM, GAUAlphaForSequenceClassification, GAUAlphaModel

import transcription_gau_alpha
from helpers import EXACT, FLOAT64, random_tokens

# config.json of junnyu/chinese_GAU-alpha-char_L-24_H-768 at its code repository, sizes apart
PUBLISHED_CONFIG = {
    "architectures": ["GAUAlphaForMaskedLM"],
    "attention_key_size": 8,
    "attention_probs_dropout_prob": 0.1,
    "attention_scale": True,
    "classifier_dropout": 0.1,
    "embedding_size": 16,
    "gradient_checkpointing": False,
    "hidden_act": "swish",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 16,
    "initializer_range": 0.02,
    "intermediate_size": 32,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "model_type": "gau_alpha",
    "normalization": "softmax_plus",
    "num_hidden_layers": 3,
    "pad_token_id": 0,
    "torch_dtype": "float32",
    "transformers_version": "4.17.0",
    "type_vocab_size": 2,
    "use_bias": False,
    "vocab_size": 20,
}


@pytest.fixture(scope="module")
def checkpoint():
    return transcription_gau_alpha.random_checkpoint(vocab_size=20, hidden_size=16, num_hidden_layers=3, s=8, seed=0)


def publish(folder, checkpoint, *, binary=False, **changes):
    (folder / "config.json").write_text(json.dumps(PUBLISHED_CONFIG | changes))
    if binary:
        torch.save(checkpoint, folder / "pytorch_model.bin")
    else:
        save_file(checkpoint, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def padded_batch():
    input_ids = random_tokens(3, 9)
    input_ids[0, 6:], input_ids[1, :2] = 0, 0
    return input_ids


@pytest.mark.parametrize("binary", [False, True], ids=["safetensors", "bin"])
def test_a_published_folder_gives_the_logits_states_and_attentions_of_the_transcription(tmp_path, checkpoint, binary):
    folder = publish(tmp_path, checkpoint, binary=binary)
    model, report = GAUAlphaForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    input_ids = padded_batch()
    real = input_ids != 0
    with torch.no_grad():
        outputs = model.double().eval()(input_ids, output_hidden_states=True, output_attentions=True)
    logits, hidden_states, attentions = transcription_gau_alpha.masked_lm_logits(checkpoint, input_ids)
    torch.testing.assert_close(outputs.logits[real], logits[real], **FLOAT64)
    for ours, theirs in zip(outputs.hidden_states, hidden_states, strict=True):
        torch.testing.assert_close(ours[real], theirs[real], **FLOAT64)
    for ours, theirs in zip(outputs.attentions, attentions, strict=True):
        torch.testing.assert_close(ours[real], theirs[real], **FLOAT64)


@pytest.mark.parametrize("normalization", ["softmax", "squared_relu"])
def test_the_other_normalizations_are_those_of_the_transcription(tmp_path, checkpoint, normalization):
    model = GAUAlphaForMaskedLM.from_pretrained(publish(tmp_path, checkpoint, normalization=normalization))
    input_ids = padded_batch()
    logits, _, _ = transcription_gau_alpha.masked_lm_logits(checkpoint, input_ids, normalization=normalization)
    with torch.no_grad():
        ours = model.double().eval()(input_ids).logits
    torch.testing.assert_close(ours[input_ids != 0], logits[input_ids != 0], **FLOAT64)


def test_saving_writes_our_names_or_the_published_ones_and_both_load(tmp_path, checkpoint):
    model = AutoModelForMaskedLM.from_pretrained(publish(tmp_path, checkpoint)).eval()
    assert type(model) is GAUAlphaForMaskedLM
    model.save_pretrained(tmp_path / "ours")
    assert "gau_alpha.layers.2.offset_scale.key_gain" in load_file(tmp_path / "ours" / "model.safetensors")
    model.save_pretrained(tmp_path / "theirs", save_original_format=True)
    theirs = load_file(tmp_path / "theirs" / "model.safetensors")
    # the decoder is the embedding: safetensors keeps one of the two
    assert set(checkpoint) - set(theirs) <= {"cls.predictions.decoder.weight"}
    for name, value in theirs.items():
        assert torch.equal(value, checkpoint[name])
    expected = model(padded_batch()).logits
    for folder in ("ours", "theirs"):
        again = GAUAlphaForMaskedLM.from_pretrained(tmp_path / folder).eval()
        torch.testing.assert_close(again(padded_batch()).logits, expected, **EXACT)


def test_other_heads_take_the_encoder_of_a_published_folder(tmp_path, checkpoint):
    folder = publish(tmp_path, checkpoint)
    encoder = GAUAlphaModel.from_pretrained(folder).eval()
    classifier, report = GAUAlphaForSequenceClassification.from_pretrained(
        folder, num_labels=3, output_loading_info=True
    )
    assert {name.split(".")[0] for name in report["missing_keys"]} == {"classifier"}
    states = encoder(padded_batch()).last_hidden_state
    torch.testing.assert_close(classifier.eval().gau_alpha(padded_batch()).last_hidden_state, states, **EXACT)
    assert classifier(padded_batch(), labels=torch.tensor([0, 2, 1])).loss.isfinite()


def test_the_published_settings_are_the_defaults():
    config = GAUAlphaConfig()
    assert (config.vocab_size, config.hidden_size, config.num_hidden_layers) == (12000, 768, 24)
    sizes = (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "attention_key_size",
        "num_hidden_layers",
        "embedding_size",
    )
    for name, value in PUBLISHED_CONFIG.items():
        if name not in (*sizes, "architectures", "torch_dtype", "transformers_version"):
            assert getattr(config, name) == value, name
    assert config.query_key_dim == config.attention_key_size == 128


def test_rates_of_dropout_are_those_of_the_configuration():
    rates = {"attention_probs_dropout_prob": 0.2, "hidden_dropout_prob": 0.3}
    sizes = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 32}
    model = GAUAlphaModel(GAUAlphaConfig(**sizes, attention_key_size=8, **rates))
    assert model.embeddings.dropout.p == 0.3
    assert [(layer.attention_dropout, layer.hidden_dropout) for layer in model.layers] == [(0.2, 0.3)] * 2


def test_the_published_model_has_its_parameters():
    with torch.device("meta"):
        model = GAUAlphaForMaskedLM(GAUAlphaConfig())
    # 24 layers of (768 x (2 x 1536 + 128) + 1536 x 768 + 2 x 128) and the embeddings
    expected = 24 * (768 * 3200 + 1536 * 768 + 256) + 12002 * 768
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_finite_and_close(checkpoint, tmp_path, dtype):
    model = GAUAlphaForMaskedLM.from_pretrained(publish(tmp_path, checkpoint)).eval()
    with torch.no_grad():
        exact = model.double()(padded_batch()).logits
        half = model.to(dtype)(padded_batch()).logits
    assert half.dtype == dtype
    assert (half.double() - exact).norm() / exact.norm() < 20 * torch.finfo(dtype).eps
