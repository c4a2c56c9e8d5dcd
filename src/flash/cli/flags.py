"""From the options of a subcommand to the flags of the parser that knows all of them; and what was typed."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path


def flags_of(options: Mapping[str, object]) -> list[str]:
    """Write options as flags, those that were not given left out.

    Args:
        options: Value of each option by its flag; None and False stand for one that was not given.
    """
    flags: list[str] = []
    for flag, value in options.items():
        if value is True:
            flags.append(flag)
        elif value is not None and value is not False:
            flags += [flag, str(value)]
    return flags


def typed_command() -> str:
    """Write the command line of this process as it can be typed again, for a model card."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
