"""The models that come with the package, by name."""

from importlib import resources
from pathlib import Path

PACKAGED_MODEL = "tiny-zh"


def packaged_or_named(name: str) -> str:
    """Return the folder of the packaged model where it is named; other names, and a folder called so, as they are."""
    if name != PACKAGED_MODEL or Path(name).exists():
        return name
    return str(resources.files("flash") / "assets" / name)
