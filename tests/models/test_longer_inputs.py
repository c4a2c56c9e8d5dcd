"""Inputs longer than ``max_position_embeddings``: the sinusoid, the rotary angles and the relative bias go on."""

import pytest
import torch

from flash import FLASHQuadForMaskedLM

from helpers import CURED, EARLIER, FLOAT64, random_tokens, tiny_config
from random_models import random_model
from transcription import rotate, sinusoid_table

LONGEST = 16
SETTINGS = {
    "earlier": EARLIER,
    "cured": CURED,
    "earlier with rotary product": {"relative_bias": "rotary_product"},
    "cured with rotary product": CURED | {"relative_bias": "rotary_product"},
}
for_each_bias = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())


def model_for(settings):
    if settings.get("relative_bias") == "rotary_product":
        torch.manual_seed(0)
        return FLASHQuadForMaskedLM(tiny_config(**settings, initializer_range=0.3)).eval()
    return random_model(**settings)[0]


@for_each_bias
@torch.no_grad()
def test_three_times_the_trained_length_gives_the_same_finite_logits_each_time(settings):
    model = model_for(settings)
    input_ids = random_tokens(2, 3 * LONGEST)
    logits = model(input_ids).logits
    assert logits.shape == (2, 3 * LONGEST, model.config.vocab_size)
    assert logits.isfinite().all()
    assert torch.equal(model(input_ids).logits, logits)


@for_each_bias
def test_the_bias_of_a_trained_distance_is_that_of_a_short_input(settings):
    relative_bias = model_for(settings).flash_quad.layers[0].relative_bias.double()
    trained, longer = relative_bias(LONGEST), relative_bias(3 * LONGEST)
    assert trained.abs().max() > 0
    for start in range(2 * LONGEST + 1):
        window = slice(start, start + LONGEST)
        torch.testing.assert_close(longer[window, window], trained, **FLOAT64)


def test_toeplitz_distances_beyond_the_trained_ones_take_the_weight_of_the_longest():
    relative_bias = model_for(EARLIER).flash_quad.layers[0].relative_bias
    bias = relative_bias(3 * LONGEST)
    distance = torch.arange(3 * LONGEST) - torch.arange(3 * LONGEST)[:, None]
    assert (bias[distance >= LONGEST] == relative_bias.weight[-1]).all()
    assert (bias[distance <= -LONGEST] == relative_bias.weight[0]).all()


def test_sinusoid_and_rotation_are_the_same_formula_at_every_position():
    model = model_for(EARLIER).double()
    length = 3 * LONGEST
    position_embeddings = model.flash_quad.embeddings.position_embeddings
    expected = position_embeddings.scale * sinusoid_table(length, model.config.hidden_size)
    torch.testing.assert_close(position_embeddings(torch.arange(length)), expected, **FLOAT64)

    seen = []
    layer = model.flash_quad.layers[0]
    layer.offset_scale.register_forward_hook(lambda module, args, copies: seen.append(copies))
    attention = model(random_tokens(1, length), output_attentions=True).attentions[0][0]
    query, key = (copy[0] for copy in seen[0])
    bias = layer.relative_bias(length)
    for i, j in [(0, length - 1), (length - 1, 0), (length - 1, length - 1), (20, 40), (40, 20)]:
        score = rotate(query[i], i) @ rotate(key[j], j) / LONGEST + bias[i, j]
        torch.testing.assert_close(attention[i, j], score.clamp(min=0) ** 2, **FLOAT64)


@for_each_bias
@torch.no_grad()
def test_a_short_sentence_padded_beyond_the_trained_length_keeps_its_logits(settings):
    model = model_for(settings).double()
    input_ids = random_tokens(1, 5)
    padded = torch.nn.functional.pad(input_ids, (LONGEST, 2 * LONGEST))
    logits = model(padded).logits[:, LONGEST : LONGEST + 5]
    # the rotary product bias at far positions differs from that at near ones by roundings
    torch.testing.assert_close(logits, model(input_ids).logits, rtol=1e-8, atol=1e-8)
