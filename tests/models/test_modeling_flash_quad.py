import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flash import FLASHQuadForMaskedLM, FLASHQuadForSequenceClassification, FLASHQuadModel
from flash.errors import InputError

from helpers import (
    CURED,
    EARLIER,
    EXACT,
    FLOAT64,
    few_examples,
    for_each_setting,
    normal,
    random_tokens,
    relative_error,
    tiny_config,
)
from random_models import our_name, random_model, transcribe, used_by
from transcription import sinusoid_table

# the transcription has no name for a Toeplitz bias above 512 positions or a rotary one below
TRANSCRIBED = {
    "earlier": EARLIER,
    "earlier with layer norm": {"norm_type": "layer_norm"},
    "earlier with relu": {"hidden_act": "relu"},
    "earlier above 512 positions": {"max_position_embeddings": 513},
    "cured": CURED,
    "cured with layer norm": CURED | {"norm_type": "layer_norm"},
    "cured above 512 positions": CURED | {"max_position_embeddings": 513},
    "one wide layer": {"num_hidden_layers": 1, "expansion_factor": 3, "type_vocab_size": 3},
}
for_each_transcribed = pytest.mark.parametrize("settings", TRANSCRIBED.values(), ids=TRANSCRIBED.keys())


def in_float64(checkpoint, config):
    """Leaves for autograd; one for each tied pair, and constants that are not rounded to float32."""
    leaves = {name: value.double().requires_grad_() for name, value in used_by(config, checkpoint).items()}
    leaves["cls.predictions.decoder.weight"] = leaves["flash_quad.embeddings.word_embeddings.weight"]
    leaves["cls.predictions.decoder.bias"] = leaves["cls.predictions.bias"]
    length, dim = config.max_position_embeddings, config.hidden_size
    constants = {"position_ids": torch.arange(length)[None], "scaledsin_embeddings": sinusoid_table(length, dim)}
    return leaves | {f"flash_quad.embeddings.{name}": value for name, value in constants.items()}


def padded_batch():
    input_ids = random_tokens(2, 9)
    input_ids[1, 6:] = 0
    token_type_ids = (torch.arange(9) > 3).long().expand(2, 9)
    return input_ids, token_type_ids


@for_each_transcribed
def test_logits_hidden_states_and_attentions_are_those_of_the_transcription(settings):
    model, checkpoint = random_model(**settings)
    input_ids, token_type_ids = padded_batch()
    outputs = model.double()(
        input_ids, token_type_ids=token_type_ids, output_hidden_states=True, output_attentions=True
    )
    logits, hidden_states, attentions = transcribe(
        in_float64(checkpoint, model.config), model.config, input_ids, token_type_ids=token_type_ids
    )
    torch.testing.assert_close(outputs.attentions, tuple(attentions), **FLOAT64)
    real = input_ids != 0  # a padded token is its own affair
    torch.testing.assert_close(outputs.logits[real], logits[real], **FLOAT64)
    assert len(outputs.hidden_states) == len(hidden_states)
    for ours, expected in zip(outputs.hidden_states, hidden_states, strict=True):
        torch.testing.assert_close(ours[real], expected[real], **FLOAT64)
    for layer_attention in attentions:  # neither nothing nor everything is attended to
        assert 0.1 < layer_attention.gt(0).double().mean() < 0.9


@for_each_transcribed
def test_the_gradient_of_every_parameter_is_that_of_the_transcription(settings):
    model, checkpoint = random_model(**settings)
    input_ids, token_type_ids = padded_batch()
    leaves = in_float64(checkpoint, model.config)
    expected, _, _ = transcribe(leaves, model.config, input_ids, token_type_ids=token_type_ids)
    logits = model.double()(input_ids, token_type_ids=token_type_ids).logits
    real = input_ids != 0
    direction = normal(*logits.shape)
    (logits * direction)[real].sum().backward()
    (expected * direction)[real].sum().backward()
    gradients = {our_name(name): leaf.grad for name, leaf in leaves.items() if leaf.requires_grad}
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], **FLOAT64, msg=lambda m, name=name: f"{name}: {m}")
        assert parameter.grad.abs().max() > 1e-3, name


@pytest.mark.parametrize("seed", range(3))
@for_each_transcribed
def test_float32_errs_at_most_twice_as_much_as_the_transcription_in_float32(settings, seed, monkeypatch):
    model, checkpoint = random_model(seed=seed, **settings)
    input_ids, _ = padded_batch()
    real = input_ids != 0
    with torch.no_grad():
        exact, _, _ = transcribe(in_float64(checkpoint, model.config), model.config, input_ids)
        monkeypatch.setattr(torch.Tensor, "double", torch.Tensor.float)  # the same formulas in float32
        in_float32, _, _ = transcribe(checkpoint, model.config, input_ids)
        monkeypatch.undo()
        logits = model(input_ids).logits
    assert in_float32.dtype == logits.dtype == torch.float32
    assert relative_error(logits[real], exact[real]) <= 2 * relative_error(in_float32[real], exact[real])


@for_each_setting
def test_hidden_states_are_the_embeddings_then_each_layer_and_last_the_final_output(settings):
    model, _ = random_model(**settings)
    encoder = model.flash_quad
    seen = {}
    for name, module in {"embeddings": encoder.embeddings, "first layer": encoder.layers[0]}.items():
        module.register_forward_hook(lambda module, args, output, name=name: seen.__setitem__(name, output))
    outputs = encoder(random_tokens(2, 5), output_hidden_states=True)
    assert len(outputs.hidden_states) == model.config.num_hidden_layers + 1
    assert outputs.hidden_states[0] is seen["embeddings"]
    assert outputs.hidden_states[1] is seen["first layer"][0]
    assert outputs.hidden_states[-1] is outputs.last_hidden_state


def test_the_final_norm_is_part_of_the_last_hidden_state():
    model, _ = random_model(**CURED)
    last = model.flash_quad(random_tokens(2, 5)).last_hidden_state
    gain = model.flash_quad.final_norm.scale
    torch.testing.assert_close(last.square().mean(dim=-1).sqrt(), gain.expand(2, 5))


@for_each_setting
def test_attentions_are_the_tensors_that_the_output_was_computed_from(settings):
    model, _ = random_model(**settings)
    outputs = model(random_tokens(2, 5), output_attentions=True)
    assert [tuple(attention.shape) for attention in outputs.attentions] == [(2, 5, 5)] * 2
    for gradient in torch.autograd.grad(outputs.logits.sum(), outputs.attentions):
        assert gradient.abs().max() > 0


@for_each_setting
@pytest.mark.parametrize("head", [None, FLASHQuadForMaskedLM, FLASHQuadForSequenceClassification])
def test_return_dict_false_gives_a_tuple_of_the_same_content(settings, head):
    model = (head or FLASHQuadModel)(tiny_config(**settings)).eval()
    options = {"output_hidden_states": True, "output_attentions": True}
    if head is not None:
        options["labels"] = random_tokens(2, 5) if head is FLASHQuadForMaskedLM else torch.tensor([0, 1])
    outputs = model(random_tokens(2, 5), **options)
    as_tuple = model(random_tokens(2, 5), return_dict=False, **options)
    assert isinstance(as_tuple, tuple)
    assert len(as_tuple) == len(outputs.keys()) == (3 if head is None else 4)
    torch.testing.assert_close(as_tuple, outputs.to_tuple(), **EXACT)


def test_outputs_are_recorded_on_request_of_the_configuration_or_the_call_alone():
    plain = FLASHQuadModel(tiny_config())
    assert list(plain(random_tokens(1, 3)).keys()) == ["last_hidden_state"]
    recording = FLASHQuadModel(tiny_config(output_hidden_states=True, output_attentions=True))
    outputs = recording(random_tokens(1, 3))
    assert (len(outputs.hidden_states), len(outputs.attentions)) == (3, 2)
    outputs = recording(random_tokens(1, 3), output_attentions=False)
    assert (len(outputs.hidden_states), outputs.attentions) == (3, None)


@for_each_setting
def test_word_embeddings_may_be_given_in_place_of_ids(settings):
    model, _ = random_model(**settings)
    input_ids, token_type_ids = padded_batch()
    by_ids = model(input_ids, token_type_ids=token_type_ids)
    inputs_embeds = model.get_input_embeddings()(input_ids)
    by_embeds = model(inputs_embeds=inputs_embeds, attention_mask=input_ids != 0, token_type_ids=token_type_ids)
    torch.testing.assert_close(by_embeds.logits, by_ids.logits, **EXACT)


@few_examples
@given(st.integers(1, 20), st.integers(1, 3))
def test_any_length_and_batch_size_gives_logits_for_every_token(length, batch_size):
    model, _ = random_model(**CURED)
    logits = model(random_tokens(batch_size, length)).logits
    assert logits.shape == (batch_size, length, model.config.vocab_size)
    assert logits.isfinite().all()


def test_dropout_changes_the_output_in_training_only():
    torch.manual_seed(0)
    model = FLASHQuadModel(tiny_config(dropout=0.5))
    input_ids = random_tokens(1, 5)

    def run():
        return model(input_ids).last_hidden_state

    assert not torch.equal(run(), run())
    model.eval()
    assert torch.equal(run(), run())


@pytest.mark.parametrize(
    "arguments",
    [{}, {"input_ids": random_tokens(1, 3), "inputs_embeds": torch.zeros(1, 3, 16)}],
    ids=["neither", "both"],
)
@pytest.mark.parametrize("model_class", [FLASHQuadModel, FLASHQuadForMaskedLM, FLASHQuadForSequenceClassification])
def test_one_of_ids_and_embeddings_must_be_given(model_class, arguments):
    with pytest.raises(InputError, match="give exactly one of input_ids and inputs_embeds"):
        model_class(tiny_config())(**arguments)


@pytest.mark.parametrize("shape", [(2, 4), (5,), (1, 5), (2, 5, 5), (2, 1, 1, 5)])
def test_a_mask_of_another_shape_is_refused(shape):
    with pytest.raises(InputError) as refused:
        FLASHQuadModel(tiny_config())(random_tokens(2, 5), attention_mask=torch.ones(shape))
    message = str(refused.value)
    assert message.startswith("attention_mask must have the shape (batch_size, sequence_length) = (2, 5)")
    assert message.endswith(f"got {shape}")
