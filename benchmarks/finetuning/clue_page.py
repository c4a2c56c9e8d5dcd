"""Write the tables of docs/finetuning.md from the records of finished runs; the prose there is by hand.

    python benchmarks/finetuning/clue_page.py           # writes
    python benchmarks/finetuning/clue_page.py --check   # exit code 1 if a table is not what the records give

A table stands between `<!-- table NAME -->` and `<!-- end -->`.
"""

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # the harness of the other benchmarks

from flash.errors import InputError

from clue_runs import read_records
from clue_tables import TABLES
from generated_page import DOCS, fill_tables, write_or_compare

RECORDS = Path(__file__).parents[1] / "results" / "finetuning_runs.jsonl"
PAGE = DOCS / "finetuning.md"


def main() -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    arguments = parser.parse_args()
    try:
        text = fill_tables(PAGE.read_text(encoding="utf-8"), TABLES, read_records(RECORDS))
        return write_or_compare(PAGE, text, check=arguments.check)
    except (InputError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
