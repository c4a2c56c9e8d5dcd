"""Checkpoints of the earlier repository load whole, in each form in which they are found, and mean the same."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification

from flash import FLASHQuadForMaskedLM, FLASHQuadForSequenceClassification, FLASHQuadModel

from helpers import random_tokens, tiny_config, transformers_warnings
from random_models import checkpoint_for, our_name, transcribe, used_by

WORDS = "flash_quad.embeddings.word_embeddings.weight"
DECODER, DECODER_BIAS, BIAS = (f"cls.predictions.{name}" for name in ("decoder.weight", "decoder.bias", "bias"))
# fp32 and 1e-5 is what the project promises
PROMISED = {"rtol": 1e-5, "atol": 1e-5}

CONFIGURATIONS = {
    "scale norm": {},
    "layer norm": {"norm_type": "layer_norm"},
    "above 512 positions": {"max_position_embeddings": 513},
}
for_each_configuration = pytest.mark.parametrize("settings", CONFIGURATIONS.values(), ids=CONFIGURATIONS.keys())


def write_folder(folder, config, checkpoint, file_name="model.safetensors"):
    """A folder as the earlier repository wrote it: no name that it did not know."""
    names = ["vocab_size", "hidden_size", "num_hidden_layers", "max_position_embeddings", "type_vocab_size"]
    names += ["initializer_range", "layer_norm_eps", "pad_token_id", "expansion_factor", "s", "norm_type"]
    names += ["gradient_checkpointing", "dropout", "hidden_act"]
    settings = {"model_type": "flash_quad"} | {name: getattr(config, name) for name in names}
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    if file_name.endswith(".bin"):
        # the earlier code tied its tensors, so two names of one tensor are in the file
        tied = {DECODER: checkpoint[WORDS], DECODER_BIAS: checkpoint[BIAS]}
        torch.save(checkpoint | tied, folder / file_name)
    else:
        save_file(checkpoint, folder / file_name, metadata={"format": "pt"})
    return folder


def load(model_class, folder):
    """The model in evaluation mode, the report of the keys, and the warnings."""
    with transformers_warnings() as warnings:
        model, report = model_class.from_pretrained(folder, output_loading_info=True)
    return model.eval(), {kind: keys for kind, keys in report.items() if keys}, warnings


def padded_batch():
    input_ids = random_tokens(2, 9)
    input_ids[1, 6:] = 0
    return input_ids


def assert_logits_are_transcribed(model, checkpoint):
    input_ids = padded_batch()
    expected, _, _ = transcribe(checkpoint, model.config, input_ids)
    with torch.no_grad():
        logits = model(input_ids).logits
    real = input_ids != 0
    torch.testing.assert_close(logits[real], expected[real].float(), **PROMISED)


@for_each_configuration
@pytest.mark.parametrize("file_name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("model_class", [FLASHQuadForMaskedLM, AutoModelForMaskedLM])
def test_an_earlier_checkpoint_loads_whole_silently_and_with_its_logits(model_class, file_name, settings, tmp_path):
    config = tiny_config(**settings)
    checkpoint = checkpoint_for(config)
    model, report, warnings = load(model_class, write_folder(tmp_path, config, checkpoint, file_name))
    assert (report, warnings) == ({}, [])
    assert isinstance(model, FLASHQuadForMaskedLM)
    assert_logits_are_transcribed(model, checkpoint)
    state = model.state_dict()
    for name, value in used_by(config, checkpoint).items():
        assert torch.equal(state[our_name(name)], value), name


@pytest.mark.parametrize(
    "missing",
    [{DECODER}, {DECODER_BIAS}, {BIAS}, {DECODER, DECODER_BIAS}, {DECODER, BIAS}, {WORDS}],
    ids=lambda names: " and ".join(sorted(name.removeprefix("cls.predictions.") for name in names)),
)
def test_one_name_of_a_tied_pair_is_enough(missing, tmp_path):
    # safetensors refuses to write two names of one tensor, so writers drop one or the other
    config = tiny_config()
    checkpoint = checkpoint_for(config)
    kept = {name: value for name, value in checkpoint.items() if name not in missing}
    model, report, warnings = load(FLASHQuadForMaskedLM, write_folder(tmp_path, config, kept))
    assert (report, warnings) == ({}, [])
    assert model.lm_head.decoder.weight is model.get_input_embeddings().weight
    assert model.lm_head.decoder.bias is model.lm_head.bias
    assert_logits_are_transcribed(model, checkpoint)


@pytest.mark.parametrize("missing", ["position_ids", "scaledsin_embeddings"])
def test_the_tables_of_constants_may_be_missing(missing, tmp_path):
    config = tiny_config()
    checkpoint = checkpoint_for(config)
    kept = {name: value for name, value in checkpoint.items() if not name.endswith(missing)}
    model, report, warnings = load(FLASHQuadForMaskedLM, write_folder(tmp_path, config, kept))
    assert (report, warnings) == ({}, [])
    assert_logits_are_transcribed(model, checkpoint)


@pytest.mark.parametrize(
    ("name", "other"), [(DECODER, WORDS), (DECODER_BIAS, BIAS)], ids=["decoder weight", "decoder bias"]
)
def test_a_decoder_of_its_own_is_kept_with_a_warning_through_saving_and_resizing(name, other, tmp_path):
    config = tiny_config()
    checkpoint = checkpoint_for(config)
    checkpoint[name] = checkpoint[name].flip(0).contiguous()
    folder = write_folder(tmp_path / "earlier", config, checkpoint)
    for generation in range(2):
        model, report, warnings = load(FLASHQuadForMaskedLM, folder)
        assert report == {}
        assert len(warnings) == 1
        assert "we will NOT tie them" in warnings[0]
        assert our_name(name) in warnings[0]
        state = model.state_dict()
        assert torch.equal(state[our_name(name)], checkpoint[name])
        assert torch.equal(state[our_name(other)], checkpoint[other])
        assert_logits_are_transcribed(model, checkpoint)
        folder = tmp_path / f"saved {generation}"
        model.save_pretrained(folder)

    input_ids = padded_batch()
    with torch.no_grad():
        before = model(input_ids).logits
        model.resize_token_embeddings(config.vocab_size + 3)  # ties again
        after = model(input_ids).logits
    torch.testing.assert_close(after[..., : config.vocab_size], before)


@for_each_configuration
@pytest.mark.parametrize("model_class", [FLASHQuadModel, AutoModel])
def test_the_encoder_of_an_earlier_checkpoint_loads_without_its_head(model_class, settings, tmp_path):
    config = tiny_config(**settings)
    checkpoint = checkpoint_for(config)
    model, report, _ = load(model_class, write_folder(tmp_path, config, checkpoint))
    head = {our_name(name) for name in checkpoint if name.startswith("cls.")}
    assert report == {"unexpected_keys": head}
    input_ids = padded_batch()
    _, hidden_states, _ = transcribe(checkpoint, config, input_ids)
    real = input_ids != 0
    last = model(input_ids).last_hidden_state
    torch.testing.assert_close(last[real], hidden_states[-1][real].float(), **PROMISED)


@pytest.mark.parametrize("model_class", [FLASHQuadForSequenceClassification, AutoModelForSequenceClassification])
def test_a_classifier_takes_the_encoder_and_lacks_nothing_but_its_own_head(model_class, tmp_path):
    config = tiny_config()
    checkpoint = checkpoint_for(config)
    model, report, _ = load(model_class, write_folder(tmp_path, config, checkpoint))
    assert report["missing_keys"] == {"classifier.out_proj.weight", "classifier.out_proj.bias"}
    state = model.state_dict()
    for name, value in used_by(config, checkpoint).items():
        if not name.startswith("cls."):
            assert torch.equal(state[our_name(name)], value), name


def test_a_checkpoint_of_the_bare_earlier_encoder_loads_into_every_model(tmp_path):
    config = tiny_config()
    checkpoint = checkpoint_for(config)
    bare = {name.removeprefix("flash_quad."): value for name, value in checkpoint.items() if "cls." not in name}
    folder = write_folder(tmp_path, config, bare)
    encoder, report, warnings = load(FLASHQuadModel, folder)
    assert (report, warnings) == ({}, [])
    masked_lm, report, _ = load(FLASHQuadForMaskedLM, folder)
    assert {name.split(".")[0] for name in report["missing_keys"]} == {"lm_head"}
    assert "unexpected_keys" not in report
    input_ids = padded_batch()
    expected = encoder(input_ids).last_hidden_state
    assert torch.equal(masked_lm.flash_quad(input_ids).last_hidden_state, expected)


@for_each_configuration
def test_an_earlier_checkpoint_is_saved_under_the_present_names_and_reloads(settings, tmp_path):
    config = tiny_config(**settings)
    checkpoint = checkpoint_for(config)
    model, _, _ = load(FLASHQuadForMaskedLM, write_folder(tmp_path / "earlier", config, checkpoint))
    model.save_pretrained(tmp_path / "present")
    tied = {"lm_head.decoder.weight", "lm_head.decoder.bias"}
    expected = {our_name(name) for name in used_by(config, checkpoint)} - tied
    assert set(load_file(tmp_path / "present" / "model.safetensors")) == expected
    reloaded, report, warnings = load(FLASHQuadForMaskedLM, tmp_path / "present")
    assert (report, warnings) == ({}, [])
    input_ids = padded_batch()
    assert torch.equal(reloaded(input_ids).logits, model(input_ids).logits)


@for_each_configuration
@pytest.mark.parametrize("loaded_from_file", [True, False])
def test_save_original_format_writes_the_earlier_names(loaded_from_file, settings, tmp_path):
    config = tiny_config(**settings)
    checkpoint = checkpoint_for(config)
    if loaded_from_file:
        model, _, _ = load(FLASHQuadForMaskedLM, write_folder(tmp_path / "earlier", config, checkpoint))
    else:
        model = FLASHQuadForMaskedLM(config).eval()
    model.save_pretrained(tmp_path / "original", save_original_format=True)
    saved = load_file(tmp_path / "original" / "model.safetensors")
    used = used_by(config, checkpoint)
    assert set(saved) == set(used) - {DECODER, DECODER_BIAS}
    state = model.state_dict()
    for name, value in saved.items():
        assert torch.equal(value, state[our_name(name)]), name
    reloaded, report, warnings = load(FLASHQuadForMaskedLM, tmp_path / "original")
    assert (report, warnings) == ({}, [])
    input_ids = padded_batch()
    assert torch.equal(reloaded(input_ids).logits, model(input_ids).logits)
