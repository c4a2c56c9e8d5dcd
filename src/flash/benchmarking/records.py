"""What is kept of a measurement: one row a point, with the settings it was made under, so that rows can be joined."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from flash.benchmarking.contestants import Contestant, parse_contestant

QUANTILES = ("least", "q25", "median", "q75", "most")


@dataclass(frozen=True)
class Conditions:
    """What must be the same for numbers to be compared.

    Args:
        size: Key of ``SIZES``.
        batch_tokens: Tokens of a batch, see ``steps.batch_shape``.
        rounds: Times that each point was measured.
        baseline: Contestant that ratios refer to.
        device: Name of the processor or GPU.
        threads: Of PyTorch.
        torch: Its version.
        transformers: Its version.
        variables: Of the environment, see ``machine.speed_variables``.
    """

    size: str
    batch_tokens: int
    rounds: int
    baseline: str
    device: str
    threads: int
    torch: str
    transformers: str
    variables: str = ""


@dataclass(frozen=True)
class Point:
    """One contestant at one length, and what became of it.

    Args:
        mode: ``training`` or ``inference``.
        contestant: Its name, see ``contestants.parse_contestant``.
        length: Tokens of a row.
        rows: Rows of the batch.
        status: ``ok``, ``oom``, ``too slow`` or ``failed``.
        note: Why there are no numbers.
        commit: Of the sources.
    """

    conditions: Conditions
    mode: str
    contestant: str
    length: int
    rows: int
    status: str
    note: str
    commit: str

    # columns that are only written: what the others give
    derived_columns: ClassVar[tuple[str, ...]] = ()

    @property
    def key(self) -> tuple[str, str, int]:
        """What a rerun does not measure again."""
        return self.mode, self.contestant, self.length

    @property
    def parsed(self) -> Contestant:
        """The contestant."""
        return parse_contestant(self.contestant)

    def derived(self) -> dict[str, Any]:
        """Return the numbers of `derived_columns`; none where nothing was measured."""
        return {}


@dataclass(frozen=True)
class Timing(Point):
    """Seconds of a step.

    Args:
        parameters: Of the model, without position tables (see ``families.count_parameters``).
        step_flops: Operations of a step.
        seconds: One a round.
        baseline_seconds: Of the baseline in the same rounds; none where it had to leave.
        product_rate: Operations a second of a large square matrix product in the same dtype and the same rounds.
    """

    parameters: int
    step_flops: int
    seconds: tuple[float, ...]
    baseline_seconds: tuple[float, ...]
    product_rate: tuple[float, ...]

    derived_columns: ClassVar[tuple[str, ...]] = (
        *(f"tokens_per_second_{name}" for name in QUANTILES),
        *(f"ratio_{name}" for name in QUANTILES),
        "flops_per_second",
        "share_of_product_rate",
    )

    def __post_init__(self) -> None:
        _check_measured(self.status, self.seconds)

    @property
    def rates(self) -> list[float]:
        """Tokens a second of each round."""
        return [self.rows * self.length / s for s in self.seconds]

    @property
    def ratios(self) -> list[float]:
        """How many times as fast as the baseline, round by round; empty where that is not known."""
        return [base / own for own, base in zip(self.seconds, self.baseline_seconds, strict=False)]

    @property
    def shares(self) -> list[float]:
        """Operations a second over those of the matrix product, round by round; empty where that had to leave."""
        return [self.step_flops / s / rate for s, rate in zip(self.seconds, self.product_rate, strict=False)]

    def derived(self) -> dict[str, Any]:
        """Return medians and spread of rates and ratios."""
        if not self.seconds:
            return {}
        numbers = _named("tokens_per_second", self.rates) | _named("ratio", self.ratios)
        numbers["flops_per_second"] = self.step_flops / statistics.median(self.seconds)
        if self.shares:
            numbers["share_of_product_rate"] = statistics.median(self.shares)
        return numbers


@dataclass(frozen=True)
class Memory(Point):
    """Peak memory of a step in a process of its own.

    Args:
        before_bytes: Held before the step: model, optimizer, batch and, on a CPU, the program. 0 without numbers.
        peak_bytes: Most that was held in the step.
    """

    before_bytes: int
    peak_bytes: int

    derived_columns: ClassVar[tuple[str, ...]] = ("step_bytes",)

    @property
    def step_bytes(self) -> int:
        """What the step adds: gradients, activations, and what the implementation needs besides."""
        return self.peak_bytes - self.before_bytes

    def derived(self) -> dict[str, Any]:
        """Return what the step adds."""
        return {"step_bytes": self.step_bytes} if self.status == "ok" else {}


@dataclass(frozen=True)
class Padding(Point):
    """Seconds of a step on rows of unequal length, padded and without padding; ``length`` is the padded width.

    Args:
        distribution: Of the lengths: a name, or the name of a file.
        real_tokens: Tokens of the batch that are not padding.
        padded_seconds: One a round.
        packed_seconds: Of the same batch in the same rounds, by a model that leaves padding out.
    """

    distribution: str
    real_tokens: int
    padded_seconds: tuple[float, ...]
    packed_seconds: tuple[float, ...]

    derived_columns: ClassVar[tuple[str, ...]] = tuple(f"ratio_{name}" for name in QUANTILES)

    def __post_init__(self) -> None:
        _check_measured(self.status, self.padded_seconds)

    @property
    def ratios(self) -> list[float]:
        """How many times as fast without padding, round by round; empty for a model that cannot be packed."""
        return [padded / packed for padded, packed in zip(self.padded_seconds, self.packed_seconds, strict=False)]

    def derived(self) -> dict[str, Any]:
        """Return median and spread of the ratio."""
        return _named("ratio", self.ratios)


def _check_measured(status: str, seconds: Sequence[float]) -> None:
    if (status == "ok") != bool(seconds):
        raise ValueError(f"status {status!r} with the seconds of {len(seconds)} rounds")


def spread(values: Sequence[float]) -> tuple[float, float, float, float, float]:
    """Return least, lower quartile, median, upper quartile and most (quartiles between neighbours, linearly)."""
    ordered = sorted(values)
    if len(ordered) == 1:
        return (ordered[0],) * 5
    low, middle, high = statistics.quantiles(ordered, n=4, method="inclusive")
    return ordered[0], low, middle, high, ordered[-1]


def _named(quantity: str, values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    return {f"{quantity}_{name}": value for name, value in zip(QUANTILES, spread(values), strict=True)}
