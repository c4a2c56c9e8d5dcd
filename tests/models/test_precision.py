"""Half precision and autocast stay finite, keep their dtype and stay close to float64."""

import copy

import pytest
import torch

from helpers import CURED, EARLIER, random_tokens, relative_error
from random_models import random_model

MODELS = {"earlier": random_model(**EARLIER)[0], "cured": random_model(**CURED)[0]}
for_each_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
for_each_half = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])


def padded_batch():
    input_ids = random_tokens(3, 12)
    input_ids[1, 8:] = 0
    return input_ids


@torch.no_grad()
def exact_logits(model, input_ids):
    return copy.deepcopy(model).double()(input_ids).logits


@for_each_model
@for_each_half
def test_a_half_precision_model_is_finite_close_and_keeps_its_dtype(model, dtype):
    input_ids = padded_batch()
    real = input_ids != 0
    half = copy.deepcopy(model).to(dtype)
    outputs = half(input_ids, labels=input_ids, output_hidden_states=True)
    for tensor in (outputs.logits, *outputs.hidden_states):
        assert tensor.dtype == dtype
        assert tensor.isfinite().all()
    # two layers and a head, each some ten roundings of half an epsilon that later layers amplify
    error = relative_error(outputs.logits[real], exact_logits(model, input_ids)[real])
    assert error < 8 * torch.finfo(dtype).eps
    outputs.loss.backward()
    for name, parameter in half.named_parameters():
        assert parameter.grad.dtype == dtype, name
        assert parameter.grad.isfinite().all(), name


@for_each_model
@for_each_half
def test_autocast_keeps_the_residual_stream_in_float32_and_stays_close(model, dtype):
    input_ids = padded_batch()
    real = input_ids != 0
    with torch.autocast("cpu", dtype):
        outputs = model(input_ids, output_hidden_states=True, output_attentions=True)
    assert {tensor.dtype for tensor in (*outputs.hidden_states, *outputs.attentions)} == {torch.float32}
    assert outputs.logits.dtype == dtype
    error = relative_error(outputs.logits[real], exact_logits(model, input_ids)[real])
    assert error < 4 * torch.finfo(dtype).eps


@for_each_model
def test_autocast_gives_float32_gradients_close_to_those_of_float32(model):
    input_ids = padded_batch()
    gradients = []
    for enabled in (False, True):
        trained = copy.deepcopy(model)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = trained(input_ids, labels=input_ids).loss
        loss.backward()
        assert {parameter.grad.dtype for parameter in trained.parameters()} == {torch.float32}
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in trained.parameters()]))
    in_float32, in_autocast = gradients
    assert relative_error(in_autocast, in_float32.double()) < 8 * torch.finfo(torch.bfloat16).eps


@for_each_half
def test_padding_and_empty_rows_stay_finite_in_half_precision(dtype):
    input_ids = padded_batch()
    input_ids[2] = 0
    half = copy.deepcopy(MODELS["cured"]).to(dtype)
    logits = half(input_ids).logits
    assert logits.isfinite().all()
    logits.float().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in half.parameters())
