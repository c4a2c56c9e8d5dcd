"""What is measured, what a rerun measures again, and who takes part; the steps are fakes."""

import pytest

from flash.benchmarking import timings as timings_module
from flash.benchmarking.records import Timing
from flash.benchmarking.result_file import ResultFile
from flash.benchmarking.settings import BenchmarkSettings
from flash.benchmarking.timings import measure_timings

from measured import CONDITIONS


@pytest.fixture
def built(monkeypatch):
    """Names and lengths of what was built; ``bert`` has no memory at length 16, ``earlier`` is broken."""
    built = []

    def make_step(contestant, size, mode, batch, *, length, device):
        built.append((contestant.name, length))
        if contestant.family == "bert" and length == 16:
            raise MemoryError
        if contestant.family == "earlier":
            raise RuntimeError("broken")
        return lambda: None

    monkeypatch.setattr(timings_module, "make_step", make_step)
    monkeypatch.setattr(timings_module, "product_step", lambda dtype, device: lambda: None)
    # a fake product is beyond any speed, so nothing would be too slow
    return built


@pytest.fixture
def measure(tmp_path):
    def run(*contestants, lengths=(8, 16)):
        settings = BenchmarkSettings(
            contestants, size="tiny", lengths=lengths, batch_tokens=32, modes=("training",), rounds=3
        )
        file = ResultFile(tmp_path / "times.csv", Timing)
        said = list(measure_timings(settings, CONDITIONS, file))
        return said, {(row.contestant, row.length): row for row in file.read()}

    return run


def test_each_length_is_measured_with_the_baseline(measure, built):
    said, rows = measure("flash", "bert")
    assert said == [
        "1 of 2: training, 4 x 8 tokens: modernbert, flash, bert",
        "2 of 2: training, 2 x 16 tokens: modernbert, flash, bert",
    ]
    assert {key: row.status for key, row in rows.items()} == {
        (name, length): "oom" if (name, length) == ("bert", 16) else "ok"
        for name in ("modernbert", "flash", "bert")
        for length in (8, 16)
    }
    assert all(len(row.seconds) == len(row.baseline_seconds) == 3 for row in rows.values() if row.status == "ok")
    assert rows["bert", 16].seconds == rows["bert", 16].baseline_seconds == ()


def test_a_batch_beyond_the_memory_ends_the_contestants_and_not_the_run(measure, built, monkeypatch):
    def no_batch(shape, device):
        raise MemoryError

    monkeypatch.setattr(timings_module, "random_batch", no_batch)
    said, rows = measure("flash", lengths=(8, 16))
    assert len(said) == 2
    assert {row.status for row in rows.values()} == {"oom"}
    assert not built


def test_a_batch_is_drawn_once_for_all(measure, built, monkeypatch):
    drawn = []
    monkeypatch.setattr(timings_module, "random_batch", lambda shape, device: drawn.append(shape))
    measure("flash", "bert", lengths=(8,))
    assert len(drawn) == 1


def test_a_rerun_measures_only_what_is_missing(measure, built):
    measure("flash", "bert", lengths=(8,))
    built.clear()
    _, rows = measure("flash", "bert", lengths=(8, 16))
    assert {length for _, length in built} == {16}
    assert len(rows) == 6
    built.clear()
    assert measure("flash", "bert") == ([], rows)
    assert not built


def test_who_joins_later_is_measured_beside_the_baseline_of_the_same_rounds(measure, built):
    _, before = measure("flash", lengths=(8,))
    built.clear()
    _, rows = measure("flash", "bert", lengths=(8,))
    assert [name for name, _ in built] == ["modernbert", "bert"]
    assert rows["modernbert", 8] == before["modernbert", 8]
    assert rows["bert", 8].baseline_seconds != rows["modernbert", 8].seconds


def test_what_failed_is_measured_again(measure, built):
    _, rows = measure("earlier", lengths=(8,))
    assert rows["earlier", 8].status == "failed"
    built.clear()
    measure("earlier", lengths=(8,))
    assert ("earlier", 8) in built
