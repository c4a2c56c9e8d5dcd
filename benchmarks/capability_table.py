"""What each model class can do, found by trying it now on a tiny model: writes docs/capabilities.md.

    python benchmarks/capability_table.py                     # writes the page, some minutes
    python benchmarks/capability_table.py --check             # exit code 1 if a fresh run would write another page
    python benchmarks/capability_table.py --only FLASHModel   # prints the results of a class, writes nothing

No cell is written by hand. What was tried is in benchmarks/capability_checks.py, a function a line of the tables.
"""

import argparse
import re
import sys
import tempfile
import warnings
from dataclasses import dataclass, field

import torch
import transformers

from flash.errors import InputError

from capability_checks import CHECKS, NotApplicable
from capability_subjects import Subject, subjects
from generated_page import DOCS, markdown_table, versions, write_or_compare

_LONGEST_NOTE = 240


@dataclass
class Notes:
    """Footnotes of the page, one for each thing that is said, numbered in the order of their first use."""

    texts: list[str] = field(default_factory=list)

    def number(self, text: str) -> int:
        """Return the number of ``text``, a new one at its first use."""
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1


@dataclass(frozen=True)
class Outcome:
    """What came of trying: ``yes``, ``-`` or ``no``, and for the latter two why."""

    mark: str
    reason: str = ""

    def cell(self, notes: Notes) -> str:
        """Write the cell of the table."""
        return f"{self.mark} [^{notes.number(self.reason)}]" if self.reason else self.mark


def tried(check: object, subject: Subject) -> Outcome:
    """Try one capability of one class."""
    try:
        check(subject)  # type: ignore[operator]
    except (NotApplicable, InputError) as refusal:
        return Outcome("-", first_line(refusal))
    # whatever else is raised is the finding, which the page states
    except Exception as error:
        return Outcome("no", f"{type(error).__name__}: {first_line(error)}")
    return Outcome("yes")


def first_line(error: BaseException) -> str:
    """Return the first line of the message, without what differs from run to run or would break a table."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "(no message)")
    line = re.sub(re.escape(tempfile.gettempdir()) + r"[^\s'\"]*", "<folder>", line)
    line = re.sub(r"0x[0-9a-f]+", "0x...", line).replace("|", "\\|")
    return line if len(line) <= _LONGEST_NOTE else line[: _LONGEST_NOTE - 3] + "..."


def family_table(family: str, outcomes: dict[str, dict[str, Outcome]], notes: Notes) -> str:
    """Write the table of one family: a line for each capability, a column for each class.

    Args:
        outcomes: Outcome of each capability, for each class.
    """
    header = [family, *(name.removeprefix(family).removeprefix("For") for name in outcomes)]
    rows = [[label, *(found[label].cell(notes) for found in outcomes.values())] for label in CHECKS]
    return markdown_table(header, rows, numbers=False)


def render(outcomes: dict[str, dict[str, Outcome]]) -> str:
    """Write the page from the outcomes of all classes."""
    notes = Notes()
    families: dict[str, dict[str, dict[str, Outcome]]] = {}
    for subject in subjects():
        families.setdefault(subject.family, {})[subject.name] = outcomes[subject.name]
    tables = "\n\n".join(family_table(family, found, notes) for family, found in families.items())
    marks = [outcome.mark for found in outcomes.values() for outcome in found.values()]
    return PAGE.format(
        versions=versions(),
        classes=len(outcomes),
        yes=marks.count("yes"),
        refused=marks.count("-"),
        no=marks.count("no"),
        tables=tables,
        notes="\n".join(f"[^{number}]: {text}" for number, text in enumerate(notes.texts, start=1)),
    )


PAGE = """# What each model class can do

Written by `python benchmarks/capability_table.py`: every cell is the outcome of trying it on a tiny model on a CPU
({versions}). {classes} classes; {yes} cells *yes*, {refused} *-*, {no} *no*.

- **yes**: it was tried and the result was right, as `benchmarks/capability_checks.py` defines it.
- **-**: the class has no such thing, or refuses it with a message, which the footnote quotes.
- **no**: it fails; the footnote quotes the first line of the error.

{tables}

How the less obvious lines were tried:

- *torch.compile*: the model without a head by `inductor`, to machine code; the others by `aot_eager`, which captures
  the graph in the same way and has PyTorch run it, to keep this page a matter of minutes.
- Export and compilation get a batch with padding on both sides, and a causal language model `use_cache=False`.
- *save and load*: the outputs are those of the loaded weights copied to fresh memory. Mapped from a file they may lie
  unaligned, where a CPU kernel may add in another order: the last bit of an output can differ, never a weight's.
- *bf16* and *fp16*: the model cast as a whole, outputs within 5 % of float32.
- *meta device*: `with torch.device("meta")`, then `load_state_dict(assign=True)`. `from_pretrained`, which
  *save and load* goes through, does so by itself.
- *generate*: with a cache against without one; greedy on a left-padded batch; the scores of beams recomputed.
- *trust_remote_code*: the folder of `register_for_auto_class` loaded in a process that does not import `flash` itself.

{notes}
"""


def main() -> int:
    """Try everything; write the page, or check it, or print some of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 if the page would change")
    parser.add_argument("--only", nargs="+", metavar="CLASS", choices=[subject.name for subject in subjects()])
    parser.add_argument("--skip-slow", action="store_true", help="with --only: no compilation, no other process")
    arguments = parser.parse_args()
    if arguments.check and arguments.only:
        parser.error("--check compares the whole page; leave out --only")
    if arguments.skip_slow and not arguments.only:
        parser.error("--skip-slow needs --only: the page has all lines")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.simplefilter("ignore", FutureWarning)  # names that transformers and PyTorch are about to change
    torch.set_num_threads(1)  # tensors this small gain nothing from threads

    outcomes: dict[str, dict[str, Outcome]] = {}
    for subject in subjects():
        if arguments.only and subject.name not in arguments.only:
            continue
        found = outcomes[subject.name] = {}
        for label, check in CHECKS.items():
            if not (arguments.skip_slow and check.__name__ in ("compile_whole", "remote_code")):
                found[label] = tried(check, subject)
        print(f"{subject.name}: {sum(o.mark == 'no' for o in found.values())} fail", file=sys.stderr, flush=True)
    if arguments.only:
        for name, found in outcomes.items():
            rows = [[label, outcome.mark, outcome.reason] for label, outcome in found.items()]
            print(markdown_table([name, "", "why"], rows, numbers=False))
        return 0
    return write_or_compare(DOCS / "capabilities.md", render(outcomes), check=arguments.check)


if __name__ == "__main__":
    sys.exit(main())
