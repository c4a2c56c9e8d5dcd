"""Write the tables and figures of docs/quality.md from the records of finished runs; the prose there is by hand.

    python benchmarks/quality/page.py           # writes, seconds
    python benchmarks/quality/page.py --check   # exit code 1 if a table is not what the records give

A run does not say what text it saw: records of another text belong into a file of their own, `--results`.
A table stands between `<!-- table NAME -->` and `<!-- end -->`.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # the harness of the other benchmarks

from flash.errors import InputError

from figures import draw_curves, draw_lengths, draw_signal, draw_sweeps
from generated_page import DOCS, fill_tables, write_or_compare
from run_records import read_run_records
from runs import Run, read_records
from studies import STUDIES, Records
from summary import summarize
from tables import TABLES, length_study

RESULTS = Path(__file__).parents[1] / "results"
RECORDS = RESULTS / "quality_runs.jsonl"
DOCUMENTS = RESULTS / "quality_documents.jsonl"
# what `flashquad inspect` wrote about two models of the comparison
INSPECTIONS = {name: RESULTS / f"quality_inspection_{name}.json" for name in ("earlier", "recommended")}
PAGE = DOCS / "quality.md"


def load(results: Path, documents: Path | None) -> Records:
    """Read the records of runs, with the losses of single documents beside those that have them, as ``documents``."""
    records = read_records(results)
    for run, scores in read_run_records(documents, Run.from_dict).items() if documents is not None else ():
        if run in records:
            records[run] = records[run] | {"documents": scores}
    return records


def draw(records: Records) -> None:
    """Draw the figures for which there are records."""
    figures = DOCS / "figures"
    compared = summarize(records, STUDIES["comparison-3M"](records))
    draw_curves(compared, figures / "quality-curves-3M.png")
    draw_sweeps(compared, figures / "quality-rates-3M.png")
    for size in ("11M", "23M"):
        confirmed = summarize(records, STUDIES[f"confirmation-{size}"](records))
        if confirmed:
            draw_curves(confirmed, figures / f"quality-curves-{size}.png")
    inspections = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in INSPECTIONS.items()}
    draw_signal(inspections, figures / "quality-signal.png")
    normalizers, matched = length_study(records)
    if normalizers:
        trained_at = normalizers[0].runs[0].length
        there = {length: tuned.mean_of("loss") for length, tuned in matched.items()}
        draw_lengths(normalizers, figures / "quality-lengths.png", trained_at=trained_at, matched=there)


def main() -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("--results", type=Path, default=RECORDS, help="JSON lines that study.py added to")
    parser.add_argument("--documents", type=Path, help="JSON lines that by_document.py added to")
    arguments = parser.parse_args()
    if arguments.documents is None and arguments.results == RECORDS:
        arguments.documents = DOCUMENTS
    try:
        records = load(arguments.results, arguments.documents)
        if not records:
            raise InputError(f"{arguments.results} holds no records, and the tables would be empty; run study.py first")
        text = fill_tables(PAGE.read_text(encoding="utf-8"), TABLES, records)
        if not arguments.check:
            draw(records)
        return write_or_compare(PAGE, text, check=arguments.check)
    except (InputError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
