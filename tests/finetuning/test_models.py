"""Checkpoints of any architecture under a task's head; what does not fit is named."""

import json
import logging
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer, EuroBertConfig

from flash.errors import InputError
from flash.finetuning.finetune import finetune
from flash.finetuning.models import load_task_model, load_task_tokenizer, shown_labels
from flash.finetuning.problems import problem_of
from flash.finetuning.problems.problem import Encoded, Features
from flash.finetuning.scoring import Finetuned
from flash.finetuning.trainer import depth_of, layer_count
from flash.tasks.task import load_task

from toy_pretraining import toy_tokenizer
from toy_tasks import TASK_OF, checkpoint, peer, task_folder, toy_finetuning


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("start"))


@pytest.mark.parametrize("architecture", ["bert", "roformer", "modernbert", "flash", "gau_alpha"])
@pytest.mark.parametrize("kind", TASK_OF)
def test_every_architecture_is_fine_tuned_on_every_kind_of_task(architecture, kind, tmp_path):
    make = checkpoint if architecture in ("flash", "gau_alpha") else peer
    model = make(tmp_path / "model", architecture)
    data = task_folder(tmp_path / "data", kind, train=16, dev=8)
    args = toy_finetuning(kind, data, model, tmp_path / "out", num_train_epochs=1, baselines=False, layer_decay=0.9)
    study = finetune(args, command="")
    again = Finetuned(study.folder).evaluate(data / "dev.json")
    assert again[study.metrics["metric"]] == pytest.approx(
        study.metrics["dev"][study.metrics["metric"]]["mean"], abs=1e-6
    )


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [
        *(("bert", kind) for kind in ("classification", "entities", "reading")),
        *(("bart", kind) for kind in ("classification", "reading")),  # puts out its encoder's states in any case
    ],
)
def test_what_a_model_puts_out_besides_is_left_out(architecture, kind, tmp_path):
    model = peer(tmp_path / "model", architecture)
    settings = json.loads((model / "config.json").read_text(encoding="utf-8"))
    (model / "config.json").write_text(json.dumps(settings | {"output_hidden_states": True}), encoding="utf-8")
    data = task_folder(tmp_path / "data", kind, train=16, dev=8)
    args = toy_finetuning(kind, data, model, tmp_path / "out", num_train_epochs=1, baselines=False)
    study = finetune(args, command="")
    again = Finetuned(study.folder).evaluate(data / "dev.json")
    assert again[study.metrics["metric"]] == pytest.approx(study.metrics["dev"][study.metrics["metric"]]["mean"])


def classification():
    return problem_of(load_task("tnews"), ("101", "102"))


def test_the_encoder_is_the_checkpoints_and_the_head_is_new(start):
    model = load_task_model(str(start), classification(), {}, max_length=32).model
    scratch = load_task_model(str(start), classification(), {}, max_length=32, from_scratch=True).model
    loaded = load_task_model(str(start), classification(), {}, max_length=32).model
    name = "flash_quad.layers.0.in_proj.weight"
    assert torch.equal(model.state_dict()[name], loaded.state_dict()[name])
    assert not torch.equal(model.state_dict()[name], scratch.state_dict()[name])
    assert model.config.id2label == {0: "101", 1: "102"}


def test_a_new_head_reads_an_output_of_the_usual_size_and_a_trained_one_what_it_was_trained_on(tmp_path):
    folder = checkpoint(tmp_path / "model", final_norm=True)
    model = AutoModelForMaskedLM.from_pretrained(folder)
    with torch.no_grad():
        model.flash_quad.final_norm.scale.fill_(0.04)
    model.save_pretrained(folder)
    loaded = load_task_model(str(folder), classification(), {}, max_length=32).model
    assert loaded.flash_quad.final_norm.scale.item() == pytest.approx(0.04 * 32)
    with torch.no_grad():
        loaded.flash_quad.final_norm.scale.fill_(0.04)
    loaded.save_pretrained(tmp_path / "trained")
    toy_tokenizer(tmp_path / "trained").save_pretrained(tmp_path / "trained")
    again = load_task_model(str(tmp_path / "trained"), classification(), {}, max_length=32).model
    assert again.flash_quad.final_norm.scale.item() == pytest.approx(0.04)


@pytest.mark.parametrize("architecture", ["flash_quad", "modernbert"])
def test_a_classifier_reads_what_is_asked_for(architecture, tmp_path):
    make = checkpoint if architecture == "flash_quad" else peer
    folder = make(tmp_path / "model", architecture)
    logits = {}
    for pooling in ("cls", "mean"):
        torch.manual_seed(0)
        loaded = load_task_model(str(folder), classification(), {}, max_length=32, classifier_pooling=pooling)
        assert loaded.model.config.classifier_pooling == pooling
        logits[pooling] = loaded.model.eval()(torch.tensor([[5, 6, 7, 8]])).logits
    assert not torch.allclose(logits["cls"], logits["mean"])


@pytest.mark.parametrize(
    ("architecture", "task", "pooling", "message"),
    [
        ("bert", "tnews", "mean", "--classifier_pooling mean: a bert model .* pools in one way only; leave it out"),
        ("bert", "cluener", "mean", "--classifier_pooling mean: cluener asks about single tokens"),
        ("flash_quad", "tnews", "max", "--classifier_pooling max: not for a flash_quad model: .*'cls_plus_mean'"),
        ("modernbert", "tnews", "cls_plus_mean", "--classifier_pooling cls_plus_mean: not for a modernbert model: "),
    ],
)
def test_a_way_of_pooling_that_a_model_does_not_have_is_refused(architecture, task, pooling, message, tmp_path):
    folder = (checkpoint if architecture == "flash_quad" else peer)(tmp_path / "model", architecture)
    problem = problem_of(load_task(task), ("a", "b"))
    with pytest.raises(InputError, match=message):
        load_task_model(str(folder), problem, {}, max_length=32, classifier_pooling=pooling)


def test_an_architecture_that_checks_no_pooling_itself_is_asked_for_its_own_only(tmp_path):
    folder = tmp_path / "model"
    EuroBertConfig(num_hidden_layers=1, hidden_size=16, intermediate_size=16, num_attention_heads=1).save_pretrained(
        folder
    )
    load = partial(load_task_model, str(folder), classification(), {}, max_length=8, from_scratch=True)
    with pytest.raises(InputError, match=r"--classifier_pooling cls: not for a eurobert model, .* bos, mean, late"):
        load(classifier_pooling="cls")
    assert load(classifier_pooling="mean").model(torch.tensor([[5, 6]])).logits.shape == (1, 2)


def test_a_backend_is_of_the_run_and_of_this_packages_models(start, tmp_path):
    load = partial(load_task_model, problem=classification(), label_names={}, max_length=32)
    loaded = load(str(start), attention_backend="reference")
    assert loaded.model.config.attention_backend == "reference"
    loaded.model.save_pretrained(tmp_path / "saved")
    assert load(str(tmp_path / "saved")).model.config.attention_backend == "auto"
    with pytest.raises(InputError, match="--attention_backend flash: there are auto, reference, blocked, fused"):
        load(str(start), attention_backend="flash")
    with pytest.raises(InputError, match=r"--attention_backend blocked: a bert model .* leave it out"):
        load(str(peer(tmp_path / "bert", "bert")), attention_backend="blocked")


@pytest.mark.parametrize("architecture", ["flash_quad", "bert", "modernbert"])
def test_a_head_learns_values_in_units_of_their_spread_and_is_saved_in_theirs(architecture, tmp_path):
    folder = (checkpoint if architecture == "flash_quad" else peer)(tmp_path / "model", architecture)
    problem = problem_of(load_task("stsb"), ())
    values = Encoded([], Features([{"labels": 1.0}, {"labels": 4.0}]), [])
    loaded = load_task_model(str(folder), problem, {}, max_length=32)
    before = {name: x.clone() for name, x in loaded.model.state_dict().items()}
    problem.start_head(loaded.model, loaded.new_parameters, values)
    assert all(torch.equal(x, before[name]) for name, x in loaded.model.state_dict().items())
    logits = np.array([[-1.0], [0.0], [2.0]])
    encoded = Encoded([None] * 3, Features([]), [])
    assert problem.answers(logits, encoded).predictions == [1.0, 2.5, 5.5]  # mean 2.5, spread 1.5
    problem.finish_head(loaded.model)
    of_head = [name for name, x in loaded.model.state_dict().items() if not torch.equal(x, before[name])]
    bias, weight = sorted(of_head)
    assert loaded.model.state_dict()[bias].item() == 2.5
    torch.testing.assert_close(loaded.model.state_dict()[weight], 1.5 * before[weight])
    assert problem.answers(logits, encoded).predictions == [-1.0, 0.0, 2.0]  # the model gives the values themselves
    loaded.model.save_pretrained(tmp_path / "trained")
    again = load_task_model(str(tmp_path / "trained"), problem, {}, max_length=32)
    values.features.rows[0]["labels"] = 3.0
    problem.start_head(again.model, again.new_parameters, values)
    assert again.model.state_dict()[bias].item() == pytest.approx((2.5 - 3.5) / 0.5)
    problem.finish_head(again.model)
    torch.testing.assert_close(again.model.state_dict()[weight], loaded.model.state_dict()[weight])
    assert again.model.state_dict()[bias].item() == pytest.approx(2.5)


def test_a_head_without_bias_learns_values_in_units_of_their_size(tmp_path):
    problem = problem_of(load_task("stsb"), ())
    loaded = load_task_model(str(peer(tmp_path / "model", "qwen2")), problem, {}, max_length=32)
    values = Encoded([], Features([{"labels": 3.0}, {"labels": 4.0}]), [])
    problem.start_head(loaded.model, loaded.new_parameters, values)
    (answer,) = problem.answers(np.array([[2.0]]), Encoded([None], Features([]), [])).predictions
    assert answer == pytest.approx(2 * 12.5**0.5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_tokens_are_counted_from_the_left_whatever_the_tokenizer_says(side, start, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(start)
    tokenizer.padding_side = tokenizer.truncation_side = side
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    loaded = load_task_tokenizer(str(tmp_path))
    assert (loaded.padding_side, loaded.truncation_side) == ("right", "right")


def test_a_head_for_other_labels_is_made_anew_and_told(start, tmp_path, caplog):
    load_task_model(
        str(start), problem_of(load_task("tnews"), ("a", "b", "c")), {}, max_length=32
    ).model.save_pretrained(tmp_path)
    loaded = load_task_model(str(tmp_path), classification(), {}, max_length=32)
    assert loaded.head_replaced
    assert loaded.model.classifier.out_proj.out_features == 2
    load_task_tokenizer(str(start)).save_pretrained(tmp_path)
    data = task_folder(tmp_path / "data", "classification", train=16, dev=8)
    settings = {"baselines": False, "max_steps": 1, "seeds": 2}
    with caplog.at_level(logging.WARNING):
        finetune(toy_finetuning("classification", data, tmp_path, tmp_path / "out", **settings), command="")
    assert caplog.text.count("its head is for other labels, or another kind of task, than this; a new one") == 1


def test_a_head_for_as_many_other_labels_is_made_anew(start, tmp_path):
    load_task_model(str(start), problem_of(load_task("afqmc"), ("0", "1")), {}, max_length=32).model.save_pretrained(
        tmp_path
    )
    model, new, head_replaced = load_task_model(str(tmp_path), classification(), {}, max_length=32)
    assert head_replaced
    assert "classifier.out_proj.weight" in new
    before = load_task_model(str(tmp_path), problem_of(load_task("afqmc"), ("0", "1")), {}, max_length=32).model
    name = "flash_quad.layers.1.in_proj.weight"
    assert torch.equal(model.state_dict()[name], before.state_dict()[name])
    assert not torch.equal(model.classifier.out_proj.weight, before.classifier.out_proj.weight)


def fine_tuned(folder, task, labels=(), architecture="bert"):
    """Save a model as it is after fine-tuning."""
    start = (checkpoint if architecture == "flash_quad" else peer)(folder / "start", architecture)
    model = load_task_model(str(start), problem_of(load_task(task), labels), {}, max_length=32).model
    model.save_pretrained(folder / "tuned")
    return model, str(folder / "tuned")


@pytest.mark.parametrize("architecture", ["flash_quad", "bert", "modernbert"])
@pytest.mark.parametrize(("before", "after"), [("c3", "stsb"), ("stsb", "c3"), ("tnews", "stsb"), ("tnews", "cluener")])
def test_a_head_for_another_kind_of_task_is_made_anew(before, after, architecture, tmp_path):
    trained, folder = fine_tuned(tmp_path, before, ("a", "b", "c") if before == "tnews" else (), architecture)
    problem = problem_of(load_task(after), ("x",) if after == "cluener" else ())  # as many tags as classes before
    model, new, head_replaced = load_task_model(folder, problem, {}, max_length=32)
    assert head_replaced
    weights, others = trained.state_dict(), model.state_dict()
    encoder, head = [], []
    for name in weights:
        (encoder if name.startswith(f"{model.base_model_prefix}.") else head).append(name)
    assert all(torch.equal(weights[name], others[name]) for name in encoder if "pooler" not in name and name in others)
    assert set(head) <= new
    matrices = [name for name in head if name.endswith("dense.weight") or name.endswith("classifier.weight")]
    for name in matrices:
        assert weights[name].shape != others[name].shape or not torch.equal(weights[name], others[name])


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
@pytest.mark.parametrize(("task", "labels"), [("tnews", ("a", "b", "c")), ("tnews", ("a", "b")), ("stsb", ())])
def test_a_classifier_becomes_a_reader(task, labels, architecture, tmp_path):
    _, folder = fine_tuned(tmp_path, task, labels, architecture)
    model, new, _ = load_task_model(folder, problem_of(load_task("cmrc2018")), {}, max_length=32)
    assert model(torch.tensor([[5, 6, 7]])).start_logits.shape == (1, 3)
    assert {"qa_outputs.weight", "classifier.weight"} & new


def test_half_precision_of_a_file_is_not_trained_in(start, tmp_path):
    model = load_task_model(str(start), classification(), {}, max_length=32).model
    model.bfloat16().save_pretrained(tmp_path)
    for from_scratch in (False, True):
        loaded = load_task_model(str(tmp_path), classification(), {}, max_length=32, from_scratch=from_scratch)
        assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}


def test_what_a_masked_language_model_has_of_the_head_is_kept(tmp_path):
    folder = peer(tmp_path, "modernbert")
    model, new, head_replaced = load_task_model(str(folder), classification(), {}, max_length=32)
    assert torch.equal(model.head.dense.weight, load_file(folder / "model.safetensors")["head.dense.weight"])
    assert new == {"classifier.weight", "classifier.bias"}
    assert not head_replaced


def test_a_model_that_cannot_take_the_length_does_not_claim_the_folder(tmp_path):
    model = peer(tmp_path / "bert", "bert")
    data = task_folder(tmp_path / "data", "classification", train=16, dev=8)
    with pytest.raises(InputError, match="has 64 positions"):
        finetune(toy_finetuning("classification", data, model, tmp_path / "out", max_seq_length=65), command="")
    args = toy_finetuning("classification", data, model, tmp_path / "out", num_train_epochs=1, baselines=False)
    assert finetune(args, command="").metrics["dev"]


def test_readable_names_are_taken_where_they_are_different():
    assert shown_labels(("1", "2"), {"1": "food", "2": "place"}) == ["food", "place"]
    assert shown_labels(("1", "2"), {"1": "food", "2": "food"}) == ["1", "2"]
    assert shown_labels(("1", "2"), {"1": "food"}) == ["food", "2"]


@pytest.mark.parametrize("from_scratch", [False, True])
@pytest.mark.parametrize(("architecture", "most"), [("bert", 64), ("roberta", 63)])
def test_more_tokens_than_a_model_has_positions_are_refused(architecture, most, from_scratch, tmp_path):
    model = peer(tmp_path, architecture)
    with pytest.raises(InputError, match=rf"--max_seq_length {most + 1}: .* has {most} positions"):
        load_task_model(str(model), classification(), {}, max_length=most + 1, from_scratch=from_scratch)
    loaded = load_task_model(str(model), classification(), {}, max_length=most, from_scratch=from_scratch).model
    assert loaded(torch.full((1, most), 5)).logits.shape == (1, 2)


def test_weights_that_do_not_belong_to_the_encoder_are_refused(start, tmp_path):
    folder = checkpoint(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}), encoding="utf-8")
    with pytest.raises(InputError, match=r"encoder weights are missing, such as flash_quad.layers.2"):
        load_task_model(str(folder), classification(), {}, max_length=32)
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 24}), encoding="utf-8")
    with pytest.raises(InputError, match=r"has shape .* its config.json says"):
        load_task_model(str(folder), classification(), {}, max_length=32)


def test_weights_that_were_not_copied_in_whole_are_named(tmp_path):
    folder = checkpoint(tmp_path / "model")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"--model .*model cannot be loaded: .*incomplete"):
        load_task_model(str(folder), classification(), {}, max_length=32)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", '{"model_type": "flash_quad", "hidden_size": "wide"}', "'hidden_size' expected int, got str"),
        ("config.json", "[]", "cannot be loaded: TypeError"),
        ("tokenizer.json", "[]", "its tokenizer cannot be loaded: TypeError"),
        ("tokenizer.json", '{"added_tokens": [], "model": {"type": "?"}}', "its tokenizer cannot be loaded"),
        ("tokenizer_config.json", "[]", "its tokenizer cannot be loaded: AttributeError"),
        ("pytorch_model.bin", "", "cannot be loaded: EOFError"),
        ("pytorch_model.bin", "nonsense", "cannot be loaded"),
    ],
)
def test_a_damaged_file_of_a_model_is_one_line(name, content, message, start, tmp_path):
    folder = Path(shutil.copytree(start, tmp_path / "model"))
    if name == "pytorch_model.bin":
        (folder / "model.safetensors").unlink()
    (folder / name).write_text(content, encoding="utf-8")

    def load():
        load_task_tokenizer(str(folder))
        load_task_model(str(folder), classification(), {}, max_length=32)

    with pytest.raises(InputError, match=rf"--model .*model.*{message}") as refused:
        load()
    assert "\n" not in str(refused.value)


def test_a_file_or_a_path_in_the_place_of_a_model_is_named(start):
    with pytest.raises(InputError, match=r"config.json is a file; name the folder that it is in"):
        load_task_tokenizer(str(start / "config.json"))
    for name in ("./nowhere", "/nowhere/model", "runs/a/b"):
        with pytest.raises(InputError, match=f"--model {name}: no such folder"):
            load_task_tokenizer(name)


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_folder_without_a_model_is_named(name, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=f"--model .*{name}"):
        load_task_tokenizer(str(tmp_path / name))


@pytest.mark.parametrize("architecture", ["roberta", "qwen2"])
def test_a_folder_without_its_tokenizer_is_refused_where_that_leaves_out_what_it_does_not_know(architecture, tmp_path):
    model = peer(tmp_path / "model", architecture)
    for path in (*model.glob("tokenizer*"), *model.glob("vocab*"), *model.glob("special*")):
        path.unlink()
    data = task_folder(tmp_path / "data", "classification", train=16, dev=8)
    with pytest.raises(InputError, match="its tokenizer makes no token of the training texts; does the folder hold"):
        finetune(toy_finetuning("classification", data, model, tmp_path / "out"), command="")
    assert not (tmp_path / "out").exists()


def test_a_model_whose_labels_are_not_those_of_its_task_is_refused(start, tmp_path):
    data = task_folder(tmp_path / "data", "classification", train=16, dev=8)
    folder = finetune(
        toy_finetuning("classification", data, start, tmp_path / "out", baselines=False), command=""
    ).folder
    facts = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    (folder / "task.json").write_text(json.dumps(facts | {"label_names": {}, "labels": ["7", "8"]}), encoding="utf-8")
    with pytest.raises(InputError, match=r"the head is missing or for other labels than those of its task.json"):
        Finetuned(folder)
    (folder / "task.json").write_text(json.dumps(facts | {"labels": ["101", "102", "103"]}), encoding="utf-8")
    with pytest.raises(InputError, match=r"the model has 2 labels, its task.json 3"):
        Finetuned(folder)
    (folder / "task.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="is damaged"):
        Finetuned(folder)
    (folder / "task.json").unlink()
    with pytest.raises(InputError, match=r"has no task.json: name a folder that `flashquad finetune` wrote"):
        Finetuned(folder)


def test_depth_grows_from_the_embeddings_to_the_head(start, tmp_path):
    for folder in (start, peer(tmp_path / "bert", "bert"), peer(tmp_path / "modernbert", "modernbert")):
        model = load_task_model(str(folder), classification(), {}, max_length=32).model
        layers = layer_count(model)
        assert layers == 2
        depths = [depth_of(name, layers, model.base_model_prefix) for name, _ in model.named_parameters()]
        assert depths[0] == 0
        assert depths[-1] == layers + 1
        assert set(depths) == {0, 1, 2, 3}
