import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import DataCollatorWithFlattening

from flash import FLASHQuadForMaskedLM
from flash.errors import InputError

from helpers import CURED, EARLIER, EXACT, FLOAT64, VOCABULARY, for_each_setting, random_tokens, tiny_config
from random_models import random_model

STARTS = {
    "earlier": EARLIER,
    "cured": CURED,
    "earlier with rotary product": {"relative_bias": "rotary_product"},
    "cured with rotary product": CURED | {"relative_bias": "rotary_product"},
    "cured with layer norm": CURED | {"norm_type": "layer_norm"},
    "cured with rms norm": CURED | {"norm_type": "rms_norm"},
}


def labelled_batch():
    input_ids, labels = random_tokens(2, 7), random_tokens(2, 7, seed=1)
    scored = torch.zeros(2, 7, dtype=torch.bool)
    scored[0, 1] = scored[0, 4] = scored[1, 0] = True
    return input_ids, labels.masked_fill(~scored, -100), scored


def cross_entropies(logits, labels):
    """-log softmax(logits)[label] of each scored position."""
    scored = labels != -100
    return torch.logsumexp(logits[scored], dim=-1) - logits[scored].gather(1, labels[scored][:, None])[:, 0]


@for_each_setting
@pytest.mark.parametrize("scored_logits_only", [False, True])
def test_the_loss_is_the_mean_cross_entropy_over_scored_positions(settings, scored_logits_only):
    model, _ = random_model(**settings)
    input_ids, labels, _ = labelled_batch()
    expected = cross_entropies(model(input_ids).logits, labels).mean()
    loss = model(input_ids, labels=labels, scored_logits_only=scored_logits_only).loss
    torch.testing.assert_close(loss, expected)


@for_each_setting
def test_scored_logits_are_the_rows_of_the_full_logits_in_the_order_of_the_labels(settings):
    model, _ = random_model(**settings)
    model.double()
    input_ids, labels, scored = labelled_batch()
    full = model(input_ids, labels=labels)
    rows = model(input_ids, labels=labels, scored_logits_only=True)
    assert rows.logits.shape == (3, VOCABULARY)
    torch.testing.assert_close(rows.logits, full.logits[scored], **FLOAT64)
    # transformers computes the loss in float32
    torch.testing.assert_close(rows.loss, full.loss)


def test_only_scored_logits_are_computed_while_training_with_labels_unless_asked_otherwise():
    model = FLASHQuadForMaskedLM(tiny_config())
    input_ids, labels, _ = labelled_batch()
    full, scored = (2, 7, VOCABULARY), (3, VOCABULARY)
    assert model.eval()(input_ids, labels=labels).logits.shape == full
    assert model.train()(input_ids, labels=labels).logits.shape == scored
    assert model.train()(input_ids).logits.shape == full
    assert model.train()(input_ids, labels=labels, scored_logits_only=False).logits.shape == full


@pytest.mark.parametrize("count", [3, 5, 14])
def test_a_fixed_number_of_logits_begins_with_the_scored_ones(count):
    model, _ = random_model(**CURED)
    model.double()
    input_ids, labels, scored = labelled_batch()
    full = model(input_ids, labels=labels)
    rows = model(input_ids, labels=labels, scored_logits_only=count)
    assert rows.logits.shape == (count, VOCABULARY)
    torch.testing.assert_close(rows.logits[:3], full.logits[scored], **FLOAT64)
    torch.testing.assert_close(rows.loss, full.loss)
    gradients = [torch.autograd.grad(each.loss, model.lm_head.dense.weight)[0] for each in (rows, full)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("count", "message"), [(2, "is 2, but 3 positions are scored"), (0, "between 1 and 14"), (15, "between 1 and 14")]
)
def test_a_number_of_logits_that_does_not_fit_is_refused(count, message):
    input_ids, labels, _ = labelled_batch()
    with pytest.raises(InputError, match=message):
        random_model(**CURED)[0](input_ids, labels=labels, scored_logits_only=count)


def test_one_graph_serves_any_number_of_labels():
    script = Path(__file__).with_name("compile_scored_positions.py")
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    found = json.loads(ran.stdout)
    assert found["graphs"] == 1
    assert found["differences"] == pytest.approx([0.0] * 5, abs=1e-6)
    assert "more than scored_logits_only=4 positions are scored" in found["refusal"]


def test_scored_logits_without_labels_are_refused():
    with pytest.raises(InputError, match="scored_logits_only needs labels: they say which positions are scored"):
        FLASHQuadForMaskedLM(tiny_config())(random_tokens(1, 3), scored_logits_only=True)


@pytest.mark.parametrize("training", [False, True])
def test_losses_of_parts_with_the_count_of_all_add_up_to_the_loss_of_all(training):
    model = random_model(**CURED)[0].train(training)
    input_ids, labels, scored = labelled_batch()
    together = model(input_ids, labels=labels).loss
    parts = [
        model(input_ids[row : row + 1], labels=labels[row : row + 1], num_items_in_batch=scored.sum()).loss
        for row in range(2)
    ]
    torch.testing.assert_close(sum(parts), together)
    doubled = model(input_ids, labels=labels, num_items_in_batch=2 * int(scored.sum())).loss
    torch.testing.assert_close(2 * doubled, together)


@for_each_setting
@pytest.mark.parametrize("training", [False, True])
def test_nothing_scored_gives_the_loss_0_and_gradients_of_0(settings, training):
    model = random_model(**settings)[0].train(training)
    input_ids = random_tokens(2, 7)
    loss = model(input_ids, labels=torch.full_like(input_ids, -100)).loss
    assert loss.item() == 0.0
    loss.backward()
    for name, parameter in model.named_parameters():
        assert not parameter.grad.any(), name


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("settings", STARTS.values(), ids=STARTS.keys())
def test_every_parameter_of_a_new_model_gets_a_gradient(settings, tied):
    input_ids, labels, _ = labelled_batch()
    without = []
    for seed in range(3):
        torch.manual_seed(seed)
        model = FLASHQuadForMaskedLM(tiny_config(**settings, tie_word_embeddings=tied)).train()
        model(input_ids, labels=labels).loss.backward()
        # plain DistributedDataParallel raises where there is none
        assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
        without.append({name for name, parameter in model.named_parameters() if not parameter.grad.any()})
    # a start may give a layer negative scores only, and so no gradient yet, but not every start
    assert set.intersection(*without) == set()


def weights_are_tied(model):
    return model.get_output_embeddings().weight is model.get_input_embeddings().weight


def biases_are_tied(model):
    return model.lm_head.decoder.bias is model.lm_head.bias


@for_each_setting
@pytest.mark.parametrize("size", [VOCABULARY + 3, VOCABULARY - 3])
@torch.no_grad()
def test_resizing_the_vocabulary_keeps_the_ties_and_the_logits_of_old_tokens(settings, size):
    model, _ = random_model(**settings)
    assert weights_are_tied(model)
    assert biases_are_tied(model)
    kept = min(size, VOCABULARY)
    input_ids = random_tokens(2, 6).clamp(max=kept - 1)
    before = model(input_ids).logits
    model.resize_token_embeddings(size)
    assert weights_are_tied(model)
    assert biases_are_tied(model)
    assert model.config.vocab_size == model.lm_head.decoder.out_features == size
    after = model(input_ids).logits
    assert after.shape == (2, 6, size)
    torch.testing.assert_close(after[..., :kept], before[..., :kept], rtol=1e-5, atol=1e-5)
    loss = model(input_ids, labels=input_ids).loss
    torch.testing.assert_close(loss, cross_entropies(after, input_ids).mean())


@torch.no_grad()
def test_resizing_an_untied_model_keeps_both_matrices_apart():
    model = FLASHQuadForMaskedLM(tiny_config(tie_word_embeddings=False)).eval()
    input_ids = random_tokens(2, 6)
    before = model(input_ids).logits
    model.resize_token_embeddings(VOCABULARY + 3)
    torch.testing.assert_close(model(input_ids).logits[..., :VOCABULARY], before)
    assert not weights_are_tied(model)


def test_input_embeddings_can_be_replaced_and_stay_tied():
    model = FLASHQuadForMaskedLM(tiny_config())
    replacement = torch.nn.Embedding(VOCABULARY, 16)
    model.set_input_embeddings(replacement)
    model.tie_weights()
    assert model.get_input_embeddings() is replacement
    assert weights_are_tied(model)
    assert biases_are_tied(model)


def test_the_decoder_can_be_replaced_and_its_bias_stays_when_ties_are_renewed():
    model = FLASHQuadForMaskedLM(tiny_config())
    replacement = torch.nn.Linear(16, VOCABULARY)
    bias = replacement.bias.detach().clone()
    model.set_output_embeddings(replacement)
    model.tie_weights()
    assert model.get_output_embeddings() is replacement
    assert weights_are_tied(model)
    assert biases_are_tied(model)
    assert torch.equal(replacement.bias, bias)


def test_labels_do_not_change_the_logits():
    model, _ = random_model(**CURED)
    input_ids, labels, _ = labelled_batch()
    torch.testing.assert_close(model(input_ids, labels=labels).logits, model(input_ids).logits, **EXACT)


def test_a_tiny_cured_model_overfits_ten_lines():
    torch.manual_seed(0)
    lines = random_tokens(10, 12)
    # the same two places are hidden in every line, so that only the rest of a line can tell what stood there
    hidden = torch.zeros_like(lines, dtype=torch.bool)
    hidden[:, [3, 8]] = True
    input_ids, labels = lines.masked_fill(hidden, 1), lines.masked_fill(~hidden, -100)
    model = FLASHQuadForMaskedLM(tiny_config(**CURED, hidden_size=32)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(200):
        loss = model(input_ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.1
    model.eval()
    assert torch.equal(model(input_ids).logits.argmax(dim=-1)[hidden], lines[hidden])


@for_each_setting
def test_rows_flattened_by_the_collator_of_transformers_have_the_logits_they_have_apart(settings):
    model, _ = random_model(**settings)
    model.double()
    rows = [{"input_ids": ids, "labels": ids} for ids in ([5, 6, 7], [8, 9, 5, 6, 3], [4, 3])]
    batch = DataCollatorWithFlattening()(rows)
    assert "seq_idx" not in batch
    with torch.no_grad():
        apart = [model(torch.tensor([row["input_ids"]])).logits[0] for row in rows]
        torch.testing.assert_close(model(**batch).logits, torch.cat(apart)[None], **FLOAT64)
