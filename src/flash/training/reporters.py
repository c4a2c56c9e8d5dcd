"""What a training run is logged to besides its own files: the callbacks behind ``--report_to``."""

from collections.abc import Sequence

from transformers import TrainerCallback
from transformers.integrations import get_reporting_integration_callbacks

from flash.errors import InputError


def make_reporting_callbacks(names: Sequence[str]) -> list[TrainerCallback]:
    """Make the callbacks of the programs named.

    Raises:
        InputError: One of them is not known or not installed.
    """
    callbacks = []
    for name in names:
        try:
            callbacks += [callback() for callback in get_reporting_integration_callbacks([name])]
        except (ImportError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise InputError(f"--report_to {name}: {reason}; or pass --report_to tensorboard or none") from error
    return callbacks
