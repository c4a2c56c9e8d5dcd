"""Gains of norms go into the matrices behind them: the function stays, the sizes come near 1."""

import copy

import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from flash.models.scale_folding import fold_masked_lm, fold_scales

from families import GATED_FAMILIES, assert_same, examples, inputs_of, models, seeds, texts

FLOAT64 = 1e-9


@torch.no_grad()
def stretch(model, seed):
    """Give each norm a gain of another size, as training may; without the constant under the root."""
    sizes = torch.logspace(-1.5, 1.5, 7)[torch.randperm(7, generator=torch.Generator().manual_seed(seed))].tolist()
    norms = [module for module in model.modules() if hasattr(module, "eps")]
    for index, norm in enumerate(norms):
        norm.eps = 1e-30
        for parameter in norm.parameters():
            parameter.mul_(sizes[index % len(sizes)])


def gains(encoder):
    norms = [encoder.embeddings.norm, encoder.final_norm]
    norms += [norm for unit in encoder.layers for norm in (unit.norm, unit.attention_norm) if norm is not None]
    return [norm.scale if hasattr(norm, "scale") else norm.weight for norm in norms if list(norm.parameters())]


@examples(60)
@given(model=models("ForMaskedLM", families=GATED_FAMILIES), text=texts(), seed=seeds, tied=st.booleans())
def test_the_logits_stay_and_the_gains_come_near_1(model, text, seed, tied):
    stretch(model, seed)
    if not tied:
        model.lm_head.decoder.weight = torch.nn.Parameter(2 * model.lm_head.decoder.weight.detach())
    folded = copy.deepcopy(model)
    fold_masked_lm(folded)
    with torch.no_grad():
        assert_same(folded(**inputs_of(text)).logits, model(**inputs_of(text)).logits, FLOAT64)
    if model.config.norm_position == "post":
        assert all(torch.equal(*pair) for pair in zip(folded.parameters(), model.parameters(), strict=True))
    else:
        free = gains(folded.base_model)[0 if model.config.final_norm else 1 :]  # without a norm at its end the stream
        words = folded.get_input_embeddings().weight * model.config.hidden_size**0.5
        assert all(0.7 < each.square().mean().sqrt() < 1.42 for each in [words, *free])  # has a size of its own


@examples(30)
@given(model=models(families=GATED_FAMILIES), text=texts(), seed=seeds)
def test_the_output_has_another_size_and_the_same_direction(model, text, seed):
    assume(model.config.norm_position == "pre")
    stretch(model, seed)
    folded = copy.deepcopy(model)
    factor = 1.0 / fold_scales(folded).output
    with torch.no_grad():
        after, before = (each(**inputs_of(text)).last_hidden_state for each in (folded, model))
    assert_same(after, before * factor, FLOAT64)


@examples(20)
@given(model=models(families=GATED_FAMILIES), seed=seeds)
def test_what_is_folded_stays_as_it_is_and_keeps_its_digits(model, seed):
    stretch(model.bfloat16(), seed)
    digits = [parameter.float().frexp().mantissa for parameter in model.parameters()]
    fold_scales(model)
    assert all(torch.equal(p.float().frexp().mantissa, d) for p, d in zip(model.parameters(), digits, strict=True))
    again = copy.deepcopy(model)
    fold_scales(again)
    assert all(torch.equal(*pair) for pair in zip(again.parameters(), model.parameters(), strict=True))


@given(scale=st.sampled_from([0.0, float("nan"), float("inf")]), model=models(families=GATED_FAMILIES))
@examples(10)
def test_a_gain_without_a_size_is_left_alone(scale, model):
    with torch.no_grad():
        gains(model)[0].fill_(scale)
        fold_scales(model)
    assert all(parameter.isfinite().all() for parameter in model.layers.parameters())
