"""Dataclasses of tensors that move between devices as one tensor does."""

from dataclasses import fields, replace
from typing import Any

import torch


class OnDevice:
    """Gives a dataclass ``to(device)``; models spread over devices (``device_map="auto"``) move what has it."""

    def to(self, device: torch.device | str | int, **kwargs: Any) -> "OnDevice":
        """Return a copy with every tensor on ``device``."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        moved = {name: _moved(value, device, **kwargs) for name, value in own.items()}
        return replace(self, **moved)  # type: ignore[type-var]


def _moved(value: Any, device: torch.device | str | int, **kwargs: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_moved(part, device, **kwargs) for part in value)
    return value.to(device, **kwargs) if isinstance(value, (torch.Tensor, OnDevice)) else value
