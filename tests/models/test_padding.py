"""Padding changes no real token, a batch equals its rows. In float32, with weights that let any leak show."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flash import FLASHQuadForMaskedLM

from helpers import CURED, EARLIER, EXACT, FLOAT32, few_examples, for_each_setting, random_tokens, tiny_config
from random_models import random_model

MODELS = {
    "earlier": random_model(**EARLIER)[0],
    "cured": random_model(**CURED)[0],
    "earlier above 512 positions": random_model(max_position_embeddings=513)[0],
    "cured with layer norm": random_model(**CURED, norm_type="layer_norm")[0],
}
for_each_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())


@torch.no_grad()
def logits_of(model, input_ids, **options):
    return model(input_ids, **options).logits


@for_each_model
@few_examples
@given(st.integers(1, 9), st.integers(0, 8), st.integers(0, 8), st.integers(0, 1000))
def test_padding_on_either_side_changes_no_real_token(model, length, left, right, seed):
    input_ids = random_tokens(1, length, seed=seed)
    padded = torch.nn.functional.pad(input_ids, (left, right))
    alone = logits_of(model, input_ids)
    torch.testing.assert_close(logits_of(model, padded)[:, left : left + length], alone, **FLOAT32)


@for_each_model
@few_examples
@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 1000))
def test_what_stands_in_a_padded_place_has_no_influence(model, left, right, seed):
    attention_mask = torch.zeros(1, left + 5 + right, dtype=torch.long)
    attention_mask[:, left : left + 5] = 1
    input_ids = random_tokens(1, left + 5 + right, seed=seed)
    other_ids = torch.where(attention_mask.bool(), input_ids, random_tokens(1, input_ids.shape[1], seed=seed + 1))
    other_types = 1 - attention_mask
    real = attention_mask.bool()
    before = logits_of(model, input_ids, attention_mask=attention_mask)
    after = logits_of(model, other_ids, attention_mask=attention_mask, token_type_ids=other_types)
    torch.testing.assert_close(after[real], before[real], **EXACT)


@for_each_model
def test_a_batch_equals_its_rows_one_by_one(model):
    lengths = [1, 4, 9, 6]
    rows = [random_tokens(1, length, seed=length) for length in lengths]
    batch = torch.cat([torch.nn.functional.pad(row, (0, 9 - row.shape[1])) for row in rows])
    together = logits_of(model, batch)
    for index, row in enumerate(rows):
        torch.testing.assert_close(together[index, : row.shape[1]], logits_of(model, row)[0], **FLOAT32)


@for_each_model
def test_padding_inside_a_sequence_is_not_attended_to(model):
    input_ids = random_tokens(1, 6)
    input_ids[0, 3] = 0
    outputs = model(input_ids, output_attentions=True)
    for attention in outputs.attentions:
        assert not attention[0, 3].any()
        assert not attention[0, :, 3].any()
        assert attention.any()


@for_each_model
def test_the_default_mask_is_where_the_padding_token_is_not(model):
    input_ids = random_tokens(2, 6)
    input_ids[0, :2] = input_ids[1, 4:] = 0
    expected = logits_of(model, input_ids, attention_mask=input_ids != 0)
    assert torch.equal(logits_of(model, input_ids), expected)
    everything_real = logits_of(model, input_ids, attention_mask=torch.ones(2, 6))
    assert (everything_real - expected)[input_ids != 0].abs().max() > 1e-2


def test_another_padding_token_or_none_decides_the_default_mask():
    input_ids = torch.tensor([[3, 4, 5, 7, 7], [3, 4, 5, 6, 0]])
    for pad_token_id in (7, None):
        torch.manual_seed(0)
        model = FLASHQuadForMaskedLM(tiny_config(pad_token_id=pad_token_id)).eval()
        model.config.attention_backend = "reference"  # the one that has the weights
        attention_mask = input_ids != 7 if pad_token_id == 7 else torch.ones(2, 5)
        outputs = model(input_ids, output_attentions=True)
        assert torch.equal(outputs.logits, logits_of(model, input_ids, attention_mask=attention_mask))
        assert torch.equal(outputs.attentions[0][0, :, 4].any(), torch.tensor(pad_token_id is None))


@for_each_model
@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.float32])
def test_bool_and_number_masks_agree(model, dtype):
    input_ids = random_tokens(2, 6)
    mask = torch.tensor([[False, True, True, True, True, True], [True, True, True, True, False, False]])
    as_bool = logits_of(model, input_ids, attention_mask=mask)
    assert torch.equal(logits_of(model, input_ids, attention_mask=mask.to(dtype)), as_bool)


@for_each_model
def test_positions_are_counted_from_the_first_real_token_unless_given(model):
    input_ids = random_tokens(2, 6)
    input_ids[0, :2] = 0
    position_ids = torch.tensor([[0, 0, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5]])
    by_default = logits_of(model, input_ids)
    assert torch.equal(logits_of(model, input_ids, position_ids=position_ids), by_default)
    shifted = logits_of(model, input_ids, position_ids=position_ids + 1)
    assert (shifted - by_default)[input_ids != 0].abs().max() > 1e-3


@for_each_model
def test_positions_act_through_the_sinusoid_alone(model):
    # the attention sees distances: other position ids change the embeddings and nothing else
    input_ids = random_tokens(1, 6)
    model = copy.deepcopy(model)
    model.flash_quad.embeddings.position_embeddings.scale.data.zero_()
    without = logits_of(model, input_ids, position_ids=torch.arange(6)[None] + 40)
    assert torch.equal(without, logits_of(model, input_ids))


@for_each_setting
def test_a_row_of_nothing_but_padding_gives_finite_outputs_and_gradients(settings):
    model, _ = random_model(**settings)
    input_ids = random_tokens(2, 5)
    input_ids[1] = 0
    logits = model(input_ids).logits
    assert logits.isfinite().all()
    logits.sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
    alone = logits_of(model, input_ids[:1])
    torch.testing.assert_close(logits[:1].detach(), alone, **FLOAT32)
