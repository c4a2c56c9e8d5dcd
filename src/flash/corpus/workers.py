"""A function over a stream of tasks, in other processes: results in order, memory bounded."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext
from typing import Any, TypeVar

from flash.errors import InputError

Task = TypeVar("Task")
Result = TypeVar("Result")

# Enough tasks handed out that no worker waits, few enough that memory stays small.
_TASKS_PER_WORKER = 3

# A worker takes seconds to start; one process reads so many bytes in that time.
_BYTES_PER_WORKER = 4 << 20

# The function of this worker process; every task of the pool is for it.
_function: Callable[[Any], Any] | None = None


def usable_workers(workers: int, input_bytes: int) -> int:
    """Return how many workers to start: ``workers``, but no more than there are cores, and than are worth starting.

    Args:
        workers: As the user asked; 0 is one a core.
        input_bytes: Size of all input files.

    Raises:
        InputError: A negative number.
    """
    check_workers(workers)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(workers or cores, cores, 1 + input_bytes // _BYTES_PER_WORKER)


def check_workers(workers: int) -> None:
    """Raise InputError for a negative number of workers."""
    if workers < 0:
        raise InputError(f"the number of workers must be 0 (one a core) or more, got {workers}")


def ordered_map(
    factory: Callable[..., Callable[[Task], Result]],
    arguments: tuple[Any, ...],
    tasks: Iterable[Task],
    workers: int,
) -> Iterator[Result]:
    """Yield the result for each task, in the order of the tasks, whatever the number of workers.

    Args:
        factory: Called once in each worker, with ``arguments``; returns the function that is given the tasks. It
            must be importable, and the main module guarded by ``if __name__ == "__main__"``: workers are not forked
            from this process, since a fork copies the locks of other threads.
        arguments: Of ``factory``.
        tasks: Taken as workers become free, a few ahead.
        workers: Number of processes; with 1, everything happens in this one.

    Raises:
        ChildProcessError: A worker process died.
    """
    if workers == 1:
        yield from map(factory(*arguments), tasks)
        return
    pool = ProcessPoolExecutor(workers, _context(factory), initializer=_start, initargs=(factory, arguments))
    waiting: deque[Future[Result]] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(_run, task))
            if len(waiting) >= _TASKS_PER_WORKER * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise ChildProcessError(
            f"one of {workers} worker processes died, most often for lack of memory: try again with fewer workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def worker_context() -> BaseContext:
    """Return how workers are started; what they share with this process must be made by the same."""
    methods = multiprocessing.get_all_start_methods()
    return multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")


def _context(factory: Callable[..., Any]) -> BaseContext:
    context = worker_context()
    # one clean process imports what the workers need, and they are forked from that: one import, shared memory
    context.set_forkserver_preload([__name__, factory.__module__])
    return context


def _start(factory: Callable[..., Callable[[Any], Any]], arguments: tuple[Any, ...]) -> None:
    global _function
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle, once
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _function = factory(*arguments)


def _end_with_parent() -> None:
    # a worker holds both ends of its task pipe, so it would wait for ever after a parent that was killed
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _run(task: Any) -> Any:
    assert _function is not None
    return _function(task)
