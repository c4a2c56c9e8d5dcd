from dataclasses import replace

import pytest

from flash.inspection.distribution import Distribution
from flash.inspection.findings import find_warnings
from flash.inspection.layers import LayerMeasures, StackMeasures, UniformAttention
from flash.inspection.lengths import LengthMeasures

USUAL = Distribution(0.5, 0.4, 0.6)
LAYER = LayerMeasures(
    layer=1,
    cosine=USUAL,
    update=USUAL,
    rms=USUAL,
    distance=USUAL,
    zero_share=USUAL,
    effective_keys=USUAL,
    self_share=USUAL,
    empty_share=0.0,
    finite=True,
)
LENGTH = LengthMeasures(
    setting="within",
    length=256.0,
    sentences=32,
    masked_tokens=100,
    loss=4.0,
    accuracy=0.3,
    loss_change=0.0,
    loss_change_error=0.05,
    hidden_cosine=USUAL,
    kl_divergence=0.1,
    distinct_predictions=0.5,
    distinct_alone=0.5,
)


def warnings_of(layers=(LAYER,), lengths=(LENGTH,)):
    return find_warnings(StackMeasures(USUAL, list(layers), UniformAttention(40.0, 0.01)), lengths)


def of(mean):
    return Distribution(mean, mean, mean)


def test_a_usual_model_has_none():
    assert warnings_of() == []


def test_layers_are_named_in_runs():
    updates = [0.001, 0.5, 0.002, 0.003, 0.004]
    layers = [replace(LAYER, layer=number, update=of(update)) for number, update in enumerate(updates, start=1)]
    (warning,) = warnings_of(layers)
    assert warning == "layers 1, 3 to 5 of 5: change the stream by less than 1% (mean |output - input| / |input|)"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"update": of(0.0099)}, "change the stream by less than 1%"),
        ({"effective_keys": of(0.96)}, "attend almost uniformly"),
        ({"self_share": of(0.91)}, "attend to little but the token itself"),
        ({"empty_share": 0.11}, "leave more than 10% of the tokens without any attention weight"),
        ({"finite": False}, "give numbers that are not finite"),
    ],
)
def test_each_threshold_of_a_layer_has_its_sentence(change, words):
    (warning,) = warnings_of([replace(LAYER, **change)])
    assert warning.startswith("layer 1 of 1: ")
    assert words in warning


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"loss_change": 0.2}, "inside 256 tokens the loss is 0.20 nats higher than alone"),
        ({"distinct_predictions": 0.1}, "inside 256 tokens the predictions have fewer than 33%"),
        ({"setting": "padded_left", "kl_divergence": 0.01}, "padding on the left changes predictions"),
    ],
)
def test_each_threshold_of_a_length_has_its_sentence(change, words):
    (warning,) = warnings_of(lengths=[replace(LENGTH, **change)])
    assert words in warning


@pytest.mark.parametrize(
    "change", [{"loss_change": 0.09, "loss_change_error": 0.001}, {"loss_change": 0.2, "loss_change_error": 0.11}]
)
def test_a_rise_of_the_loss_within_its_error_or_too_small_is_none(change):
    assert warnings_of(lengths=[replace(LENGTH, **change)]) == []


def test_what_has_no_number_exceeds_no_threshold():
    nothing = Distribution(None, None, None)
    layer = replace(LAYER, update=nothing, effective_keys=nothing, self_share=nothing)
    length = replace(LENGTH, loss_change=None, loss_change_error=None, kl_divergence=None)
    assert warnings_of([layer], [length, replace(length, setting="padded_right")]) == []
