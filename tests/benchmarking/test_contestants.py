import pytest

from flash.benchmarking.contestants import Contestant, default_contestants, parse_contestant, parse_contestants
from flash.errors import InputError
from flash.models.configuration_flash_quad import FLASHQuadConfig
from flash.ops.backends import BACKENDS


@pytest.mark.parametrize("name", [*default_contestants(), "flash+compile", "flash-quad+full-logits@bf16+compile"])
def test_a_contestant_is_read_from_its_name(name):
    assert parse_contestant(name).name == name


def test_the_parts_of_a_name_are_family_backend_logits_dtype_and_compilation():
    contestant = parse_contestant("flash-quad:blocked+full-logits@bf16+compile")
    assert contestant == Contestant("flash-quad", "blocked", full_logits=True, dtype="bf16", compiled=True)
    assert contestant.stem == "flash-quad:blocked+full-logits"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpt", "no contestant 'gpt': write FAMILY"),
        ("flash@bf16@bf16", "no contestant 'flash@bf16@bf16'"),
        ("", "no contestant ''"),
        ("flash:quick", "no backend 'quick'; choose of auto, reference, blocked, fused"),
        ("bert:blocked", "no backend 'blocked'; leave it out"),
        ("earlier:blocked", "no backend 'blocked'; leave it out"),
        ("flash@fp8", "no dtype 'fp8'; choose of fp32, bf16"),
        ("earlier@bf16", "no dtype 'bf16'; choose of fp32"),
        ("bert+full-logits", "+full-logits is for flash-quad and flash"),
    ],
)
def test_a_name_that_means_nothing_is_one_line(name, message):
    with pytest.raises(InputError) as error:
        parse_contestant(name)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_contestant_named_twice_is_refused():
    with pytest.raises(InputError, match="'flash' is named twice"):
        parse_contestants(["flash", "bert", "flash@fp32"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_backends_are_those_of_a_configuration(backend):
    contestant = parse_contestant(f"flash-quad:{backend}")
    assert FLASHQuadConfig(attention_backend=contestant.backend).attention_backend == backend
