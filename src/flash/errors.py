"""The one exception for what a user passed: the command line prints it as a single line and exits with 2."""


class InputError(ValueError):
    """Say which argument, file, line or value is wrong, what was needed, and the way out, in one line."""

    # no method of its own makes the message: torch.compile could not look inside, and would hide it
    def __str__(self) -> str:
        # what a loader's worker raises, torch raises again with the worker's traceback in front of the message
        return super().__str__().rpartition("flash.errors.InputError: ")[2].rstrip()
