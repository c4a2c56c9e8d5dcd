"""From the records of runs to what tables and figures show: means over seeds, learning-rate sweeps."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev
from typing import Any

from contestants import CONTESTANTS
from runs import Run
from studies import Records


@dataclass(frozen=True)
class Tuned:
    """A contestant at its best learning rate.

    Args:
        label: What it is called.
        runs: The runs at the best rate, a seed each.
        sweep: Validation loss of the first seed at each learning rate.
        records: Those of ``runs``.
    """

    label: str
    runs: tuple[Run, ...]
    sweep: dict[float, float]
    records: tuple[dict[str, Any], ...]

    @property
    def learning_rate(self) -> float:
        """Best learning rate."""
        return self.runs[0].learning_rate

    def mean_of(self, name: str) -> float:
        """Average ``loss``, ``accuracy`` or ``seconds`` over the seeds."""
        return mean(record[name] for record in self.records)

    def losses_at_lengths(self) -> dict[int, list[float]]:
        """Give the loss of each seed at each length of the validation rows, that of training among them."""
        measured = [
            {int(length): found["loss"] for length, found in record["lengths"].items()} | {run.length: record["loss"]}
            for run, record in zip(self.runs, self.records, strict=True)
        ]
        return {length: [losses[length] for losses in measured] for length in sorted(measured[0])}

    def spread_of(self, name: str) -> float | None:
        """Return the standard deviation over the seeds; None of one seed."""
        return spread([record[name] for record in self.records])


def summarize(records: Records, runs: Iterable[Run], label: Callable[[Run], str] | None = None) -> list[Tuned]:
    """Group the finished ones of ``runs`` by everything but learning rate and seed; keep the best rate of each group.

    The best rate is that of the lowest loss of the first seed, as in ``studies.tuned``.
    """
    groups: dict[Run, list[Run]] = {}
    for run in dict.fromkeys(runs):
        if run in records:
            groups.setdefault(replace(run, learning_rate=0.0, seed=0), []).append(run)
    summaries = []
    for key, members in groups.items():
        first_seed = min(run.seed for run in members)
        sweep = {run.learning_rate: records[run]["loss"] for run in members if run.seed == first_seed}
        best = min(sweep, key=sweep.__getitem__)
        chosen = tuple(sorted((run for run in members if run.learning_rate == best), key=lambda run: run.seed))
        name = label(key) if label else CONTESTANTS[key.contestant].title
        summaries.append(Tuned(name, chosen, dict(sorted(sweep.items())), tuple(records[run] for run in chosen)))
    return summaries


def spread(values: Sequence[float]) -> float | None:
    """Return the standard deviation; None of a single value."""
    return stdev(values) if len(values) > 1 else None


def plus_minus(mean_value: float, spread: float | None, digits: int = 3, factor: float = 1.0) -> str:
    """Write ``5.123 ± 0.004``; without spread where there was one seed."""
    shown = f"{mean_value * factor:.{digits}f}"
    return shown if spread is None else f"{shown} ± {spread * factor:.{digits}f}"
