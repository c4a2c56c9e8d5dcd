"""Runs in turn: each contestant once a round, so that a slow spell of the machine hits all of them."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from flash.benchmarking.steps import Step

Status = Literal["ok", "oom", "too slow", "failed"]
# of PyTorch's allocator, of C++, and of oneDNN (a product that it does not know is "could not create a primitive
# descriptor")
_NO_MEMORY_ON_CPU = ("can't allocate memory", "std::bad_alloc", "could not create a primitive\n")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entrant:
    """Somebody who takes part in the rounds.

    Args:
        prepare: Makes what is timed; may run out of memory.
        least_seconds: A step cannot take less, as far as one knows.
        limited: Whether the budget is for this one too.
    """

    name: str
    prepare: Callable[[], Step]
    least_seconds: float = 0.0
    limited: bool = True


@dataclass
class Outcome:
    """What became of an entrant.

    Args:
        note: Why there are no seconds.
        seconds: Of each round; none unless ``status`` is ok.
    """

    status: Status = "ok"
    note: str = ""
    seconds: list[float] = field(default_factory=list)


def run_in_turn(
    entrants: Sequence[Entrant],
    *,
    rounds: int,
    warmup: int,
    budget_seconds: float,
    synchronize: Callable[[], object] = lambda: None,
) -> dict[str, Outcome]:
    """Prepare all, warm each up, and time one step of each a round, in turn.

    Who runs out of memory, fails, or would need more than the budget for all its steps leaves; the others go on.

    Args:
        budget_seconds: For the warm-up and the rounds of one entrant together. A step that cannot be interrupted is
            judged by ``least_seconds`` before it is run, and by its last warm-up after.
        synchronize: Waits for the device, before and after each step.
    """
    outcomes = {one.name: Outcome() for one in entrants}
    running: dict[str, Step] = {}
    times = warmup + rounds

    def attempt(name: str, act: Callable[[], object]) -> object:
        """Do something of one entrant, who leaves where it fails."""
        status: Status
        try:
            return act()
        except Exception as error:
            out_of_memory = is_out_of_memory(error)
            status, note = ("oom", "") if out_of_memory else ("failed", f"{type(error).__name__}: {error}")
            if not out_of_memory:
                _logger.exception("%s failed and is left out", name)
        # outside of the except clause, whose traceback holds the tensors of the failed step
        outcomes[name] = Outcome(status, " ".join(note.split())[:200])
        running.pop(name, None)
        release_memory()
        return None

    def timed(name: str) -> float | None:
        def act() -> float:
            synchronize()
            started = time.perf_counter()
            running[name]()
            synchronize()
            return time.perf_counter() - started

        return attempt(name, act)  # type: ignore[return-value]

    def too_slow(entrant: Entrant, seconds: float, note: str) -> bool:
        if seconds <= budget_seconds or not entrant.limited:
            return False
        name = entrant.name
        outcomes[name] = Outcome("too slow", f"{note}; the budget is {budget_seconds:,.0f} s")
        running.pop(name, None)
        release_memory()
        return True

    for entrant in entrants:
        least = entrant.least_seconds
        if too_slow(entrant, times * least, f"{times} steps of at least {least:,.1f} s"):
            continue
        step = attempt(entrant.name, entrant.prepare)
        if step is None:
            continue
        running[entrant.name] = step  # type: ignore[assignment]
        del step
        for turn in range(1, warmup + 1):
            seconds = timed(entrant.name)
            if seconds is None:
                break
            # a first step may compile and tune: only the last warm-up speaks for the rounds
            steps = times if turn == warmup else 1
            if too_slow(entrant, steps * seconds, f"{steps} steps of about {seconds:,.1f} s"):
                break
    for _ in range(rounds):
        for name in list(running):
            seconds = timed(name)
            if seconds is not None:
                outcomes[name].seconds.append(seconds)
    return outcomes


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out; on a CPU its class does not tell."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(part in f"{error}\n" for part in _NO_MEMORY_ON_CPU)


def release_memory() -> None:
    """Give the memory of what is no longer used back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
