"""Muon with AdamW: each parameter is stepped as PyTorch's own optimizer of its kind would step it."""

import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from flash import (
    FLASHConfig,
    FLASHForMaskedLM,
    FLASHQuadConfig,
    FLASHQuadForMaskedLM,
    GAUAlphaConfig,
    GAUAlphaForMaskedLM,
)
from flash.errors import InputError
from flash.training.muon import MuonWithAdamW, hidden_matrices
from flash.training.pretrain import pretrain
from flash.training.trainer import MaskedLMTrainer

from toy_pretraining import curve, toy_arguments

SETTINGS = {"lr": 0.02, "muon_lr": 0.005, "weight_decay": 0.1, "betas": (0.9, 0.98), "eps": 1e-6}


@pytest.fixture
def parameters():
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(shape)) for shape in ((6, 4), (4, 8), (5, 3), (4,), ())]


def gradients(parameters, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(p.shape, generator=generator) for p in parameters]


def step(optimizer, parameters, seed):
    for parameter, gradient in zip(parameters, gradients(parameters, seed), strict=True):
        parameter.grad = gradient
    optimizer.step()


def copies(parameters):
    return [nn.Parameter(p.detach().clone()) for p in parameters]


def make(parameters):
    return MuonWithAdamW(parameters[:2], parameters[2:3], parameters[3:], **SETTINGS)


def test_each_part_is_stepped_as_by_pytorchs_own_optimizer(parameters):
    expected = copies(parameters)
    muon = torch.optim.Muon(expected[:2], lr=0.005, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    decayed = torch.optim.AdamW(expected[2:3], lr=0.02, weight_decay=0.1, betas=(0.9, 0.98), eps=1e-6)
    others = torch.optim.AdamW(expected[3:], lr=0.02, weight_decay=0.0, betas=(0.9, 0.98), eps=1e-6)
    optimizer = make(parameters)
    for seed in range(3):
        step(optimizer, parameters, seed)
        for part in (muon, decayed, others):
            for parameter, gradient in zip(expected, gradients(expected, seed), strict=True):
                parameter.grad = gradient
            part.step()
    assert all(torch.equal(a, b) for a, b in zip(parameters, expected, strict=True))


def test_a_scheduler_sets_the_learning_rate_of_all_parts_also_after_a_reload(parameters):
    optimizer = make(parameters)
    optimizer.load_state_dict(optimizer.state_dict())
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0)  # nothing may move
    before = copies(parameters)
    step(optimizer, parameters, 0)
    scheduler.step()
    assert all(torch.equal(a, b) for a, b in zip(parameters, before, strict=True))


def test_a_reloaded_state_goes_on_bit_for_bit(parameters, tmp_path):
    optimizer = make(parameters)
    for seed in range(2):
        step(optimizer, parameters, seed)
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    others = copies(parameters)
    reloaded = make(others)
    reloaded.load_state_dict(torch.load(tmp_path / "optimizer.pt", weights_only=True))
    step(optimizer, parameters, 2)
    step(reloaded, others, 2)
    assert all(torch.equal(a, b) for a, b in zip(parameters, others, strict=True))


def test_gradients_are_set_to_none(parameters):
    optimizer = make(parameters)
    step(optimizer, parameters, 0)
    optimizer.zero_grad()
    assert all(p.grad is None for p in parameters)


SMALL = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2}


@pytest.mark.parametrize(
    "model",
    [
        FLASHQuadForMaskedLM(FLASHQuadConfig(**SMALL, query_key_dim=8, relative_bias="rotary_product")),
        FLASHForMaskedLM(FLASHConfig(**SMALL, query_key_dim=8)),
        GAUAlphaForMaskedLM(GAUAlphaConfig(**SMALL, query_key_dim=8)),
    ],
    ids=lambda model: model.config.model_type,
)
def test_muon_steps_the_projections_and_nothing_else(model, tmp_path, toy_dataset):
    trainer = MaskedLMTrainer(model=model, args=toy_arguments(toy_dataset, tmp_path, muon=True, validation_split=0))
    optimizer = trainer.create_optimizer()
    assert isinstance(optimizer, MuonWithAdamW)
    for_muon = {id(p) for p in optimizer.param_groups[-1]["params"]}
    stepped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(stepped) == sorted(id(p) for p in model.parameters())
    names = {name for name, p in model.named_parameters() if id(p) in for_muon}
    assert names == hidden_matrices(model)
    projections = {"in_proj.weight", "out_proj.weight", "dense.weight"}
    assert names == {name for name, _ in model.named_parameters() if name.endswith(tuple(projections))}
    assert len(names) >= 4


def test_a_run_with_muon_resumes_bit_for_bit(toy_dataset, tmp_path):
    def run(name):
        arguments = toy_arguments(toy_dataset, tmp_path / name, muon=True, max_steps=6, save_steps=3)
        pretrain(arguments, command="flashquad pretrain")
        return tmp_path / name

    whole = run("whole")
    shutil.copytree(whole / "checkpoint-3", tmp_path / "resumed" / "checkpoint-3")
    resumed = run("resumed")
    assert curve(resumed) == curve(whole)
    assert Path(resumed, "model.safetensors").read_bytes() == Path(whole, "model.safetensors").read_bytes()


def test_a_muon_checkpoint_is_not_gone_on_with_by_adamw(toy_dataset, tmp_path):
    run = {"max_steps": 3, "save_steps": 3}
    pretrain(toy_arguments(toy_dataset, tmp_path / "run", muon=True, **run), command="flashquad pretrain")
    with pytest.raises(InputError, match="--muon"):
        pretrain(toy_arguments(toy_dataset, tmp_path / "run", max_steps=6), command="flashquad pretrain")


def test_muon_refuses_sharded_matrices(toy_dataset, tmp_path):
    with pytest.raises(InputError, match="leave out --muon or"):
        toy_arguments(toy_dataset, tmp_path, muon=True, fsdp="full_shard")


def test_muons_learning_rate_is_a_quarter_unless_given(toy_dataset, tmp_path):
    def rates(**settings):
        arguments = toy_arguments(toy_dataset, tmp_path, muon=True, learning_rate=0.02, validation_split=0, **settings)
        model = FLASHQuadForMaskedLM(FLASHQuadConfig(**SMALL, query_key_dim=8))
        optimizer = MaskedLMTrainer(model=model, args=arguments).create_optimizer()
        return [group["lr"] for group in optimizer.param_groups]

    assert rates() == [0.02, 0.02, 0.005]
    assert rates(muon_learning_rate=0.01) == [0.02, 0.02, 0.01]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"muon_learning_rate": 0.01}, "--muon_learning_rate 0.01 without --muon"),
        ({"muon": True, "muon_learning_rate": -1.0}, "--muon_learning_rate must be at least 0, got -1.0"),
    ],
)
def test_a_muon_learning_rate_that_cannot_be_is_refused(settings, message, toy_dataset, tmp_path):
    with pytest.raises(InputError, match=message):
        toy_arguments(toy_dataset, tmp_path, **settings)
