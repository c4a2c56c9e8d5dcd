"""Folders that name this package as their code, for ``trust_remote_code=True``.

``register_for_auto_class`` of transformers copies the source file of a class beside the weights. Ours are spread over a
package, so what is written in their place is a door: a file that imports the class from ``flash``, and that says
``pip install flashquad`` where there is no such package.
"""

from pathlib import Path
from typing import Any, ClassVar

from transformers import PreTrainedConfig

DOOR_MODULE = "modeling_flashquad"
DOOR = '''"""Code of this model: the package flashquad, https://pypi.org/project/flashquad (import name: flash)."""

try:
    from flash import {names}
except ImportError as error:
    raise ImportError("this model needs the package flashquad: pip install flashquad") from error

__all__ = [{quoted}]
'''


class HubCodeConfigMixin:
    """A configuration whose folder may name this package as its code."""

    _registered_auto_class: ClassVar[str | None] = None

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoConfig") -> None:
        """Let ``save_pretrained`` name the class for ``auto_class`` in the folder, see ``flash.models.hub_code``."""
        cls._registered_auto_class = _name_of(auto_class)

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Save as ``PreTrainedConfig.save_pretrained`` does, with the door of a registered class."""
        if self._registered_auto_class is not None:
            write_door(save_directory, self, {self._registered_auto_class: type(self)})
        super().save_pretrained(save_directory, **kwargs)  # type: ignore[misc]


class HubCodeModelMixin:
    """A model whose folder may name this package as its code."""

    _registered_auto_class: ClassVar[str | None] = None

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoModel") -> None:
        """Let ``save_pretrained`` name the class for ``auto_class`` in the folder, see ``flash.models.hub_code``."""
        cls._registered_auto_class = _name_of(auto_class)

    def write_door_of_model(self, save_directory: str | Path) -> None:
        """Write the door of a registered class, and its name into the configuration."""
        if self._registered_auto_class is not None:
            config = self.config  # type: ignore[attr-defined]
            classes = {"AutoConfig": type(config), self._registered_auto_class: type(self)}
            write_door(save_directory, config, classes)


def write_door(folder: str | Path, config: PreTrainedConfig, classes: dict[str, type]) -> None:
    """Write the file that imports ``classes`` and note in ``config`` which auto class each is for."""
    # a folder from the hub names its classes "user/repository--module.Class"; the door of this folder is its own
    known = {auto: name.rpartition("--")[2] for auto, name in (getattr(config, "auto_map", None) or {}).items()}
    auto_map = {auto: name for auto, name in known.items() if name.startswith(f"{DOOR_MODULE}.")}
    auto_map |= {auto: f"{DOOR_MODULE}.{cls.__name__}" for auto, cls in classes.items()}
    config.auto_map = auto_map
    names = sorted({reference.rpartition(".")[2] for reference in auto_map.values()})
    quoted = ", ".join(f'"{name}"' for name in names)
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / f"{DOOR_MODULE}.py").write_text(DOOR.format(names=", ".join(names), quoted=quoted))


def _name_of(auto_class: str | type) -> str:
    return auto_class if isinstance(auto_class, str) else auto_class.__name__
