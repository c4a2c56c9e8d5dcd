"""What every command writes to standard error: notes while it runs, and a mistake of the user as one line."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from flash.errors import InputError

BAD_INPUT_EXIT_CODE = 2
INTERRUPTED_EXIT_CODE = 130


@contextmanager
def one_line_errors(program: str, *, traceback: bool = False) -> Iterator[None]:
    """Show the package's log on standard error, and end the program where input or files are at fault.

    `InputError` and `OSError` (no space, no permission) become one red line and exit code 2, Ctrl-C exit code 130.

    Args:
        program: Begins each line.
        traceback: Let the error through, to see where it came from.
    """
    handler = _StderrHandler()
    handler.setFormatter(logging.Formatter(f"{program}: %(message)s"))
    logger = logging.getLogger("flash")
    level_before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    except (InputError, OSError) as error:
        if traceback:
            raise
        message = " ".join(str(error).split())
        Console(stderr=True, soft_wrap=True).print(Text(f"{program}: {message}", style="red"))
        sys.exit(BAD_INPUT_EXIT_CODE)
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED_EXIT_CODE)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level_before)


def quiet_libraries() -> None:
    """Leave the progress bars of the libraries out of log files, and those for a second's work out altogether."""
    import datasets
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()


class _StderrHandler(logging.Handler):
    """Writes to what ``sys.stderr`` is at that moment: a progress bar puts itself in its place while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)
