"""The losses of all heads: exact under gradient accumulation, the same in a subclass, float32 at least."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch.nn import functional as F
from transformers import Trainer, TrainingArguments

import flash
from flash.errors import InputError

from every_class import CLASSES, build, example, for_every_head
from helpers import FLOAT32, random_tokens

PROBLEMS = {
    "regression of one value": ({"problem_type": "regression", "num_labels": 1}, lambda row: float(row)),
    "regression of three": ({"problem_type": "regression"}, lambda row: [float(row), 1.0, -2.0]),
    "several labels": ({"problem_type": "multi_label_classification"}, lambda row: [float(row % 2), 1.0, 0.0]),
    "one label": ({"problem_type": "single_label_classification"}, lambda row: row % 3),
}


def rows_for(ending, label_of=None):
    """Eight rows in which unlike numbers of tokens are scored."""
    ids = random_tokens(8, 2, 9) if ending == "ForMultipleChoice" else random_tokens(8, 9)
    rows = [{"input_ids": x} for x in ids]
    for index, row in enumerate(rows):
        if label_of is not None:
            row["labels"] = label_of(index)
        elif ending == "ForMultipleChoice":
            row["labels"] = index % 2
        elif ending == "ForSequenceClassification":
            row["labels"] = index % 3
        else:
            labels = row["input_ids"] % 3 if ending == "ForTokenClassification" else row["input_ids"].clone()
            labels[: index % 7] = -100
            row["labels"] = labels
    return rows


def update(model, rows, folder, *, batch, accumulation):
    """Change of the parameters in one step of plain gradient descent."""
    before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        max_steps=1,
        learning_rate=1.0,
        lr_scheduler_type="constant",
        optim="sgd",
        max_grad_norm=0.0,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
        seed=0,
    )
    Trainer(model=model, args=arguments, train_dataset=rows).train()
    return torch.cat([p.detach().flatten() for p in model.parameters()]) - before


def without_dropout(family, ending, **changes):
    more = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0} if family == "GAUAlpha" else {}
    return build(family, ending, classifier_dropout=0.0, **more, **changes)


@pytest.mark.parametrize(
    "ending", ["ForMaskedLM", "ForCausalLM", "ForTokenClassification", "ForSequenceClassification", "ForMultipleChoice"]
)
def test_micro_batches_give_the_update_of_the_whole_batch(ending, tmp_path):
    whole, parts = (
        update(without_dropout("FLASH", ending), rows_for(ending), tmp_path, batch=batch, accumulation=8 // batch)
        for batch in (8, 2)
    )
    torch.testing.assert_close(parts, whole, **FLOAT32)
    assert whole.abs().max() > 1e-4


@pytest.mark.parametrize(("settings", "label_of"), PROBLEMS.values(), ids=PROBLEMS)
def test_so_do_those_of_every_problem_type(settings, label_of, tmp_path):
    ending = "ForSequenceClassification"
    whole, parts = (
        update(
            without_dropout("FLASHQuad", ending, **settings),
            rows_for(ending, label_of),
            tmp_path,
            batch=batch,
            accumulation=8 // batch,
        )
        for batch in (8, 2)
    )
    torch.testing.assert_close(parts, whole, **FLOAT32)
    assert whole.abs().max() > 1e-4


@for_every_head
def test_a_subclass_of_any_name_has_the_same_loss(family, ending):
    case = example(ending)
    model = build(family, ending)
    renamed = type("Tagger", (type(model),), {})(model.config).eval()
    renamed.load_state_dict(model.state_dict())
    losses = [m(**case.inputs, **case.labels).loss for m in (model, renamed)]
    assert torch.equal(*losses)


@for_every_head
def test_a_batch_in_which_nothing_is_scored_has_the_loss_0(family, ending):
    model = build(family, ending)
    case = example(ending)
    beyond = 99 if ending == "ForQuestionAnswering" else -100
    nothing = {name: torch.full_like(labels, beyond) for name, labels in case.labels.items()}
    loss = model(**case.inputs, **nothing).loss
    assert loss.item() == 0.0
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("none", [0, torch.tensor(0)], ids=["number", "tensor"])
@pytest.mark.parametrize("ending", ["ForMaskedLM", "ForCausalLM", "ForTokenClassification"])
def test_so_has_one_of_which_trainer_says_that_nothing_is_scored(ending, none):
    case = example(ending)
    labels = torch.full_like(case.labels["labels"], -100)
    assert build("FLASH", ending)(**case.inputs, labels=labels, num_items_in_batch=none).loss.item() == 0.0


def test_trainer_counts_the_scored_tokens_of_a_causal_model_of_any_name(tmp_path):
    model = without_dropout("FLASH", "ForCausalLM")
    renamed = type("Writer", (type(model),), {})(model.config)
    renamed.load_state_dict(model.state_dict())
    updates = [update(m, rows_for("ForCausalLM"), tmp_path, batch=8, accumulation=1) for m in (model, renamed)]
    torch.testing.assert_close(*updates, **FLOAT32)


@for_every_head
def test_the_loss_of_a_half_precision_model_is_float32(family, ending):
    case = example(ending)
    assert build(family, ending).bfloat16()(**case.inputs, **case.labels).loss.dtype == torch.float32


@pytest.mark.parametrize(("settings", "label_of"), PROBLEMS.values(), ids=PROBLEMS)
def test_so_is_that_of_every_problem_type(settings, label_of):
    model = build("FLASH", "ForSequenceClassification", **settings).bfloat16()
    labels = torch.tensor([label_of(row) for row in range(3)])
    assert model(random_tokens(3, 5), labels=labels).loss.dtype == torch.float32


def test_the_losses_are_those_of_the_field():
    labels = example("ForTokenClassification").labels["labels"]
    outputs = build("FLASH", "ForTokenClassification")(**example("Model").inputs, labels=labels)
    torch.testing.assert_close(outputs.loss, F.cross_entropy(outputs.logits.flatten(0, 1), labels.flatten()))
    answers = example("ForQuestionAnswering")
    outputs = build("FLASH", "ForQuestionAnswering")(**answers.inputs, **answers.labels)
    starts = F.cross_entropy(outputs.start_logits, answers.labels["start_positions"])
    ends = F.cross_entropy(outputs.end_logits, answers.labels["end_positions"])
    torch.testing.assert_close(outputs.loss, (starts + ends) / 2)
    outputs = build("FLASH", "ForSequenceClassification", num_labels=1, problem_type="regression")(
        **example("Model").inputs, labels=torch.tensor([1.0, 2.0, 3.0])
    )
    torch.testing.assert_close(outputs.loss, (outputs.logits[:, 0] - torch.tensor([1.0, 2.0, 3.0])).square().mean())


@pytest.mark.parametrize("dtype", [torch.int16, torch.uint8, torch.int32])
def test_class_ids_may_be_small_integers(dtype):
    model = build("FLASH", "ForSequenceClassification")
    labels = torch.tensor([2, 0, 1])
    inputs = example("Model").inputs
    assert torch.equal(model(**inputs, labels=labels.to(dtype)).loss, model(**inputs, labels=labels).loss)


def test_targets_of_several_labels_lie_between_0_and_1():
    model = build("FLASH", "ForSequenceClassification", problem_type="multi_label_classification")
    with pytest.raises(ValueError, match=r"labels must lie between 0 and 1 where several may hold, got 5\.0"):
        model(random_tokens(1, 5), labels=torch.tensor([[0.0, 5.0, 1.0]]))


def test_a_problem_that_there_is_not_is_refused():
    # earlier versions of transformers check the type of this setting themselves
    with pytest.raises((InputError, StrictDataclassError), match=r"problem_type.*'ranking'|'ranking'.*problem_type"):
        flash.FLASHConfig(problem_type="ranking")


def test_so_is_one_that_is_set_over_a_folder_or_later(tmp_path):
    model = build("FLASH", "ForSequenceClassification")
    model.save_pretrained(tmp_path)
    message = r"problem_type must be one of .*multi_label_classification, got 'multi_label'"
    with pytest.raises(InputError, match=message):
        type(model).from_pretrained(tmp_path, problem_type="multi_label")
    model.config.problem_type = "multi_label"
    with pytest.raises(InputError, match=message):
        model(random_tokens(2, 5), labels=torch.ones(2, 3))


def test_integers_for_several_labels_are_refused_and_decide_nothing():
    model = build("FLASH", "ForSequenceClassification")
    inputs, labels = random_tokens(2, 5), torch.tensor([[1, 0, 1], [0, 0, 1]])
    with pytest.raises(InputError, match=r"labels of shape \(2, 3\) are integers.* give floats, or problem_type='"):
        model(inputs, labels=labels)
    loss = model(inputs, labels=labels.float()).loss
    torch.testing.assert_close(loss, F.binary_cross_entropy_with_logits(model(inputs).logits, labels.float()))


@pytest.mark.parametrize("family", sorted({family for family, ending in CLASSES if ending == "ForCausalLM"}))
def test_labels_need_all_logits_and_no_cache(family):
    model = build(family, "ForCausalLM")
    input_ids = random_tokens(2, 7)
    with pytest.raises(ValueError, match="logits_to_keep leaves out logits that labels need"):
        model(input_ids, labels=input_ids, logits_to_keep=3)
    assert model(input_ids, labels=input_ids).past_key_values is None
    assert model(input_ids, labels=input_ids, use_cache=True).past_key_values is not None
