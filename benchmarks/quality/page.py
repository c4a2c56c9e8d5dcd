"""Write the tables and figures of docs/quality.md from the records of finished runs; the prose there is by hand.

    python benchmarks/quality/page.py           # writes, seconds
    python benchmarks/quality/page.py --check   # exit code 1 if a table is not what the records give

A table stands between `<!-- table NAME -->` and `<!-- end -->`.
"""

import argparse
import re
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # the harness of the other benchmarks

from generated_page import DOCS, write_or_compare
from runs import read_records
from tables import TABLES

RECORDS = Path(__file__).parents[1] / "results" / "quality_runs.jsonl"
PAGE = DOCS / "quality.md"
_TABLE = re.compile(r"(<!-- table (?P<name>[\w-]+) -->\n).*?(\n<!-- end -->)", re.DOTALL)


def main() -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    arguments = parser.parse_args()
    records = read_records(RECORDS)
    text = PAGE.read_text(encoding="utf-8")
    filled = _TABLE.sub(lambda match: f"{match[1]}\n{TABLES[match['name']](records)}\n{match[3]}", text)
    return write_or_compare(PAGE, filled, check=arguments.check)


if __name__ == "__main__":
    sys.exit(main())
