import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from flash.corpus import workers
from flash.corpus.workers import ordered_map, usable_workers
from flash.errors import InputError


class SlowFirst:
    """Is done with the first task last."""

    def __init__(self, factor):
        self._factor = factor

    def __call__(self, task):
        time.sleep(0.2 if task == 0 else 0)
        return task * self._factor


class Dies:
    def __call__(self, task):
        if task == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return task


class ReportsItself:
    def __call__(self, task):
        return os.getpid()


class Fails:
    def __call__(self, task):
        raise ArithmeticError(f"task {task}")


@pytest.mark.parametrize("count", [1, 2])
def test_results_come_in_the_order_of_the_tasks(count):
    assert list(ordered_map(SlowFirst, (10,), range(20), count)) == [10 * task for task in range(20)]


def test_tasks_are_taken_only_a_few_ahead():
    taken = []

    def tasks():
        for task in range(100):
            taken.append(task)
            yield task

    results = ordered_map(SlowFirst, (1,), tasks(), 2)
    next(results)
    assert len(taken) <= 2 * workers._TASKS_PER_WORKER
    results.close()


def test_dead_worker_is_told():
    with pytest.raises(ChildProcessError, match=r"worker processes died.*memory"):
        list(ordered_map(Dies, (), range(10), 2))


def test_workers_end_with_a_parent_that_was_killed():
    program = (
        "from flash.corpus.workers import ordered_map\n"
        "from test_workers import ReportsItself\n"
        "import itertools\n"
        "for pid in ordered_map(ReportsItself, (), itertools.count(), 2): print(pid, flush=True)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program], cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True
    )
    worker = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    assert worker.wait(timeout=30) is None


@pytest.mark.parametrize("count", [1, 2])
def test_error_of_a_worker_comes_through(count):
    with pytest.raises(ArithmeticError, match="task 0"):
        list(ordered_map(Fails, (), range(3), count))


def test_no_more_workers_than_cores_and_than_work(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    much = 1 << 30
    assert [usable_workers(count, much) for count in (0, 1, 3, 12)] == [8, 1, 3, 8]
    assert usable_workers(8, 1000) == 1


def test_negative_number_of_workers_is_refused():
    with pytest.raises(InputError, match="got -1"):
        usable_workers(-1, 0)
