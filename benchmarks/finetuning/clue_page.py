"""Write the tables of docs/finetuning.md from the records of finished runs; the prose there is by hand.

    python benchmarks/finetuning/clue_page.py           # writes
    python benchmarks/finetuning/clue_page.py --check   # exit code 1 if a table is not what the records give

A table stands between `<!-- table NAME -->` and `<!-- end -->`.
"""

import argparse
import re
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # the harness of the other benchmarks

from clue_runs import read_records
from clue_tables import TABLES, Records
from generated_page import DOCS, write_or_compare

RECORDS = Path(__file__).parents[1] / "results" / "finetuning_runs.jsonl"
PAGE = DOCS / "finetuning.md"
_TABLE = re.compile(r"(<!-- table (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(text: str, records: Records) -> str:
    """Write each table between its marks."""
    return _TABLE.sub(lambda match: f"{match[1]}\n{TABLES[match['name']](records)}\n\n{match[3]}", text)


def main() -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    arguments = parser.parse_args()
    text = fill(PAGE.read_text(encoding="utf-8"), read_records(RECORDS))
    return write_or_compare(PAGE, text, check=arguments.check)


if __name__ == "__main__":
    sys.exit(main())
