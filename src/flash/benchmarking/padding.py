"""Rows of unequal length: layers that compute padding too, against layers that see the real tokens only."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor

from flash.benchmarking.contestants import Contestant
from flash.benchmarking.machine import source_commit, synchronize
from flash.benchmarking.records import Conditions, Padding
from flash.benchmarking.result_file import ResultFile
from flash.benchmarking.rounds import Entrant, release_memory, run_in_turn
from flash.benchmarking.settings import BenchmarkSettings
from flash.benchmarking.steps import Mode, Shape, Step, make_step, random_batch
from flash.benchmarking.timings import missing
from flash.errors import InputError
from flash.models.losses import NOT_SCORED

# Quantiles of a distribution of lengths in tokens at equal steps from 0 to 1, [CLS] and [SEP] counted; between them it
# is linear. Headlines: 13,071 training headlines of TNEWS as characters, mean 24.3.
DISTRIBUTIONS: dict[str, tuple[int, ...]] = {
    "headlines": (4, 12, 14, 16, 17, 19, 20, 21, 22, 24, 25, 26, 27, 28, 29, 30, 31, 32, 32, 34, 60),
}
_MOST_DIGITS = 18  # of a number in a file


def draw_lengths(distribution: str, count: int, *, longest: int, seed: int = 0) -> list[int]:
    """Draw lengths from a named distribution, or from a file with a number a line; none is above ``longest``.

    Raises:
        InputError: There is neither, or a line of the file is no positive number.
    """
    source = random.Random(seed)
    if distribution in DISTRIBUTIONS:
        quantiles = DISTRIBUTIONS[distribution]
        drawn = (_between(quantiles, source.random()) for _ in range(count))
    else:
        lengths = _read_lengths(Path(distribution))
        drawn = (source.choice(lengths) for _ in range(count))
    return [min(length, longest) for length in drawn]


def padded_batch(lengths: Sequence[int], width: int, device: torch.device) -> dict[str, Tensor]:
    """Draw a sequence a row, padded on the right, with labels at 15 % of the positions before padding."""
    batch = random_batch(Shape(len(lengths), width), device)
    mask = torch.arange(width, device=device) < torch.tensor(lengths, device=device)[:, None]
    batch["input_ids"] = batch["input_ids"].masked_fill(~mask, 0)
    batch["labels"] = batch["labels"].masked_fill(~mask, NOT_SCORED)
    return batch | {"attention_mask": mask.long()}


def measure_padding(
    settings: BenchmarkSettings, conditions: Conditions, file: ResultFile[Padding], *, distribution: str
) -> Iterator[str]:
    """Measure each contestant with padding and without, in turn, at each length as the padded width; say what is next.

    Gated models leave padding out by themselves, but for their reference backend, which is what they are compared with,
    and compiled graphs. The rows of the others hold the seconds of the padded run alone.
    """
    device = torch.device(settings.device)
    done = file.read_matching(conditions)
    other = next((row for row in done if row.distribution != distribution), None)
    if other is not None:
        raise InputError(f"{file.path} was measured with the lengths of {other.distribution}: name another --output")
    todo = list(missing(settings, {row.key for row in done if row.status != "failed"}))
    for number, (mode, width, contestants) in enumerate(todo, start=1):
        lengths = draw_lengths(distribution, max(1, settings.batch_tokens // width), longest=width)
        yield f"{number} of {len(todo)}: {mode}, {len(lengths)} rows of {distribution} padded to {width:,}"
        file.append(_measure(settings, conditions, mode, lengths, width, contestants, device, distribution))
        release_memory()


def _measure(
    settings: BenchmarkSettings,
    conditions: Conditions,
    mode: Mode,
    lengths: Sequence[int],
    width: int,
    contestants: Sequence[Contestant],
    device: torch.device,
    distribution: str,
) -> Iterator[Padding]:
    # drawn by the first who needs it, as in ``timings``
    batch = cache(partial(padded_batch, lengths, width, device))

    def prepare(contestant: Contestant) -> Step:
        return make_step(contestant, settings.widths, mode, batch(), length=width, device=device)

    entrants = []
    for one in contestants:
        kinds = {"padded": one}
        if one.leaves_padding_out:
            kinds = {"padded": replace(one, backend="reference"), "packed": one}
        for kind, contestant in kinds.items():
            entrants.append(Entrant(f"{one.name} {kind}", partial(prepare, contestant)))
    outcomes = run_in_turn(
        entrants,
        rounds=settings.rounds,
        warmup=settings.warmup,
        budget_seconds=settings.budget_seconds,
        synchronize=partial(synchronize, device),
    )
    for one in contestants:
        own = [outcomes[f"{one.name} {kind}"] for kind in ("padded", "packed") if f"{one.name} {kind}" in outcomes]
        worst = next((outcome for outcome in own if outcome.status != "ok"), own[0])
        measured = worst.status == "ok"
        yield Padding(
            conditions=conditions,
            mode=mode,
            contestant=one.name,
            length=width,
            rows=len(lengths),
            status=worst.status,
            note=worst.note,
            commit=source_commit(),
            distribution=distribution,
            real_tokens=sum(lengths),
            padded_seconds=tuple(own[0].seconds) if measured else (),
            packed_seconds=tuple(own[1].seconds) if measured and len(own) > 1 else (),
        )


def _between(quantiles: Sequence[int], share: float) -> int:
    place = share * (len(quantiles) - 1)
    below = int(place)  # share is below 1
    return round(quantiles[below] + (place - below) * (quantiles[below + 1] - quantiles[below]))


def _read_lengths(path: Path) -> list[int]:
    try:
        lines = path.read_text(encoding="utf-8").split()
    except FileNotFoundError:
        raise InputError(
            f"--lengths-from {path}: neither a file nor one of {', '.join(DISTRIBUTIONS)}; a file has a length a line"
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"--lengths-from {path}: not a text file; it needs a length in tokens a line") from None
    for number, line in enumerate(lines, start=1):
        if not line.isdecimal() or len(line) > _MOST_DIGITS or int(line) < 1:
            raise InputError(f"--lengths-from {path}, number {number}: {line[:40]!r} is no positive number of tokens")
    if not lines:
        raise InputError(f"--lengths-from {path}: the file is empty; it needs a length in tokens a line")
    return [int(line) for line in lines]
