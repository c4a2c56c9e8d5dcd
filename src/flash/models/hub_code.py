"""Folders that name this package as their code, for ``trust_remote_code=True``.

``register_for_auto_class`` of transformers copies the source file of a class beside the weights. Ours are spread over a
package, so what is written in their place is a door: a file that imports the class from ``flash``, and that says
what to install where there is no such package.
"""

import re
from pathlib import Path
from typing import Any, ClassVar

from transformers import PreTrainedConfig

DOOR_MODULE = "modeling_flashquad"
DOOR = '''"""Code of this model: the package flashquad (import name: flash), not the project of that name on PyPI."""

try:
    from flash import {names}
except ImportError as error:
    raise ImportError(
        "this model needs flashquad: pip install . in its checkout (on PyPI the name is another project's)"
    ) from error

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
            name_in_door(self, {self._registered_auto_class: type(self)})
        super().save_pretrained(save_directory, **kwargs)  # type: ignore[misc]

    def to_json_file(self, json_file_path: str | Path, use_diff: bool = True) -> None:
        """Write the configuration, and beside it the door that it names."""
        super().to_json_file(json_file_path, use_diff)  # type: ignore[misc]
        references = (getattr(self, "auto_map", None) or {}).values()
        names = sorted({name for reference in references if (name := _class_in_door(reference))})
        if names:
            quoted = ", ".join(f'"{name}"' for name in names)
            door = Path(json_file_path).with_name(f"{DOOR_MODULE}.py")
            door.write_text(DOOR.format(names=", ".join(names), quoted=quoted))


class HubCodeModelMixin:
    """A model whose folder may name this package as its code."""

    _registered_auto_class: ClassVar[str | None] = None

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoModel") -> None:
        """Let ``save_pretrained`` name the class for ``auto_class`` in the folder, see ``flash.models.hub_code``."""
        cls._registered_auto_class = _name_of(auto_class)

    def name_in_configuration(self) -> None:
        """Write the name of a registered class into the configuration, which brings the door along when saved."""
        if self._registered_auto_class is not None:
            config = self.config  # type: ignore[attr-defined]
            name_in_door(config, {"AutoConfig": type(config), self._registered_auto_class: type(self)})


def name_in_door(config: PreTrainedConfig, classes: dict[str, type]) -> None:
    """Note in ``config`` which auto class each of ``classes`` is for, as a name in the door."""
    auto_map = dict(getattr(config, "auto_map", None) or {})
    for auto, reference in auto_map.items():
        # a folder from the hub names its classes "user/repository--module.Class"; the door of this folder is its own
        own = reference.rpartition("--")[2] if isinstance(reference, str) else None
        if _class_in_door(own):
            auto_map[auto] = own
    config.auto_map = auto_map | {auto: f"{DOOR_MODULE}.{cls.__name__}" for auto, cls in classes.items()}


def _class_in_door(reference: object) -> str | None:
    """Read the class that an entry of ``auto_map`` names in the door; None for an entry of another kind."""
    # a config.json may hold anything, and what is read here becomes code
    match = re.fullmatch(rf"{DOOR_MODULE}\.([A-Za-z]\w*)", reference) if isinstance(reference, str) else None
    return match[1] if match else None


def _name_of(auto_class: str | type) -> str:
    return auto_class if isinstance(auto_class, str) else auto_class.__name__
