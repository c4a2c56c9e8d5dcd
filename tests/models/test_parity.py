"""Every architecture under every setting against the independent transcriptions, in float64, gradients included."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from flash import FLASHConfig

import transcription_attention
import transcription_flash
import transcription_gau_alpha
from families import (
    GATED_FAMILIES,
    assert_same,
    build,
    collate,
    examples,
    gradients,
    inputs_of,
    join,
    models,
    paddings,
    random_text,
    texts,
)
from helpers import for_each_setting
from transcription import ACTIVATIONS, linear, sinusoid_table
from transcription_attention import norm, relative_bias, same_segment

# The same sums in another order; the roundings, amplified by a squared score or the norm of a small sum.
TOLERANCE = 1e-9
CHUNK = 3


def of_module(parameters: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The parameters of one module under their own names."""
    return {name.removeprefix(prefix): value for name, value in parameters.items() if name.startswith(prefix)}


def first_real_tokens(mask: Tensor, segments: Tensor | None) -> list[list[int]]:
    """For each token the place of the first real one of its sequence; its own for padding before that."""
    firsts = []
    batch_size, length = mask.shape
    for row in range(batch_size):
        firsts.append([])
        for i in range(length):
            of_sequence = [j for j in range(length) if mask[row, j] and same_segment(segments, row, i, j)]
            firsts[row].append(min([i, *of_sequence[:1]]))
    return firsts


def transcribe_encoder(
    parameters: dict[str, Tensor], config: PreTrainedConfig, inputs: dict[str, Tensor]
) -> tuple[list[Tensor], list[tuple[Tensor, ...]]]:
    """Hidden states, the final norm applied to the last, and the attention weights of each unit."""
    input_ids, segments = inputs["input_ids"], inputs.get("seq_idx")
    mask = inputs.get("attention_mask", torch.ones_like(input_ids)).bool()
    length = input_ids.shape[1]
    norms = {"norm_type": config.norm_type, "eps": config.layer_norm_eps}
    total = parameters["embeddings.word_embeddings.weight"][input_ids]
    total = total + parameters["embeddings.token_type_embeddings.weight"][inputs["token_type_ids"]]
    if config.scaled_sinusoid:
        positions = torch.arange(length) - torch.tensor(first_real_tokens(mask, segments))
        table = sinusoid_table(length, config.hidden_size)[positions]
        total = total + parameters["embeddings.position_embeddings.scale"] * table
    hidden_states, attentions = [norm(total, parameters, "embeddings.norm", **norms)], []

    form: dict[str, Any] = norms | {
        "mask": mask,
        "segments": segments,
        "attention_function": config.attention_function,
        "score_scale": config.score_scale,
        "score_divisor": config.score_divisor,
        "causal": config.causal,
        "norm_position": config.norm_position,
        "hidden_act": config.hidden_act,
        "attention_norm": config.attention_norm,
        "attention_norm_eps": config.attention_norm_eps,
        "rotary": config.rotary,
        "token_shift_channels": int(config.token_shift * config.hidden_size),
    }
    for layer in range(config.num_hidden_layers):
        unit = of_module(parameters, f"layers.{layer}.")
        bias = relative_bias(
            unit, config.relative_bias, length, max_distance=config.relative_bias_max_distance, causal=config.causal
        )
        if config.model_type == "flash":
            sizes = {"chunk_size": config.chunk_size, "max_position_embeddings": config.max_position_embeddings}
            output, *weights = transcription_flash.unit(
                hidden_states[-1], unit, bias=bias, linear_divisor=config.linear_divisor, **sizes, **form
            )
        else:
            output, *weights = transcription_attention.unit(
                hidden_states[-1], unit, bias=bias, length=config.max_position_embeddings, **form
            )
        hidden_states.append(output)
        attentions.append(tuple(weights))
    if config.final_norm:
        hidden_states[-1] = norm(hidden_states[-1], parameters, "final_norm", **norms)
    return hidden_states, attentions


def transcribe_logits(model: PreTrainedModel, inputs: dict[str, Tensor]) -> Tensor:
    """Logits of a masked or a causal language model of the two gated families."""
    parameters, config = dict(model.named_parameters()), model.config
    encoder = of_module(parameters, f"{model.base_model_prefix}.")
    hidden = transcribe_encoder(encoder, config, inputs)[0][-1]
    words = encoder["embeddings.word_embeddings.weight"]
    if config.causal:
        return hidden @ words.T
    hidden = ACTIVATIONS[config.hidden_act](linear(hidden, parameters, "lm_head.dense"))
    hidden = norm(hidden, parameters, "lm_head.norm", norm_type=config.norm_type, eps=config.layer_norm_eps)
    return hidden @ words.T + parameters["lm_head.bias"]


def transcribe_gau_alpha(
    model: PreTrainedModel, inputs: dict[str, Tensor]
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Logits, hidden states and attentions of GAU-alpha; the transcription knows the published names only."""
    published = {
        "in_proj.weight": "gau.i_dense.weight",
        "out_proj.weight": "gau.o_dense.weight",
        "offset_scale.query_gain": "gau.q_scaleoffset.weight",
        "offset_scale.key_gain": "gau.k_scaleoffset.weight",
    }
    checkpoint = {}
    for name, parameter in model.named_parameters():
        for ours, theirs in published.items():
            name = name.replace(ours, theirs)
        checkpoint[name.replace("gau_alpha.layers", "gau_alpha.encoder.layer")] = parameter
    checkpoint["cls.predictions.decoder.weight"] = checkpoint["gau_alpha.embeddings.word_embeddings.weight"]
    return transcription_gau_alpha.masked_lm_logits(
        checkpoint,
        inputs["input_ids"],
        attention_mask=inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])),
        token_type_ids=inputs["token_type_ids"],
        max_position_embeddings=model.config.max_position_embeddings,
        normalization=model.config.normalization,
        eps=model.config.layer_norm_eps,
        hidden_act=model.config.hidden_act,
    )


@st.composite
def batches(draw: st.DrawFn) -> dict[str, Tensor]:
    """One or two short texts, the loops of the transcriptions being slow, with padding around and inside."""
    rows, lefts = zip(*draw(st.lists(st.tuples(texts(longest=7), paddings), min_size=1, max_size=2)), strict=True)
    return collate(rows, lefts, right=draw(st.integers(0, 1)))[0]


def real_tokens(inputs: dict[str, Tensor]) -> Tensor:
    return inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).bool()


def assert_equal_with_gradients(model: PreTrainedModel, actual: Tensor, expected: Tensor) -> None:
    """Compare outputs, and the gradients of a loss over them."""
    assert_same(actual, expected, TOLERANCE)
    cotangent = torch.randn(expected.shape, dtype=expected.dtype, generator=torch.Generator().manual_seed(0))
    of_transcription = gradients(model, (expected * cotangent).sum())
    assert_same(gradients(model, (actual * cotangent).sum()), of_transcription, TOLERANCE)


@pytest.mark.parametrize("family", GATED_FAMILIES)
@examples(60)
@given(data=st.data(), inputs=batches())
def test_hidden_states_attentions_and_gradients_are_those_of_the_transcription(family, data, inputs):
    model = data.draw(models(families=[family]))
    outputs = model(**inputs, use_cache=False, output_hidden_states=True, output_attentions=True)
    hidden_states, attentions = transcribe_encoder(dict(model.named_parameters()), model.config, inputs)
    real = real_tokens(inputs)
    for ours, expected in zip(outputs.hidden_states, hidden_states, strict=True):
        assert_same(ours[real], expected[real], TOLERANCE)
    if family == "flash_quad":
        for ours, (expected,) in zip(outputs.attentions, attentions, strict=True):
            assert_same(ours, expected, TOLERANCE)
    assert_equal_with_gradients(model, outputs.last_hidden_state[real], hidden_states[-1][real])


@pytest.mark.parametrize("ending", ["ForMaskedLM", "ForCausalLM"])
@examples(30)
@given(data=st.data(), inputs=batches())
def test_logits_and_gradients_are_those_of_the_transcription(ending, data, inputs):
    model = data.draw(models(ending, families=GATED_FAMILIES))
    real = real_tokens(inputs)
    assert_equal_with_gradients(model, model(**inputs).logits[real], transcribe_logits(model, inputs)[real])


@pytest.mark.parametrize("family", GATED_FAMILIES)
@examples(40)
@given(data=st.data(), rows=st.lists(texts(longest=4), min_size=2, max_size=3))
def test_packed_sequences_are_those_of_the_transcription(family, data, rows):
    model = data.draw(models(families=[family]))
    seq_idx = torch.tensor([[index for index, row in enumerate(rows) for _ in range(len(row))]])
    inputs = inputs_of(join(*rows)) | {"seq_idx": seq_idx}
    output = model(**inputs, use_cache=False).last_hidden_state
    expected = transcribe_encoder(dict(model.named_parameters()), model.config, inputs)[0][-1]
    real = real_tokens(inputs)
    assert_equal_with_gradients(model, output[real], expected[real])


@pytest.mark.parametrize("length", [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1])
@pytest.mark.parametrize("causal", [False, True], ids=["both ways", "causal"])
@for_each_setting
def test_lengths_around_whole_chunks_are_those_of_the_transcription(settings, causal, length):
    sizes = {"vocab_size": 12, "hidden_size": 8, "num_hidden_layers": 2, "query_key_dim": 4, "chunk_size": CHUNK}
    model = build(FLASHConfig(**sizes, **settings, causal=causal))
    inputs = inputs_of(random_text(torch.ones(length, dtype=torch.bool), seed=length))
    output = model(**inputs, use_cache=False).last_hidden_state
    expected = transcribe_encoder(dict(model.named_parameters()), model.config, inputs)[0][-1]
    assert_equal_with_gradients(model, output, expected)


@examples(60)
@given(model=models("ForMaskedLM", families=["gau_alpha"]), inputs=batches())
def test_gau_alpha_is_its_transcription(model, inputs):
    outputs = model(**inputs, output_hidden_states=True, output_attentions=True)
    logits, hidden_states, attentions = transcribe_gau_alpha(model, inputs)
    real = real_tokens(inputs)
    for ours, expected in zip(outputs.hidden_states, hidden_states, strict=True):
        assert_same(ours[real], expected[real], TOLERANCE)
    for ours, expected in zip(outputs.attentions, attentions, strict=True):
        assert_same(ours, expected, TOLERANCE)
    assert_equal_with_gradients(model, outputs.logits[real], logits[real])
