"""Learning rates by depth, weight decay by kind, and losses that do not depend on how a batch is cut."""

import pytest
import torch

from flash.finetuning.data import load_data
from flash.finetuning.models import load_task_model, load_task_tokenizer
from flash.finetuning.run import task_trainer

from toy_tasks import checkpoint, task_folder, toy_finetuning


def trainer_of(kind, tmp_path, **changes):
    data_folder = task_folder(tmp_path / "data", kind, train=24, dev=8)
    start = checkpoint(tmp_path / "model")
    args = toy_finetuning(kind, data_folder, start, tmp_path / "out", **changes)
    data = load_data(args)
    tokenizer = load_task_tokenizer(str(start))
    encoded = {
        "train": data.problem.encode(data.train.examples, tokenizer, 32, training=True),
        "dev": data.problem.encode(data.dev.examples, tokenizer, 32),
    }
    torch.manual_seed(0)
    model = load_task_model(str(start), data.problem, data.label_names, max_length=32)
    return task_trainer(model, args, data.problem, encoded, tokenizer), data, encoded


def test_learning_rates_fall_from_the_head_to_the_embeddings(tmp_path):
    trainer, _, _ = trainer_of("classification", tmp_path, layer_decay=0.5, learning_rate=0.08)
    rates = {}
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    for group in trainer.create_optimizer().param_groups:
        for parameter in group["params"]:
            rates[names.pop(id(parameter))] = (group["lr"], group["weight_decay"])
    assert not names  # every parameter once
    assert rates["classifier.out_proj.weight"] == (0.08, 0.01)
    assert rates["classifier.out_proj.bias"] == (0.08, 0.0)
    assert rates["flash_quad.layers.1.in_proj.weight"] == (0.04, 0.01)
    assert rates["flash_quad.layers.0.offset_scale.gain"] == (0.02, 0.0)
    assert rates["flash_quad.embeddings.word_embeddings.weight"] == (0.01, 0.01)


@pytest.mark.parametrize("kind", ["classification", "choice"])
def test_accumulated_batches_give_the_gradient_of_one(kind, tmp_path):
    gradients = []
    for number, (rows, steps) in enumerate(((8, 1), (2, 4))):
        settings = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": steps}
        weights = {"class_weights": "balanced"} if kind == "classification" else {}
        trainer, _, encoded = trainer_of(kind, tmp_path / str(number), **settings, **weights)
        trainer.model.eval()  # no dropout
        batches = [encoded["train"].features.rows[start : start + rows] for start in range(0, 8, rows)]
        collated = [trainer.data_collator(batch) for batch in batches]
        items = torch.tensor(8)
        for batch in collated:
            trainer.compute_loss(trainer.model, batch, num_items_in_batch=items).backward()
        gradients.append([p.grad.clone() for p in trainer.model.parameters() if p.grad is not None])
    for one, several in zip(*gradients, strict=True):
        torch.testing.assert_close(one, several, rtol=1e-4, atol=1e-6)


def test_what_is_scored_stays_in_order_whatever_the_lengths(tmp_path):
    trainer, _data, encoded = trainer_of("classification", tmp_path)
    rows = sorted(encoded["dev"].features.rows, key=lambda row: len(row["input_ids"]))
    encoded["dev"].features.rows[:] = rows[::2] + rows[1::2]
    logits = trainer.logits_of(encoded["dev"])
    trainer.model.eval()
    for row, found in zip(encoded["dev"].features.rows, logits, strict=True):
        with torch.no_grad():
            alone = trainer.model(input_ids=torch.tensor([row["input_ids"]])).logits[0]
        torch.testing.assert_close(torch.tensor(found), alone, rtol=1e-4, atol=1e-5)
