"""Rows of unequal length: padded to one width, against the same sequences packed into fewer rows."""

from __future__ import annotations

import bisect
import random
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from flash.benchmarking.contestants import Contestant
from flash.benchmarking.machine import source_commit, synchronize
from flash.benchmarking.records import Conditions, Padding
from flash.benchmarking.result_file import ResultFile
from flash.benchmarking.rounds import Entrant, release_memory, run_in_turn
from flash.benchmarking.settings import BenchmarkSettings
from flash.benchmarking.steps import Mode, Shape, make_step, random_batch
from flash.benchmarking.timings import missing
from flash.errors import InputError
from flash.models.losses import NOT_SCORED

# Quantiles of a distribution of lengths in tokens at equal steps from 0 to 1, [CLS] and [SEP] counted; between them it
# is linear. Headlines: 13,071 training headlines of TNEWS as characters, mean 24.3.
DISTRIBUTIONS: dict[str, tuple[int, ...]] = {
    "headlines": (4, 12, 14, 16, 17, 19, 20, 21, 22, 24, 25, 26, 27, 28, 29, 30, 31, 32, 32, 34, 60),
}


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


def pack(lengths: Sequence[int], width: int) -> list[list[int]]:
    """Put sequences into rows of at most ``width`` tokens, longest first, each where it leaves the least room.

    Returns:
        The numbers of the sequences of each row.
    """
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (free tokens, row), sorted
    for number in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        place = bisect.bisect_left(room, (lengths[number], 0))
        if place < len(room):
            free, row = room.pop(place)
        else:
            free, row = width, len(rows)
            rows.append([])
        rows[row].append(number)
        bisect.insort(room, (free - lengths[number], row))
    return rows


def padded_batch(lengths: Sequence[int], width: int, device: torch.device) -> dict[str, Tensor]:
    """Draw a sequence a row, padded on the right, with labels at 15 % of the positions before padding."""
    batch = random_batch(Shape(len(lengths), width), device)
    mask = torch.arange(width, device=device) < torch.tensor(lengths, device=device)[:, None]
    batch["input_ids"] = batch["input_ids"].masked_fill(~mask, 0)
    batch["labels"] = batch["labels"].masked_fill(~mask, NOT_SCORED)
    return batch | {"attention_mask": mask.long()}


def packed_batch(padded: dict[str, Tensor], lengths: Sequence[int]) -> dict[str, Tensor]:
    """Pack the rows of a padded batch into fewer, which ``seq_idx`` keeps apart; the ends of the rows are padding."""
    width = padded["input_ids"].shape[1]
    rows = pack(lengths, width)
    shape = (len(rows), width)
    packed = {name: x.new_full(shape, NOT_SCORED if name == "labels" else 0) for name, x in padded.items()}
    packed["seq_idx"] = packed["input_ids"].new_full(shape, -1)
    for row, numbers in enumerate(rows):
        start = 0
        for number in numbers:
            end = start + lengths[number]
            for name, x in padded.items():
                packed[name][row, start:end] = x[number, : lengths[number]]
            packed["seq_idx"][row, start:end] = number
            start = end
    return packed


def measure_padding(
    settings: BenchmarkSettings, conditions: Conditions, file: ResultFile[Padding], *, distribution: str
) -> Iterator[str]:
    """Measure each contestant padded and packed, in turn, at each length as the padded width; say what is next.

    Only gated models can be packed; the rows of the others hold padded seconds alone.
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
        padded = padded_batch(lengths, width, device)
        file.append(_measure(settings, conditions, mode, padded, lengths, contestants, device, distribution))
        release_memory()


def _measure(
    settings: BenchmarkSettings,
    conditions: Conditions,
    mode: Mode,
    padded: dict[str, Tensor],
    lengths: Sequence[int],
    contestants: Sequence[Contestant],
    device: torch.device,
    distribution: str,
) -> Iterator[Padding]:
    rows, width = padded["input_ids"].shape
    packed = packed_batch(padded, lengths)
    entrants = []
    for one in contestants:
        for kind, batch in (("padded", padded), ("packed", packed)):
            if kind == "padded" or one.kind.gated:
                make = partial(make_step, one, settings.widths, mode, batch, length=width, device=device)
                entrants.append(Entrant(f"{one.name} {kind}", make))
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
            rows=rows,
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
        if not line.isdecimal() or int(line) < 1:
            raise InputError(f"--lengths-from {path}, number {number}: {line!r} is no positive number of tokens")
    if not lines:
        raise InputError(f"--lengths-from {path}: the file is empty; it needs a length in tokens a line")
    return [int(line) for line in lines]
