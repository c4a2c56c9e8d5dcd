import pytest
import torch

from flash import FLASHQuadForMaskedLM

from helpers import EXACT, for_each_setting, random_tokens, tiny_config


def model_with_counter(settings, **changes):
    """A model in training mode, and a list that grows by one with every pass through its first layer."""
    torch.manual_seed(0)
    model = FLASHQuadForMaskedLM(tiny_config(**settings, **changes)).train()
    passes = []
    model.flash_quad.layers[0].in_proj.register_forward_hook(lambda *_: passes.append(1))
    return model, passes


def backward(model):
    model(random_tokens(2, 7), labels=random_tokens(2, 7, seed=1)).loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def by_flag(settings):
    return model_with_counter(settings, gradient_checkpointing=True)


def by_call(settings):
    model, passes = model_with_counter(settings)
    model.gradient_checkpointing_enable()
    return model, passes


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
@pytest.mark.parametrize("checkpointed", [by_flag, by_call])
@for_each_setting
def test_activations_are_recomputed_and_the_gradients_stay_the_same(settings, checkpointed):
    plain, passes = model_with_counter(settings)
    expected = backward(plain)
    assert len(passes) == 1
    model, passes = checkpointed(settings)
    torch.testing.assert_close(backward(model), expected, **EXACT)
    assert len(passes) == 2


def test_nothing_is_recomputed_in_evaluation():
    model, passes = by_flag({})
    backward(model.eval())
    assert len(passes) == 1


def test_recorded_outputs_are_the_same_under_checkpointing():
    options = {"output_hidden_states": True, "output_attentions": True}
    expected = model_with_counter({})[0](random_tokens(1, 4), **options)
    outputs = by_flag({})[0](random_tokens(1, 4), **options)
    torch.testing.assert_close(outputs.to_tuple(), expected.to_tuple(), **EXACT)
