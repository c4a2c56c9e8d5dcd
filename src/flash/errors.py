"""The one exception for what a user passed: the command line prints it as a single line and exits with 2."""


class InputError(ValueError):
    """Say which argument, file, line or value is wrong, what was needed, and the way out, in one line."""

    def __init__(self, message: str) -> None:
        # what a loader's worker raises, torch raises again with the worker's traceback in front of the message
        super().__init__(message.rpartition("flash.errors.InputError: ")[2].rstrip())
