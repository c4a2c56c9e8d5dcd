"""Names of contestants, such as ``flash-quad:blocked@bf16+compile``, and what they stand for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from flash.benchmarking.families import FAMILIES, Family, build
from flash.benchmarking.sizes import Size
from flash.errors import InputError
from flash.ops.backends import BACKENDS, KERNELS, kernels_obstacle

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_NAME = re.compile(
    r"(?P<family>[a-z-]+)(:(?P<backend>\w+))?(?P<full>\+full-logits)?(@(?P<dtype>\w+))?(?P<compiled>\+compile)?"
)


@dataclass(frozen=True)
class Contestant:
    """A model, and how it is run.

    Args:
        family: Key of ``FAMILIES``.
        backend: Implementation of the operations; None for the model's own choice.
        full_logits: Compute logits at all positions in training, as the plainest code does.
        dtype: ``fp32``, or ``bf16`` under autocast.
        compiled: Run through ``torch.compile``.
    """

    family: str
    backend: str | None = None
    full_logits: bool = False
    dtype: str = "fp32"
    compiled: bool = False

    @property
    def stem(self) -> str:
        """The name without the dtype, over which the best is taken."""
        backend = f":{self.backend}" if self.backend else ""
        return f"{self.family}{backend}{'+full-logits' * self.full_logits}"

    @property
    def name(self) -> str:
        """The name that `parse_contestant` reads."""
        return f"{self.stem}{f'@{self.dtype}' * (self.dtype != 'fp32')}{'+compile' * self.compiled}"

    @property
    def kind(self) -> Family:
        """The family."""
        return FAMILIES[self.family]

    @property
    def all_logits(self) -> bool:
        """Whether training computes the logits of all positions."""
        return self.full_logits or self.kind.full_logits

    @property
    def leaves_padding_out(self) -> bool:
        """Whether the layers see the real tokens of a batch only, see ``flash.models.execution``."""
        return self.kind.gated and self.family != "earlier" and self.backend != "reference" and not self.compiled

    @property
    def torch_dtype(self) -> torch.dtype:
        """What matrix products are computed in."""
        return DTYPES[self.dtype]

    def build(self, size: Size, length: int) -> PreTrainedModel:
        """Build the model for inputs of up to ``length`` tokens."""
        return build(self.family, size, length, self.backend)

    def check_backend(self, device: torch.device, size: Size) -> None:
        """Raise InputError where kernels are asked for that cannot run on the device."""
        if self.backend not in KERNELS:
            return
        obstacle = kernels_obstacle(device, self.torch_dtype, size.query_key_dim)
        if obstacle is not None:
            raise InputError(f"contestant {self.name!r} cannot run: {obstacle}; leave it out, or name another backend")


def parse_contestant(name: str) -> Contestant:
    """Read ``FAMILY[:BACKEND][+full-logits][@DTYPE][+compile]``.

    Raises:
        InputError: There is no such family, backend or dtype, or it cannot be had of this family.
    """
    match = _NAME.fullmatch(name)
    family = FAMILIES.get(match["family"]) if match else None
    if match is None or family is None:
        raise InputError(
            f"no contestant {name!r}: write FAMILY[:BACKEND][+full-logits][@bf16][+compile] with a family of "
            f"{', '.join(FAMILIES)}"
        )
    backend, dtype = match["backend"], match["dtype"] or "fp32"
    backends = BACKENDS if family.gated and match["family"] != "earlier" else ()
    if backend is not None and backend not in backends:
        choice = f"choose of {', '.join(backends)}" if backends else "leave it out: this family has none to choose from"
        raise InputError(f"contestant {name!r}: no backend {backend!r}; {choice}")
    if dtype not in family.dtypes:
        raise InputError(f"contestant {name!r}: no dtype {dtype!r}; choose of {', '.join(family.dtypes)}")
    if match["full"] and not family.gated:
        raise InputError(f"contestant {name!r}: +full-logits is for flash-quad and flash; leave it out")
    return Contestant(match["family"], backend, bool(match["full"]), dtype, bool(match["compiled"]))


def parse_contestants(names: Sequence[str]) -> list[Contestant]:
    """Read names, and refuse one that is given twice."""
    contestants = [parse_contestant(name) for name in names]
    twice = {one.name for one in contestants if contestants.count(one) > 1}
    if twice:
        raise InputError(f"contestant {min(twice)!r} is named twice; name it once")
    return contestants


def default_contestants() -> list[str]:
    """Name every family, each in fp32 and bf16 where it has both."""
    return [f"{name}{f'@{dtype}' * (dtype != 'fp32')}" for name, one in FAMILIES.items() for dtype in one.dtypes]
