"""What a person asks `flashquad bench` for."""

from __future__ import annotations

from dataclasses import dataclass

from flash.benchmarking.contestants import Contestant, parse_contestant, parse_contestants
from flash.benchmarking.sizes import SIZES, Size
from flash.benchmarking.steps import Mode
from flash.errors import InputError

# beyond what any machine trains on at once, and of what a batch can be drawn
MOST_TOKENS = 1 << 26
MODES: tuple[Mode, ...] = ("training", "inference")


@dataclass(frozen=True)
class BenchmarkSettings:
    """Who is compared, at what.

    Args:
        contestants: Names, see ``contestants.parse_contestant``.
        size: Key of ``SIZES``.
        lengths: Tokens of a row.
        batch_tokens: Tokens of a batch at every length; a length above makes one row.
        modes: ``training``, ``inference``.
        baseline: Contestant that ratios refer to; it takes part also where it is not named.
        rounds: Times that each point is measured.
        warmup: Steps before these.
        budget_seconds: For all steps of one point.
        device: ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        InputError: A value that nothing can be measured with.
    """

    contestants: tuple[str, ...]
    size: str = "small"
    lengths: tuple[int, ...] = (128, 512, 2048)
    batch_tokens: int = 4096
    modes: tuple[str, ...] = MODES
    baseline: str = "modernbert"
    rounds: int = 5
    warmup: int = 2
    budget_seconds: float = 600.0
    device: str = "cpu"

    def __post_init__(self) -> None:
        parse_contestants(self.contestants)
        parse_contestant(self.baseline)
        if not self.contestants:
            raise InputError("name at least one contestant")
        if self.size not in SIZES:
            raise InputError(f"--size {self.size}: there are {', '.join(SIZES)}")
        if not self.lengths or min(self.lengths) < 1:
            raise InputError(f"--lengths must be positive, got {', '.join(map(str, self.lengths)) or 'none'}")
        if max(*self.lengths, self.batch_tokens) > MOST_TOKENS:
            raise InputError(f"--lengths and --batch-tokens must be at most {MOST_TOKENS:,} tokens")
        for option in ("batch_tokens", "rounds", "warmup"):
            if getattr(self, option) < 1:
                raise InputError(f"--{option.replace('_', '-')} must be at least 1, got {getattr(self, option)}")
        if not self.budget_seconds > 0:
            raise InputError(f"--budget must be above 0 seconds, got {self.budget_seconds}")
        unknown = set(self.modes) - set(MODES)
        if unknown or not self.modes:
            raise InputError(f"--modes {', '.join(self.modes)}: choose of {', '.join(MODES)}")

    @property
    def compared(self) -> list[Contestant]:
        """The contestants, the baseline among them, first."""
        names = dict.fromkeys((parse_contestant(self.baseline).name, *(c.name for c in self._parsed)))
        return [parse_contestant(name) for name in names]

    @property
    def widths(self) -> Size:
        """Width and depth."""
        return SIZES[self.size]

    @property
    def _parsed(self) -> list[Contestant]:
        return parse_contestants(self.contestants)
