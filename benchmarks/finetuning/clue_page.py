"""Write the tables of docs/finetuning.md from the records of finished runs; the prose there is by hand.

    python benchmarks/finetuning/clue_page.py           # writes
    python benchmarks/finetuning/clue_page.py --check   # exit code 1 if a table is not what the records give

A table stands between `<!-- table STUDY-NAME -->` and `<!-- end -->`: `clue-dev`, `peers-dev`, ...
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # the harness of the other benchmarks

from flash.errors import InputError

from clue_runs import read_records
from clue_tables import TABLES, Records
from generated_page import DOCS, fill_tables, write_or_compare

RESULTS = Path(__file__).parents[1] / "results"
# of each study on the page
RECORDS = {
    "clue": RESULTS / "finetuning_runs.jsonl",
    "whole": RESULTS / "finetuning_whole_runs.jsonl",  # all rows of the training files
    "peers": RESULTS / "finetuning_peers_runs.jsonl",
}
PAGE = DOCS / "finetuning.md"


def tables() -> dict[str, Callable[[Mapping[str, Records]], str]]:
    """Name every table of every study."""

    def of_study(study: str, table: Callable[[Records], str]) -> Callable[[Mapping[str, Records]], str]:
        return lambda records: table(records[study])

    return {f"{study}-{name}": of_study(study, table) for study in RECORDS for name, table in TABLES.items()}


def filled(text: str) -> str:
    """Write every table of a page from its records."""
    return fill_tables(text, tables(), {study: read_records(path) for study, path in RECORDS.items()})


def main() -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    arguments = parser.parse_args()
    try:
        return write_or_compare(PAGE, filled(PAGE.read_text(encoding="utf-8")), check=arguments.check)
    except (InputError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
