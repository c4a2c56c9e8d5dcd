"""A command line to a dataclass of settings, by transformers' own parser; what is wrong with it in one line."""

import sys
from argparse import Namespace
from typing import Any, TypeVar

from transformers import HfArgumentParser

from flash.errors import InputError

Settings = TypeVar("Settings")


def parse_flags(arguments_class: type, command_line: list[str], *, command: str, defaults: dict[str, Any]) -> Namespace:
    """Read flags over ``defaults`` over those of the class.

    Args:
        arguments_class: Dataclass whose fields are the flags.
        command: Such as ``flashquad pretrain``, for messages.

    Raises:
        InputError: An unknown flag, or a value of another type.
    """
    parser = HfArgumentParser(arguments_class, prog=command, exit_on_error=False, allow_abbrev=False)
    parser.set_defaults(**defaults)
    if any(flag in ("-h", "--help", "--help-all") for flag in command_line):
        parser.print_help()
        sys.exit(0)
    try:
        namespace, unknown = parser.parse_known_args(command_line)
    except Exception as error:
        # argparse's own error type hides in transformers' subclass; every failure here is a wrong flag or value
        raise InputError(f"{error}; see `{command} --help-all`") from error
    if unknown:
        raise InputError(f"unknown flag {unknown[0]!r}; see `{command} --help` and `--help-all` for those that exist")
    return namespace


def settings_of(arguments_class: type[Settings], namespace: Namespace) -> Settings:
    """Make settings of parsed flags.

    Raises:
        InputError: The settings, or those of transformers behind them, refuse a value.
    """
    try:
        return arguments_class(**vars(namespace))
    except ValueError as error:
        raise InputError(" ".join(str(error).split())) from error
    except TypeError as error:  # of a recipe, whose values are what YAML makes of them
        raise InputError(
            f"a setting has a value of another kind than it takes ({' '.join(str(error).split())})"
        ) from error
