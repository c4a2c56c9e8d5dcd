import pytest
import torch
from torch.nn import functional as F

from flash import FLASHQuadForSequenceClassification

from helpers import FLOAT64, for_each_setting, normal, random_tokens, tiny_config
from random_models import random_model


def random_classifier(settings=None, **changes):
    """A classifier over the encoder of ``random_model``, in float64 and evaluation mode."""
    masked_lm, _ = random_model(**(settings or {}))
    model = FLASHQuadForSequenceClassification(tiny_config(**(settings or {}) | changes)).double().eval()
    model.flash_quad.load_state_dict(masked_lm.flash_quad.state_dict())
    out_proj = model.classifier.out_proj
    out_proj.weight.data, out_proj.bias.data = normal(*out_proj.weight.shape), normal(model.num_labels)
    return model


CLASSES = torch.tensor([2, 0, 1])
VALUES = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
SEVERAL_VALUES = normal(3, 3, seed=5)
SEVERAL_LABELS = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("problem_type", "num_labels", "labels", "expected"),
    [
        ("single_label_classification", 3, CLASSES, lambda logits: F.cross_entropy(logits, CLASSES)),
        ("regression", 1, VALUES, lambda logits: (logits[:, 0] - VALUES).square().mean()),
        ("regression", 3, SEVERAL_VALUES, lambda logits: (logits - SEVERAL_VALUES).square().mean()),
        (
            "multi_label_classification",
            3,
            SEVERAL_LABELS,
            lambda logits: -torch.where(SEVERAL_LABELS == 1, F.logsigmoid(logits), F.logsigmoid(-logits)).mean(),
        ),
    ],
    ids=["single label", "one value", "several values", "several labels"],
)
def test_each_problem_type_has_its_loss(problem_type, num_labels, labels, expected):
    model = random_classifier(num_labels=num_labels, problem_type=problem_type)
    outputs = model(random_tokens(3, 5), labels=labels)
    assert outputs.logits.shape == (3, num_labels)
    torch.testing.assert_close(outputs.loss, expected(outputs.logits), **FLOAT64)
    outputs.loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("problem_type", "num_labels", "labels"),
    [
        ("single_label_classification", 3, CLASSES),
        ("regression", 1, VALUES),
        ("multi_label_classification", 3, SEVERAL_LABELS),
    ],
)
def test_an_unnamed_problem_type_follows_from_the_labels(problem_type, num_labels, labels):
    model = random_classifier(num_labels=num_labels)
    assert model.config.problem_type is None
    loss = model(random_tokens(3, 5), labels=labels).loss
    assert model.config.problem_type == problem_type
    torch.testing.assert_close(model(random_tokens(3, 5), labels=labels).loss, loss)


@for_each_setting
@pytest.mark.parametrize(("left", "right"), [(0, 0), (0, 4), (3, 0), (2, 5)])
def test_the_first_real_token_is_classified_whatever_the_padding(settings, left, right):
    model = random_classifier(settings, num_labels=3)
    input_ids = random_tokens(2, 5)
    alone = model(input_ids).logits
    padded = F.pad(input_ids, (left, right))
    torch.testing.assert_close(model(padded).logits, alone, **FLOAT64)
    torch.testing.assert_close(model(padded, attention_mask=(padded != 0).long()).logits, alone, **FLOAT64)
    first = model.flash_quad(padded).last_hidden_state[:, left]
    torch.testing.assert_close(model.classifier.out_proj(first), alone, **FLOAT64)


def test_rows_padded_differently_are_each_classified_by_their_own_first_token():
    model = random_classifier(num_labels=3)
    rows = [random_tokens(1, length, seed=length) for length in (6, 3, 5)]
    batch = torch.cat([F.pad(rows[0], (0, 0)), F.pad(rows[1], (3, 0)), F.pad(rows[2], (1, 0))])
    one_by_one = torch.cat([model(row).logits for row in rows])
    torch.testing.assert_close(model(batch).logits, one_by_one, **FLOAT64)


@for_each_setting
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("left", "right"), [(0, 0), (0, 4), (3, 0), (2, 5)])
def test_means_are_of_the_real_tokens_whatever_the_padding(settings, causal, left, right):
    input_ids = random_tokens(2, 5)
    padded = F.pad(input_ids, (left, right))
    model = random_classifier(settings, num_labels=3, causal=causal, classifier_pooling="mean")
    states = model.flash_quad(input_ids).last_hidden_state
    mean = sum(states[:, place] for place in range(5)) / 5
    mask = (padded != 0).long()
    torch.testing.assert_close(model(input_ids).logits, model.classifier.out_proj(mean), **FLOAT64)
    torch.testing.assert_close(model(padded, attention_mask=mask).logits, model(input_ids).logits, **FLOAT64)
    if not causal:  # a causal model reads padding that no mask hides
        torch.testing.assert_close(model(padded).logits, model(input_ids).logits, **FLOAT64)
    model.config.classifier_pooling = "cls_plus_mean"
    both = states[:, -1 if causal else 0] + mean
    torch.testing.assert_close(model(padded, attention_mask=mask).logits, model.classifier.out_proj(both), **FLOAT64)


def test_a_row_of_padding_alone_has_a_mean_of_zeros():
    model = random_classifier(num_labels=3, classifier_pooling="mean")
    logits = model(torch.zeros(2, 4, dtype=torch.long)).logits
    torch.testing.assert_close(logits, model.classifier.out_proj.bias.expand(2, 3), **FLOAT64)


def test_a_mean_of_many_bfloat16_tokens_is_as_exact_as_its_inputs():
    model = random_classifier(num_labels=3, classifier_pooling="mean").bfloat16()
    states = torch.full((1, 3000, 2), 1.0, dtype=torch.bfloat16)
    assert torch.equal(model.pool(states, None, torch.ones(1, 3000)), torch.ones(1, 2, dtype=torch.bfloat16))


def test_without_mask_or_padding_token_the_first_place_is_classified():
    input_ids = random_tokens(2, 5)
    with_token = random_classifier(num_labels=3)
    without_token = random_classifier(num_labels=3)
    without_token.config.pad_token_id = None
    embeds = with_token.get_input_embeddings()(input_ids)
    expected = with_token(input_ids).logits
    torch.testing.assert_close(without_token(input_ids).logits, expected, **FLOAT64)
    torch.testing.assert_close(with_token(inputs_embeds=embeds).logits, expected, **FLOAT64)


@pytest.mark.parametrize(
    ("dropouts", "rate"),
    [({}, 0.1), ({"classifier_dropout": 0.4}, 0.4), ({"dropout": 0.3, "classifier_dropout": None}, 0.3)],
)
def test_the_rate_of_dropout_is_that_of_the_classifier_or_else_of_the_model(dropouts, rate):
    assert FLASHQuadForSequenceClassification(tiny_config(**dropouts)).classifier.dropout.p == rate


def test_dropout_changes_the_logits_in_training_only():
    torch.manual_seed(0)
    model = random_classifier(num_labels=3, classifier_dropout=0.5)
    input_ids = random_tokens(2, 5)
    assert torch.equal(model(input_ids).logits, model(input_ids).logits)
    model.train()
    assert not torch.equal(model(input_ids).logits, model(input_ids).logits)
