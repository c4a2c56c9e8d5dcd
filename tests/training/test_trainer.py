import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from transformers import set_seed

from flash import FLASHQuadConfig, FLASHQuadForMaskedLM
from flash.corpus.tokenizer_loading import load_tokenizer
from flash.data.collator import WholeWordMaskCollator
from flash.data.pretraining_dataset import PretrainingDataset, load_prepared_folder, split_tail, tokenize_dataset
from flash.errors import InputError
from flash.training.trainer import MaskedLMTrainer, MaskEpochCallback

from helpers import for_each_setting
from toy_pretraining import MAX_LENGTH, TOY_CONFIG, toy_arguments

# sums of a few thousand float32 losses in another order
TOLERANCE = {"rel": 1e-5}


@pytest.fixture(scope="module")
def tokenizer(toy_vocabulary):
    return load_tokenizer(toy_vocabulary)


@pytest.fixture
def build_trainer(toy_dataset, tokenizer, tmp_path):
    def build(*, mask_probability=0.15, model_settings=None, **changes):
        args = toy_arguments(toy_dataset, tmp_path / "out", report_to="none", save_strategy="no", **changes)
        rows = load_prepared_folder(toy_dataset)
        rows = tokenize_dataset(rows, folder=toy_dataset, tokenizer=tokenizer, max_length=MAX_LENGTH)
        train, validation = (PretrainingDataset(part) for part in split_tail(rows, 0.3))
        settings = TOY_CONFIG if model_settings is None else model_settings
        sizes = {"vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 2, "query_key_dim": 16}
        set_seed(args.seed)
        return MaskedLMTrainer(
            model=FLASHQuadForMaskedLM(FLASHQuadConfig(**(sizes | settings | {"max_position_embeddings": MAX_LENGTH}))),
            args=args,
            train_dataset=train,
            eval_dataset=validation,
            processing_class=tokenizer,
            data_collator=WholeWordMaskCollator(tokenizer, mask_probability=mask_probability, seed=args.seed),
            callbacks=[MaskEpochCallback(train)],
        )

    return build


class Recorder:
    """Computes from every forward pass in training what its loss and accuracy should be made of."""

    def __init__(self, trainer):
        self.micro_batches = []
        self._state = lambda: trainer.state  # training begins with another one
        trainer.model.register_forward_hook(self._record, with_kwargs=True)

    def _record(self, model, args, kwargs, output):
        if model.training:
            labels = kwargs["labels"]
            true = labels[labels != -100]
            loss = F.cross_entropy(output.logits.detach().double(), true, reduction="sum").item()
            correct = (output.logits.argmax(dim=-1) == true).sum().item()
            tokens = kwargs["attention_mask"].sum().item()
            step = self._state().global_step + 1
            sums = {"loss": loss, "correct": correct, "scored": len(true), "tokens": tokens}
            self.micro_batches.append(sums | {"step": step, "labels": labels.tolist()})

    def of_steps(self, first, last):
        return [batch for batch in self.micro_batches if first <= batch["step"] <= last]


def total(name, batches):
    return sum(batch[name] for batch in batches)


def logged(trainer, key):
    return [entry for entry in trainer.state.log_history if key in entry]


# ---- what is logged


def test_logged_loss_and_accuracy_are_those_of_all_scored_tokens_since_the_last_log(build_trainer):
    # 3 micro-batches of 2 rows a step, fewer at the end of an epoch, each with another number of scored tokens
    trainer = build_trainer(per_device_train_batch_size=2, gradient_accumulation_steps=3, max_steps=6)
    recorder = Recorder(trainer)
    trainer.train()
    entries = logged(trainer, "loss")
    assert [entry["step"] for entry in entries] == [2, 4, 6]
    differs_from_mean_of_means = []
    for entry in entries:
        batches = recorder.of_steps(entry["step"] - 1, entry["step"])
        scored = total("scored", batches)
        assert entry["loss"] == pytest.approx(total("loss", batches) / scored, **TOLERANCE)
        assert entry["mlm_acc"] == pytest.approx(total("correct", batches) / scored, **TOLERANCE)
        means = [batch["loss"] / batch["scored"] for batch in batches if batch["scored"]]
        differs_from_mean_of_means.append(abs(sum(means) / len(means) - entry["loss"]) > 1e-3)
    assert any(differs_from_mean_of_means)
    assert {len(recorder.of_steps(step, step)) for step in range(1, 7)} == {1, 3}


def test_accumulated_micro_batches_train_as_one_large_batch(build_trainer):
    curves = []
    for batch_size, accumulation in ((8, 1), (4, 2), (2, 4)):
        trainer = build_trainer(
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=accumulation,
            max_steps=3,
            logging_steps=1,
        )
        trainer.train()
        curves.append([[entry[name] for name in ("loss", "mlm_acc", "grad_norm")] for entry in logged(trainer, "loss")])
    assert len(curves[0]) == 3
    for curve in curves[1:]:
        for step, expected in zip(curve, curves[0], strict=True):
            assert step == pytest.approx(expected, rel=1e-4)


def test_all_tokens_seen_are_counted_also_those_after_the_last_log(build_trainer):
    trainer = build_trainer(max_steps=5, logging_steps=2)
    recorder = Recorder(trainer)
    trainer.train()
    assert [entry["step"] for entry in logged(trainer, "loss")] == [2, 4]
    assert trainer.tokens_seen == total("tokens", recorder.micro_batches)


def test_tokens_per_second_count_all_tokens_and_the_time_of_training_alone(build_trainer, monkeypatch):
    seconds = [1.0]
    monkeypatch.setattr("flash.training.trainer.time", SimpleNamespace(monotonic=lambda: sum(seconds)))
    trainer = build_trainer(max_steps=4, eval_strategy="steps", eval_steps=2)
    # a batch takes a second, one of validation a hundred
    trainer.model.register_forward_hook(lambda model, *_: seconds.append(1.0 if model.training else 100.0))
    recorder = Recorder(trainer)
    trainer.train()
    expected = [total("tokens", recorder.of_steps(first, first + 1)) / 2 for first in (1, 3)]
    assert [entry["tokens_per_second"] for entry in logged(trainer, "loss")] == expected
    assert len(logged(trainer, "tokens_per_second")) == 2
    assert sum(seconds) > 400


def test_steps_in_which_nothing_is_scored_harm_nothing(build_trainer):
    trainer = build_trainer(mask_probability=0.02, per_device_train_batch_size=1, max_steps=10, logging_steps=10)
    recorder = Recorder(trainer)
    trainer.train()
    assert 0 in {batch["scored"] for batch in recorder.micro_batches}
    (entry,) = logged(trainer, "loss")
    scored = total("scored", recorder.micro_batches)
    assert entry["loss"] == pytest.approx(total("loss", recorder.micro_batches) / scored, **TOLERANCE)
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())


def test_a_run_in_which_nothing_is_scored_logs_no_accuracy(build_trainer):
    trainer = build_trainer(mask_probability=1e-9, max_steps=2)
    trainer.train()
    assert [(entry["loss"], "mlm_acc" in entry) for entry in logged(trainer, "loss")] == [(0.0, False)]
    assert "eval_mlm_acc" not in trainer.evaluate()


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_process_logs_the_loss_of_its_own_tokens_though_its_gradient_is_made_larger(
    build_trainer, monkeypatch, ranks
):
    # the gradients of the processes are averaged, so each trains on its loss times their number
    trainer = build_trainer()
    monkeypatch.setattr(type(trainer.accelerator), "num_processes", ranks)
    batch = trainer.data_collator(trainer.train_dataset.__getitems__(range(4)))
    own = trainer.model(**batch).loss.item()  # the mean over the scored tokens
    scored = int((batch["labels"] != -100).sum())
    loss = trainer.compute_loss(trainer.model, batch, num_items_in_batch=torch.tensor(3 * scored))
    assert loss.item() == pytest.approx(own / 3 * ranks, **TOLERANCE)
    assert trainer._train_sums[0].item() == pytest.approx(own * scored, **TOLERANCE)


# ---- validation


@pytest.mark.parametrize(("left", "own"), [(0, [3, 3]), (1, [1, 0]), (3, [3, 0]), (5, [3, 2])])
def test_of_the_last_validation_batches_a_process_scores_no_row_twice(build_trainer, monkeypatch, left, own):
    # of 6 rows for two processes so many are left, and accelerate fills them up with rows that were there before
    trainer = build_trainer(per_device_eval_batch_size=3)
    loader = SimpleNamespace(end_of_dataloader=True, remainder=left)
    monkeypatch.setattr(trainer.accelerator, "gradient_state", loader)
    for rank, rows in enumerate(own):
        monkeypatch.setattr(type(trainer.args), "process_index", rank)
        batch = trainer.data_collator(trainer.eval_dataset.__getitems__(range(3)))
        expected = int((batch["labels"][:rows] != -100).sum())
        trainer._eval_sums.zero_()
        trainer.prediction_step(trainer.model, batch, True)
        assert trainer._eval_sums[2] == expected
    loader.end_of_dataloader = False
    assert trainer._own_rows(3) == 3


def test_validation_figures_are_those_of_all_scored_tokens_of_the_split(build_trainer):
    trainer = build_trainer(max_steps=4, per_device_eval_batch_size=4)
    trainer.train()
    metrics = trainer.evaluate()
    rows, model = trainer.eval_dataset, trainer.model.eval()
    assert len(rows) % trainer.args.eval_batch_size != 0
    loss = correct = scored = 0.0
    with torch.no_grad():
        for index in range(len(rows)):  # one by one: no padding, no batches to average over
            batch = trainer.data_collator([rows[index]])
            true = batch["labels"][batch["labels"] != -100]
            logits = model(batch["input_ids"]).logits[batch["labels"] != -100]
            loss += F.cross_entropy(logits.double(), true, reduction="sum").item()
            correct += (logits.argmax(dim=-1) == true).sum().item()
            scored += len(true)
    assert metrics["eval_loss"] == pytest.approx(loss / scored, **TOLERANCE)
    assert metrics["eval_mlm_acc"] == pytest.approx(correct / scored, **TOLERANCE)
    assert metrics["eval_perplexity"] == pytest.approx(math.exp(loss / scored), rel=1e-4)


@pytest.mark.parametrize("settings", [{}, {"dataloader_num_workers": 1, "dataloader_persistent_workers": True}])
def test_every_validation_scores_the_same_masks(build_trainer, settings):
    trainer = build_trainer(**settings)
    first, second = trainer.evaluate(), trainer.evaluate()
    assert first["eval_loss"] == second["eval_loss"]


def test_validation_in_between_changes_nothing_of_the_training(build_trainer):
    curves = []
    for settings in ({"eval_strategy": "steps", "eval_steps": 1}, {"validation_split": 0.0}):
        trainer = build_trainer(max_steps=4, logging_steps=2, **settings)
        trainer.train()
        curves.append([(entry["loss"], entry["mlm_acc"]) for entry in logged(trainer, "loss")])
    assert curves[0] == curves[1]


# ---- masks and parameters


def test_every_epoch_has_masks_of_its_own(build_trainer):
    trainer = build_trainer(
        train_sampling_strategy="sequential", per_device_train_batch_size=64, max_steps=3, logging_steps=1
    )
    recorder = Recorder(trainer)
    trainer.train()
    rows = trainer.train_dataset
    assert len(rows) < 64  # so a step is an epoch
    for epoch, batch in enumerate(recorder.micro_batches):
        rows.use_masks_of_epoch(epoch)
        expected = trainer.data_collator([rows[index] for index in range(len(rows))])["labels"].tolist()
        assert batch["labels"] == expected
    assert recorder.micro_batches[0]["labels"] != recorder.micro_batches[1]["labels"]


@for_each_setting
def test_every_parameter_gets_a_gradient(build_trainer, settings):
    # so torchrun needs no search for unused parameters, which PretrainingArguments switches off
    trainer = build_trainer(model_settings=settings)
    assert trainer.args.ddp_find_unused_parameters is False
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.train()
    trainer.model(**batch).loss.backward()
    without = [name for name, parameter in trainer.model.named_parameters() if parameter.grad is None]
    assert without == []


def test_an_optimizer_that_is_not_installed_is_named(build_trainer):
    with pytest.raises(InputError, match=r"--optim adamw_bnb_8bit: .* install `bitsandbytes` .*; or leave it out"):
        build_trainer(optim="adamw_bnb_8bit").create_optimizer()


@pytest.mark.parametrize("relative_bias", ["toeplitz", "rotary_product"])
def test_weight_decay_is_for_matrices_and_embeddings(build_trainer, relative_bias):
    trainer = build_trainer(model_settings=TOY_CONFIG | {"relative_bias": relative_bias})
    decayed = {name.removeprefix("flash_quad.") for name in trainer.get_decay_parameter_names(trainer.model)}
    layers = {f"layers.{n}.{name}.weight" for n in (0, 1) for name in ("in_proj", "out_proj")}
    embeddings = {f"embeddings.{name}_embeddings.weight" for name in ("word", "token_type")}
    assert decayed == layers | embeddings | {"lm_head.dense.weight"}


def test_a_compiled_model_is_told_to_score_the_hidden_tokens_only(build_trainer):
    """Of itself a compiled model computes all logits, because their number would not be fixed."""
    trainer = build_trainer(max_steps=1)
    seen = []
    trainer.model.register_forward_pre_hook(lambda model, args, kwargs: seen.append(kwargs), with_kwargs=True)
    trainer.train()
    assert [kwargs["scored_logits_only"] for kwargs in seen if "scored_logits_only" in kwargs] == [True] * len(seen)
    assert seen


def test_a_fixed_number_of_scored_positions_changes_no_logged_number(build_trainer):
    logged = []
    for count in (None, 40, 10**6):  # the last is more than any batch has, as at the end of an epoch
        trainer = build_trainer(max_steps=3, logging_steps=1, scored_positions=count)
        trainer.train()
        steps = [entry for entry in trainer.state.log_history if "mlm_acc" in entry]
        logged.append([entry[name] for entry in steps for name in ("loss", "mlm_acc")])
    assert len(logged[0]) == 6
    for fixed in logged[1:]:
        assert fixed == pytest.approx(logged[0], rel=1e-6)
