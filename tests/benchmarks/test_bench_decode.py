"""What the benchmark of generation holds, counts and writes, at toy size."""

import json
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from flash import FLASHConfig

import bench_decode
from bench_decode import (
    CHUNK,
    Measured,
    build_models,
    cache_bytes,
    copy_table,
    memory_table,
    random_context,
    read_contexts,
    time_table,
)

WIDTH, UNITS = 64, 2


@pytest.fixture(scope="module")
def models() -> dict[str, PreTrainedModel]:
    return build_models(WIDTH, UNITS)


def state_bytes(config: FLASHConfig) -> int:
    """Sums, the chunk begun, its mask, a count, a position, and the channels kept for the shift of the next token."""
    sums = config.query_key_dim * config.intermediate_size
    chunk = config.chunk_size * (2 * config.query_key_dim + config.intermediate_size)
    shifted = int(config.token_shift * config.hidden_size)
    return 4 * (sums + chunk + shifted + 1) + config.chunk_size + 8


@torch.inference_mode()
def test_the_state_of_flash_does_not_grow(models: dict[str, PreTrainedModel]):
    short, long = read_contexts(models["FLASH"], [5, 2 * CHUNK + 9])
    assert short.get_seq_length() < long.get_seq_length()
    assert cache_bytes(short) == cache_bytes(long) == UNITS * state_bytes(models["FLASH"].config)


@torch.inference_mode()
@pytest.mark.parametrize("name", ["FLASH-Quad", "Transformer", "Transformer, 1 key/value head"])
def test_a_cache_of_random_keys_is_as_large_as_one_that_was_read(models: dict[str, PreTrainedModel], name: str):
    _, read = read_contexts(models[name], [7, 23])
    filled = random_context(models[name], 23)
    assert filled.get_seq_length() == read.get_seq_length() == 23
    assert cache_bytes(filled) == cache_bytes(read)
    # and the model goes on behind it
    logits = models[name](input_ids=torch.ones((1, 1), dtype=torch.long), past_key_values=filled).logits
    assert logits.isfinite().all()


@torch.inference_mode()
def test_a_token_adds_its_key_and_value_to_the_cache_of_flash_quad(models: dict[str, PreTrainedModel]):
    shorter, longer = (cache_bytes(random_context(models["FLASH-Quad"], n)) for n in (10, 11))
    config = models["FLASH-Quad"].config
    assert longer - shorter == UNITS * (4 * (config.query_key_dim + config.intermediate_size) + 1)  # 1: its mask


def test_the_contestants_are_equal_in_parameters(models: dict[str, PreTrainedModel]):
    counts = [model.num_parameters() for model in models.values()]
    assert max(counts) < 1.01 * min(counts)


def test_the_tables_give_milliseconds_ratios_by_round_shares_and_mebibytes():
    measured = [
        Measured("FLASH", 1024, [0.002, 0.004, 0.006], [0.0, 0.0, 0.0], cache_bytes=1 << 20),
        Measured("Transformer", 1024, [0.004, 0.002, 0.002], [0.001, 0.001, 0.003], cache_bytes=3 << 19),
    ]
    assert time_table(measured).splitlines()[-1] == "| 1,024 | 4 (2 ... 6); 2.00 | 2 (2 ... 4) |"
    assert copy_table(measured).splitlines()[-1] == "| 1,024 | 0% | 50% |"
    assert memory_table(measured).splitlines()[-1] == "| 1,024 | 1.00 | 1.50 |"


def test_a_toy_run_prints_and_writes_its_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    results, figure = tmp_path / "decode.json", tmp_path / "decode.png"
    options = ["--contexts", "16", "8", "--hidden-size", "64", "--units", "2", "--rounds", "2", "--tokens", "1"]
    bench_decode.main([*options, "--chunks", "1", "--results", str(results), "--figure", str(figure)])
    assert "| 16 |" in capsys.readouterr().out
    measured = [Measured(**one) for one in json.loads(results.read_text(encoding="utf-8"))["measured"]]
    assert {(one.model, one.context) for one in measured} == {
        (name, context) for name in build_models(64, 2) for context in (8, 16)
    }
    assert all(len(one.seconds) == 2 for one in measured)
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_sizes_that_no_model_can_have_are_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        bench_decode.main(["--hidden-size", "100"])
    assert "--hidden-size must be a multiple of 64" in capsys.readouterr().err
