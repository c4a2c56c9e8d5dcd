import dataclasses
from typing import Literal

import pytest

from flash import FLASHQuadConfig
from flash.benchmarking import contestants as contestants_module
from flash.benchmarking.contestants import Contestant, default_contestants, parse_contestant, parse_contestants
from flash.benchmarking.families import available_backends
from flash.errors import InputError


@pytest.fixture
def two_backends(monkeypatch):
    monkeypatch.setattr(contestants_module, "available_backends", lambda: ("auto", "blocked"))


@pytest.mark.parametrize("name", [*default_contestants(), "flash+compile", "flash-quad+full-logits@bf16+compile"])
def test_a_contestant_is_read_from_its_name(name):
    assert parse_contestant(name).name == name


def test_the_parts_of_a_name_are_family_backend_logits_dtype_and_compilation(two_backends):
    contestant = parse_contestant("flash-quad:blocked+full-logits@bf16+compile")
    assert contestant == Contestant("flash-quad", "blocked", full_logits=True, dtype="bf16", compiled=True)
    assert contestant.stem == "flash-quad:blocked+full-logits"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpt", "no contestant 'gpt': write FAMILY"),
        ("flash@bf16@bf16", "no contestant 'flash@bf16@bf16'"),
        ("", "no contestant ''"),
        ("flash:quick", "no backend 'quick'; choose of auto, blocked"),
        ("bert:blocked", "no backend 'blocked'; leave it out"),
        ("earlier:blocked", "no backend 'blocked'; leave it out"),
        ("flash@fp8", "no dtype 'fp8'; choose of fp32, bf16"),
        ("earlier@bf16", "no dtype 'bf16'; choose of fp32"),
        ("bert+full-logits", "+full-logits is for flash-quad and flash"),
    ],
)
def test_a_name_that_means_nothing_is_one_line(two_backends, name, message):
    with pytest.raises(InputError) as error:
        parse_contestant(name)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_contestant_named_twice_is_refused():
    with pytest.raises(InputError, match="'flash' is named twice"):
        parse_contestants(["flash", "bert", "flash@fp32"])


def test_backends_are_those_of_the_configuration(monkeypatch):
    @dataclasses.dataclass
    class Configuration:
        attention_backend: Literal["auto", "fused"] = "auto"

    monkeypatch.setattr("flash.benchmarking.families.FLASHQuadConfig", Configuration)
    assert available_backends() == ("auto", "fused")


def test_without_the_setting_there_are_no_backends():
    assert bool(available_backends()) == ("attention_backend" in FLASHQuadConfig.__dataclass_fields__)
