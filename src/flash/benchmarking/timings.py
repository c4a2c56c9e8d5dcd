"""Time contestants in one process, in turn, length by length; what is done is on disk before the next length."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache, partial

import torch

from flash.benchmarking.contestants import Contestant
from flash.benchmarking.families import equal_parameters
from flash.benchmarking.flops import step_flops
from flash.benchmarking.machine import product_flops, product_step, source_commit, synchronize
from flash.benchmarking.records import Conditions, Timing
from flash.benchmarking.result_file import ResultFile
from flash.benchmarking.rounds import Entrant, Outcome, release_memory, run_in_turn
from flash.benchmarking.settings import BenchmarkSettings
from flash.benchmarking.steps import Mode, Shape, Step, batch_shape, make_step, random_batch
from flash.errors import InputError

_PRODUCT = "product of matrices in "


def missing(
    settings: BenchmarkSettings, done: set[tuple[str, str, int]]
) -> Iterator[tuple[Mode, int, list[Contestant]]]:
    """Give each mode and length that somebody is still to be measured at, shortest first, with those it is about."""
    for mode in settings.modes:
        for length in sorted(set(settings.lengths)):
            left = [one for one in settings.compared if (mode, one.name, length) not in done]
            if left:
                yield mode, length, left  # type: ignore[misc]


def measure_timings(settings: BenchmarkSettings, conditions: Conditions, file: ResultFile[Timing]) -> Iterator[str]:
    """Measure what the file does not hold yet, and say what is next.

    The baseline takes part in all rounds: a contestant that joins later is compared with a baseline of its own rounds.
    What failed is measured again, what had no memory or no time is not.
    """
    device = torch.device(settings.device)
    rows = file.read_matching(conditions)
    todo = list(missing(settings, {row.key for row in rows if row.status != "failed"}))
    product_rates = measure_product_rates(settings, device) if todo else {}
    for number, (mode, length, contestants) in enumerate(todo, start=1):
        shape = batch_shape(settings.batch_tokens, length)
        names = ", ".join(one.name for one in contestants)
        yield f"{number} of {len(todo)}: {mode}, {shape.rows} x {length:,} tokens: {names}"
        baseline = settings.compared[0]
        running = contestants if baseline in contestants else [baseline, *contestants]
        outcomes = _run(settings, mode, shape, running, device, product_rates)
        file.append(
            _row(settings, conditions, mode, shape, one, outcomes, baseline.name, device) for one in contestants
        )
        release_memory()
        if any(one.compiled for one in running):
            torch.compiler.reset()  # models that are gone would count towards its limit, beyond which nothing compiles


def measure_product_rates(settings: BenchmarkSettings, device: torch.device) -> dict[str, float]:
    """Measure the operations a second of a matrix product in each dtype, to leave out what must be too slow."""
    outcomes = run_in_turn(
        _product_entrants(settings.compared, device),
        rounds=3,
        warmup=1,
        budget_seconds=math.inf,
        synchronize=partial(synchronize, device),
    )
    for name, one in outcomes.items():
        if one.status != "ok":
            raise InputError(f"--device {device}: a {name} cannot be measured: {one.status} {one.note}".rstrip())
    return {name.removeprefix(_PRODUCT): product_flops(device) / min(one.seconds) for name, one in outcomes.items()}


def _run(
    settings: BenchmarkSettings,
    mode: Mode,
    shape: Shape,
    contestants: list[Contestant],
    device: torch.device,
    product_rates: dict[str, float],
) -> dict[str, Outcome]:
    # drawn by the first who needs it: no memory for it is that contestant's end, not everybody's
    batch = cache(partial(random_batch, shape, device))

    def prepare(contestant: Contestant) -> Step:
        return make_step(contestant, settings.widths, mode, batch(), length=shape.length, device=device)

    entrants = _product_entrants(contestants, device)
    for one in contestants:
        # no step is faster than its products
        least_seconds = _flops(settings, mode, shape, one) / product_rates[one.dtype]
        entrants.append(Entrant(one.name, partial(prepare, one), least_seconds))
    return run_in_turn(
        entrants,
        rounds=settings.rounds,
        warmup=settings.warmup,
        budget_seconds=settings.budget_seconds,
        synchronize=partial(synchronize, device),
    )


def _product_entrants(contestants: list[Contestant], device: torch.device) -> list[Entrant]:
    dtypes = {one.dtype: one.torch_dtype for one in contestants}
    return [
        Entrant(_PRODUCT + name, partial(product_step, dtype, device), limited=False) for name, dtype in dtypes.items()
    ]


def _row(
    settings: BenchmarkSettings,
    conditions: Conditions,
    mode: Mode,
    shape: Shape,
    contestant: Contestant,
    outcomes: dict[str, Outcome],
    baseline: str,
    device: torch.device,
) -> Timing:
    own, product = outcomes[contestant.name], outcomes[_PRODUCT + contestant.dtype]
    measured = own.status == "ok"
    return Timing(
        conditions=conditions,
        mode=mode,
        contestant=contestant.name,
        length=shape.length,
        rows=shape.rows,
        status=own.status,
        note=own.note,
        commit=source_commit(),
        parameters=equal_parameters(contestant.family, settings.widths)[0],
        step_flops=_flops(settings, mode, shape, contestant),
        seconds=tuple(own.seconds),
        baseline_seconds=tuple(outcomes[baseline].seconds) if measured else (),
        product_rate=tuple(product_flops(device) / s for s in product.seconds) if measured else (),
    )


def _flops(settings: BenchmarkSettings, mode: Mode, shape: Shape, contestant: Contestant) -> int:
    size = settings.widths
    return step_flops(contestant, size, mode=mode, rows=shape.rows, length=shape.length, scored=shape.scored)
