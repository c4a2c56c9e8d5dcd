"""The folder that an inspection leaves."""

from __future__ import annotations

from pathlib import Path

from flash.corpus.arrow import write_json
from flash.corpus.staging import check_replaceable, staged
from flash.inspection.figures import ATTENTION_FIGURE, LAYERS_FIGURE, LENGTHS_FIGURE, draw_figures
from flash.inspection.inspector import Inspection

NUMBERS_FILE = "inspection.json"
OWN_FILES = (NUMBERS_FILE, LAYERS_FIGURE, ATTENTION_FIGURE, LENGTHS_FIGURE)


def check_output(folder: Path, *, overwrite: bool) -> None:
    """Raise InputError where `write_inspection` would, so that it is said before the work."""
    check_replaceable(folder, overwrite=overwrite, own_files=OWN_FILES)


def write_inspection(inspection: Inspection, folder: Path, *, overwrite: bool) -> list[Path]:
    """Write ``inspection.json`` and the figures and return their paths; the folder appears whole or not at all.

    Raises:
        InputError: The folder is there and not to be replaced.
    """
    with staged(folder, overwrite=overwrite, own_files=OWN_FILES) as partial:
        partial.mkdir()
        write_json(partial / NUMBERS_FILE, inspection.to_dict())
        draw_figures(inspection, partial)
    return [folder / name for name in OWN_FILES]
