"""Learning rates by depth, weight decay by kind, and losses that do not depend on how a batch is cut."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from flash.errors import InputError
from flash.finetuning.data import load_data
from flash.finetuning.models import load_task_model, load_task_tokenizer
from flash.finetuning.run import task_trainer
from flash.finetuning.trainer import GroupedByLength, longest_first, token_count

from toy_tasks import TASK_OF, checkpoint, peer, rows_of, task_folder, toy_finetuning, write_rows


def trainer_of(kind, tmp_path, architecture="flash_quad", **changes):
    data_folder = task_folder(tmp_path / "data", kind, train=24, dev=8)
    start = (checkpoint if architecture == "flash_quad" else peer)(tmp_path / "model", architecture)
    args = toy_finetuning(kind, data_folder, start, tmp_path / "out", **changes)
    data = load_data(args)
    tokenizer = load_task_tokenizer(str(start))
    encoded = {
        "train": data.problem.encode(data.train.examples, tokenizer, 32, training=True),
        "dev": data.problem.encode(data.dev.examples, tokenizer, 32),
    }
    torch.manual_seed(0)
    settings = {"max_length": 32, "from_scratch": args.from_scratch}
    loaded = load_task_model(str(start), data.problem, data.label_names, **settings)
    return task_trainer(loaded, args, data.problem, encoded, tokenizer), data, encoded


def rates_of(trainer):
    """Learning rate and weight decay of each parameter, by name."""
    rates = {}
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    for group in trainer.create_optimizer().param_groups:
        for parameter in group["params"]:
            rates[names.pop(id(parameter))] = (group["lr"], group["weight_decay"])
    assert not names  # every parameter once
    return rates


@pytest.mark.parametrize("architecture", ["bert", "roformer", "modernbert"])
@pytest.mark.parametrize("kind", ["classification", "choice", "reading"])
def test_what_no_checkpoint_has_learns_at_the_rate_of_the_head(kind, architecture, tmp_path):
    trainer, _, _ = trainer_of(kind, tmp_path, architecture, layer_decay=0.5, learning_rate=0.08)
    checkpoint_names = {
        name.removeprefix("bert.").removeprefix("roformer.").removeprefix("model.")
        for name in load_file(tmp_path / "model/model.safetensors")
    }
    prefix = f"{trainer.model.base_model_prefix}."
    for name, (rate, _) in rates_of(trainer).items():
        is_new = name.removeprefix(prefix) not in checkpoint_names
        # ModernBERT's head begins with a layer that its masked language model has
        assert (rate == 0.08) == (is_new or not name.startswith(prefix)), name
        if "pooler" in name:
            assert is_new


def test_from_scratch_all_weights_learn_at_one_rate(tmp_path):
    trainer, _, _ = trainer_of("classification", tmp_path, layer_decay=0.5, learning_rate=0.08, from_scratch=True)
    assert {rate for rate, _ in rates_of(trainer).values()} == {0.08}


def test_learning_rates_fall_from_the_head_to_the_embeddings(tmp_path):
    trainer, _, _ = trainer_of("classification", tmp_path, layer_decay=0.5, learning_rate=0.08)
    rates = rates_of(trainer)
    assert rates["classifier.out_proj.weight"] == (0.08, 0.01)
    assert rates["classifier.out_proj.bias"] == (0.08, 0.0)
    assert rates["flash_quad.layers.1.in_proj.weight"] == (0.04, 0.01)
    assert rates["flash_quad.layers.0.offset_scale.gain"] == (0.02, 0.0)
    assert rates["flash_quad.embeddings.word_embeddings.weight"] == (0.01, 0.01)


def test_an_optimizer_that_is_not_installed_is_named(tmp_path):
    trainer, _, _ = trainer_of("classification", tmp_path, optim="adamw_bnb_8bit")
    with pytest.raises(InputError, match=r"--optim adamw_bnb_8bit: .* install `bitsandbytes` .*; or leave it out"):
        trainer.create_optimizer()


def one_batch_and_several(kind, architecture, folder, *, count):
    """Losses and gradients of a step of ``count`` rows at once, and two at a time as the stock Trainer does it."""
    for number, (rows, steps) in enumerate(((8, 1), (2, 4))):
        settings = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": steps}
        weights = {"class_weights": "balanced"} if kind == "classification" else {}
        trainer, _, encoded = trainer_of(kind, folder / str(number), architecture, **settings, **weights)
        trainer.current_gradient_accumulation_steps = steps
        for module in trainer.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        batches = [encoded["train"].features.rows[start : min(start + rows, count)] for start in range(0, count, rows)]
        collated = [trainer.data_collator(batch) for batch in batches]
        items = trainer._get_num_items_in_batch(collated, torch.device("cpu"))
        loss = sum(trainer.training_step(trainer.model, batch, items).item() for batch in collated)
        yield loss, [p.grad.clone() for p in trainer.model.parameters() if p.grad is not None]


@pytest.mark.parametrize("architecture", ["flash_quad", "bert", "modernbert"])
@pytest.mark.parametrize("kind", TASK_OF)
def test_accumulated_batches_give_the_loss_and_the_gradient_of_one(kind, architecture, tmp_path):
    (loss, gradients), (accumulated_loss, accumulated) = one_batch_and_several(kind, architecture, tmp_path, count=8)
    assert loss == pytest.approx(accumulated_loss, rel=1e-4)
    for one, several in zip(gradients, accumulated, strict=True):
        torch.testing.assert_close(one, several, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("architecture", ["flash_quad", "bert", "modernbert"])
@pytest.mark.parametrize(
    "kind", [kind for kind in TASK_OF if kind != "reading"]
)  # the model's own loss, batch by batch
def test_a_smaller_last_batch_weighs_by_its_labels(kind, architecture, tmp_path):
    (loss, gradients), (accumulated_loss, accumulated) = one_batch_and_several(kind, architecture, tmp_path, count=7)
    assert loss == pytest.approx(accumulated_loss, rel=1e-4)
    one, several = (torch.cat([gradient.flatten() for gradient in side]) for side in (gradients, accumulated))
    assert (one - several).norm() < 1e-3 * one.norm()


@pytest.mark.parametrize("architecture", ["flash_quad", "bert"])
def test_values_are_learned_alike_in_any_unit(architecture, tmp_path):
    def predictions(factor, shift):
        folder = tmp_path / f"{factor}"
        for name, seed in (("train", 0), ("dev", 1)):
            rows = rows_of("regression", 24, seed=seed)
            scaled = [row | {"label": str(factor * float(row["label"]) + shift)} for row in rows]
            write_rows(folder / f"{name}.json", scaled)
        files = {f"{name}_file": str(folder / f"{name}.json") for name in ("train", "dev")}
        trainer, data, encoded = trainer_of("regression", folder, architecture, **files)
        new = {name for name, _ in trainer.model.named_parameters() if name.startswith("classifier")}
        data.problem.start_head(trainer.model, new, encoded["train"])
        trainer.train()
        return np.array(data.problem.answers(trainer.logits_of(encoded["dev"]), encoded["dev"]).predictions)

    plain, scaled = predictions(1.0, 0.0), predictions(30_000.0, -1e6)
    assert plain.std() > 0
    np.testing.assert_allclose((scaled + 1e6) / 30_000, plain, rtol=0, atol=0.01 * plain.std())


@pytest.mark.parametrize("architecture", ["flash_quad", "bert"])
def test_values_far_from_zero_keep_their_digits_in_bfloat16(architecture, tmp_path):
    trainer, data, encoded = trainer_of("regression", tmp_path, architecture, bf16=True)
    head = [module for _, module in trainer.model.named_modules() if isinstance(module, torch.nn.Linear)][-1]
    torch.nn.init.normal_(head.weight)
    torch.nn.init.constant_(head.bias, 2000.0)  # where bfloat16 has steps of 8
    answers = data.problem.answers(trainer.logits_of(encoded["dev"]), encoded["dev"]).predictions
    expected = data.problem.answers(trainer_logits_in_float32(trainer, encoded["dev"]), encoded["dev"]).predictions
    assert len(set(answers)) > 1
    np.testing.assert_allclose(answers, expected, atol=0.2)


def trainer_logits_in_float32(trainer, encoded):
    with torch.no_grad():
        rows = [{name: x for name, x in row.items() if name != "labels"} for row in encoded.features.rows]
        return trainer.model(**trainer.data_collator(rows)).logits.numpy()


@pytest.mark.parametrize("kind", TASK_OF)
def test_validation_scores_texts_of_any_lengths_as_the_answers_do(kind, tmp_path):
    rows = rows_of(kind, 8, seed=1)
    column = next(name for name in ("sentence", "sentence1", "text", "context") if name in rows[0])
    uneven = [row | {column: row[column] + "很好" * (number % 5)} for number, row in enumerate(rows)]
    dev = write_rows(tmp_path / "dev.json", uneven)
    trainer, data, encoded = trainer_of(kind, tmp_path, per_device_eval_batch_size=3, dev_file=str(dev))
    lengths = [token_count(row["input_ids"]) for row in encoded["dev"].features.rows]
    assert lengths != sorted(lengths, reverse=True)
    # what the model reads: those of like length together
    read = [token_count(row["input_ids"]) for row in trainer.eval_dataset.rows]
    assert read == sorted(lengths, reverse=True)
    answers = data.problem.answers(trainer.logits_of(encoded["dev"]), encoded["dev"])
    expected = data.problem.scores(answers.predictions, data.dev.examples)
    found = trainer.evaluate()
    assert {name: found[f"eval_{name}"] for name in expected} == pytest.approx(expected)


def test_what_is_scored_stays_in_order_whatever_the_lengths(tmp_path):
    trainer, _data, encoded = trainer_of("classification", tmp_path)
    rows = sorted(encoded["dev"].features.rows, key=lambda row: len(row["input_ids"]))
    uneven = [
        row | {name: row[name][: 3 + place] for name in row if name != "labels"} for place, row in enumerate(rows)
    ]
    encoded["dev"].features.rows[:] = uneven[::2] + uneven[1::2]
    order = longest_first(encoded["dev"].features)
    assert [order[place] for place in order] != sorted(order)  # there and back are two ways
    logits = trainer.logits_of(encoded["dev"])
    trainer.model.eval()
    for row, found in zip(encoded["dev"].features.rows, logits, strict=True):
        with torch.no_grad():
            alone = trainer.model(input_ids=torch.tensor([row["input_ids"]])).logits[0]
        torch.testing.assert_close(torch.tensor(found), alone, rtol=1e-4, atol=1e-5)


def test_the_order_has_a_seed_of_its_own_where_one_is_given(tmp_path):
    orders = [
        list(trainer_of("classification", tmp_path / str(number), seed=seed, data_seed=order)[0]._get_train_sampler())
        for number, (seed, order) in enumerate(((1, None), (2, None), (2, 1), (3, 1)))
    ]
    assert orders[0] == orders[2] == orders[3] != orders[1]


def test_each_epoch_has_an_order_of_its_own_with_rows_of_like_length_together():
    lengths = [1 + (7 * number) % 50 for number in range(400)]
    orders = []
    for seed, epoch in ((1, 0), (1, 0), (1, 1), (2, 0)):
        sampler = GroupedByLength(lengths, batch_size=8, seed=seed)
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    assert all(sorted(order) == list(range(400)) for order in orders)
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0] != orders[3]
    batches = [[lengths[index] for index in orders[0][start : start + 8]] for start in range(0, 400, 8)]
    assert sum(max(batch) - min(batch) for batch in batches) / len(batches) < 5
