import json

import pytest
from typer.testing import CliRunner

from flash.cli import app


@pytest.fixture
def bench(tmp_path):
    def run(*arguments):
        toy = ["--size", "tiny", "--lengths", "8,16", "--tokens", "16", "--rounds", "2", "--warmup", "1"]
        few = ["--contestants", "flash-quad", "--modes", "inference"]
        return CliRunner().invoke(app, ["bench", "--output", str(tmp_path / "out"), *toy, *few, *arguments])

    return run


def one_line(result):
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    return line


def test_a_run_leaves_numbers_and_a_figure_and_goes_on_where_it_ended(bench, tmp_path):
    result = bench()
    assert result.exit_code == 0, result.output
    folder = tmp_path / "out"
    assert sorted(path.name for path in folder.iterdir()) == ["bench.json", "bench.png", "times.csv"]
    assert "flash-quad: 8,090,864 parameters, +0.00% of FLASH-Quad" in result.stdout
    assert "2 of 2: inference, 1 x 16 tokens: modernbert, flash-quad" in result.stderr
    assert "over Transformer++" in result.stdout
    numbers = json.loads((folder / "bench.json").read_text(encoding="utf-8"))
    assert {(row["contestant"], row["length"]) for row in numbers["timings"]} == {
        (name, length) for name in ("modernbert", "flash-quad") for length in (8, 16)
    }
    assert numbers["environment"]["threads"] == numbers["timings"][0]["threads"]
    before = (folder / "times.csv").read_bytes()
    again = bench()
    assert again.exit_code == 0, again.output
    assert (folder / "times.csv").read_bytes() == before
    assert "was measured with rounds 2, this run has 3" in one_line(bench("--rounds", "3"))


def test_padding_is_measured_beside(bench, tmp_path):
    result = bench("--lengths", "64", "--tokens", "256", "--lengths-from", "headlines")
    assert result.exit_code == 0, result.output
    assert "of 256 | flash-quad" in result.stdout
    assert (tmp_path / "out" / "padding.csv").exists()
    (tmp_path / "lengths.txt").write_text("5", encoding="utf-8")
    other = bench("--lengths", "64", "--tokens", "256", "--lengths-from", str(tmp_path / "lengths.txt"))
    assert "was measured with the lengths of headlines: name another --output" in one_line(other)


def test_a_contestant_that_fails_is_reported_at_the_end(bench, monkeypatch):
    def broken(contestant, *_, **__):
        raise RuntimeError(f"{contestant.name} is broken")

    monkeypatch.setattr("flash.benchmarking.timings.make_step", broken)
    result = bench()
    assert result.exit_code == 1
    assert "failed: flash-quad, inference, 8 tokens: RuntimeError: flash-quad is broken" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--contestants", "flash,gpt"], "no contestant 'gpt'"),
        (["--contestants", ","], "name at least one contestant"),
        (["--baseline", "gpt"], "no contestant 'gpt'"),
        (["--size", "huge"], "--size huge: there are tiny, small, base, large"),
        (["--lengths", "128,0"], "--lengths must be positive, got 128, 0"),
        (["--lengths", "-5"], "--lengths must be positive, got -5"),
        (["--lengths", "long"], "--lengths long: write whole numbers"),
        (["--lengths", ""], "--lengths must be positive, got none"),
        (["--tokens", "0"], "--batch-tokens must be at least 1, got 0"),
        (["--rounds", "0"], "--rounds must be at least 1, got 0"),
        (["--warmup", "0"], "--warmup must be at least 1, got 0"),
        (["--threads", "0"], "--threads must be at least 1 and at most"),
        (["--threads", "1000000"], "the cores here, got 1000000"),
        (["--lengths", "8,99999999999999999999"], "must be at most 67,108,864 tokens"),
        (["--tokens", "99999999999"], "must be at most 67,108,864 tokens"),
        (["--memory-limit", "0"], "--memory-limit must be above 0 and finite, in GiB, got 0"),
        (["--memory", "--memory-limit", "0"], "--memory-limit must be above 0 and finite, in GiB, got 0"),
        (["--memory-limit", "inf"], "--memory-limit must be above 0 and finite, in GiB, got inf"),
        (["--budget", "0"], "--budget must be above 0 seconds, got 0"),
        (["--budget", "nan"], "--budget must be above 0 seconds, got nan"),
        (["--modes", "sleeping"], "--modes sleeping: choose of training, inference"),
        (["--device", "abacus"], "--device abacus: no such device"),
        (["--device", "meta"], "--device meta: cannot be measured"),
        (["--device", "cuda:99"], "--device cuda:99: PyTorch sees "),
        (["--memory", "--lengths-from", "headlines"], "ask for one at a time"),
        (["--lengths-from", "nowhere.txt"], "--lengths-from nowhere.txt: neither a file nor one of headlines"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(bench, tmp_path, arguments, message):
    assert message in one_line(bench(*arguments))
    folder = tmp_path / "out"
    assert not folder.exists() or not list(folder.iterdir())


def test_kernels_that_cannot_run_here_are_refused_before_anything_is_measured(bench, tmp_path, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    line = one_line(bench("--contestants", "flash,flash-quad:fused"))
    assert "contestant 'flash-quad:fused' cannot run: " in line
    assert not (tmp_path / "out").exists()


def test_help_has_an_example():
    result = CliRunner().invoke(app, ["bench", "--help"])
    assert result.exit_code == 0
    assert "flashquad bench --output build/bench" in result.stdout
    assert "@bf16" in result.stdout
