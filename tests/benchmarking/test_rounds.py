import time

import pytest
import torch

from flash.benchmarking.rounds import Entrant, is_out_of_memory, run_in_turn


def counting(calls, name, fail_at=None, error=None):
    def step():
        calls.append(name)
        if fail_at is not None and calls.count(name) == fail_at:
            raise error

    return lambda: step


def run(*entrants, rounds=3, warmup=1, budget=100.0, **options):
    return run_in_turn(entrants, rounds=rounds, warmup=warmup, budget_seconds=budget, **options)


def test_all_take_turns_and_warm_up_steps_are_not_kept():
    calls = []
    outcomes = run(Entrant("a", counting(calls, "a")), Entrant("b", counting(calls, "b")), warmup=2)
    assert calls == ["a", "a", "b", "b"] + ["a", "b"] * 3
    assert {name: (one.status, len(one.seconds)) for name, one in outcomes.items()} == {"a": ("ok", 3), "b": ("ok", 3)}


NO_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory"),
    MemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    RuntimeError("could not create a primitive"),
]


@pytest.mark.parametrize("error", NO_MEMORY, ids=str)
@pytest.mark.parametrize("fail_at", [1, 3])  # in the warm-up, in a round
def test_who_runs_out_of_memory_leaves_and_the_others_go_on(error, fail_at):
    calls = []
    outcomes = run(Entrant("big", counting(calls, "big", fail_at, error)), Entrant("small", counting(calls, "small")))
    assert (outcomes["big"].status, outcomes["big"].seconds) == ("oom", [])
    assert calls.count("big") == fail_at
    assert len(outcomes["small"].seconds) == 3


def test_memory_may_run_out_while_a_model_is_built():
    def build():
        raise MemoryError

    assert run(Entrant("big", build))["big"].status == "oom"


def test_another_error_is_reported_and_logged_and_the_others_go_on(caplog):
    calls = []
    broken = Entrant("broken", counting(calls, "broken", 2, RuntimeError("a kernel\nis wrong")))
    outcomes = run(broken, Entrant("sound", counting(calls, "sound")))
    assert (outcomes["broken"].status, outcomes["broken"].note) == ("failed", "RuntimeError: a kernel is wrong")
    assert "is wrong" in caplog.text
    assert outcomes["sound"].status == "ok"


def test_ctrl_c_ends_everything():
    with pytest.raises(KeyboardInterrupt):
        run(Entrant("a", counting([], "a", 1, KeyboardInterrupt())))


def test_an_unimplemented_product_is_no_lack_of_memory():
    assert not is_out_of_memory(RuntimeError("could not create a primitive descriptor for a matmul primitive"))
    assert not is_out_of_memory(ValueError("can't allocate memory"))


def test_who_must_be_too_slow_is_not_even_built():
    def build():
        raise AssertionError("built")

    outcome = run(Entrant("slow", build, least_seconds=30.0))["slow"]
    assert (outcome.status, outcome.note) == ("too slow", "4 steps of at least 30.0 s; the budget is 100 s")


def test_who_shows_to_be_too_slow_leaves_after_the_last_warm_up(monkeypatch):
    calls = []
    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    outcome = run(Entrant("slow", counting(calls, "slow")), rounds=10, warmup=2)["slow"]
    # 12 steps of 10 s; the first warm-up alone may be slow, for it compiles
    assert (outcome.status, len(calls)) == ("too slow", 2)


def test_the_budget_is_not_for_the_measuring_stick():
    assert run(Entrant("product", counting([], "p"), limited=False), budget=1e-12)["product"].status == "ok"


def test_the_device_is_waited_for_before_and_after_each_step():
    calls = []
    run(Entrant("a", counting(calls, "step")), rounds=1, warmup=1, synchronize=lambda: calls.append("wait"))
    assert calls == ["wait", "step", "wait"] * 2
