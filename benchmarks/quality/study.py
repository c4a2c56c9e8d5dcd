"""Run a study: every run of it that has no record yet, some at a time; start it again to go on.

    python benchmarks/quality/study.py comparison-3M --train DIR --validation DIR --results RUNS.jsonl --workers 2

The folders are those that `flashquad prepare --format text` makes. One JSON object a run is added to the results; the
page docs/quality.md is written from them by page.py.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # the harness of the other benchmarks

from flash.errors import InputError

from run_records import append_record
from runs import Run, Texts, read_records, train
from studies import STUDIES

SECONDS_BETWEEN_LOOKS = 2.0

logger = logging.getLogger("study")


def main() -> None:
    """Run the studies named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="+", help=f"of {', '.join(STUDIES)}; or all")
    parser.add_argument("--train", required=True, help="prepared folder to train on")
    parser.add_argument("--validation", required=True, help="prepared folder to validate on")
    parser.add_argument("--test", help="prepared folder that nothing is chosen by: scored at the end of each run")
    parser.add_argument("--results", type=Path, required=True, help="JSON lines of finished runs; added to")
    parser.add_argument("--keep-models", type=Path, help="folder to save the trained models below")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, each on one core")
    parser.add_argument("--compile", action="store_true", help="train through torch.compile: faster from 10 M on")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a run as JSON: what a worker is started with
    parser.add_argument("--dry-run", action="store_true", help="print the runs that are missing")
    arguments = parser.parse_args()
    if "all" in arguments.study:
        arguments.study = list(STUDIES)
    unknown = sorted(set(arguments.study) - set(STUDIES))
    if unknown:
        parser.error(f"no study {unknown[0]!r}; there are {', '.join(STUDIES)}")
    if arguments.workers < 1:
        parser.error(f"--workers must be at least 1, got {arguments.workers}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        if arguments.dry_run:
            for run in missing(arguments):
                print(json.dumps(run.to_dict()))
            return
        texts = Texts.load(arguments.train, arguments.validation, arguments.test)
        if arguments.keep_models is not None:
            arguments.keep_models.mkdir(parents=True, exist_ok=True)
        if arguments.one:
            run = Run.from_dict(json.loads(arguments.one))
            record = train(run, texts, keep_in=arguments.keep_models, compiled=arguments.compile)
            append_record(arguments.results, record)
        else:
            work(arguments)
    except (InputError, OSError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        sys.exit("stopped; start the study again to go on where it was")


def missing(arguments: argparse.Namespace) -> list[Run]:
    """List the runs that have no record, in the order of the studies."""
    records = read_records(arguments.results)
    runs = [run for name in arguments.study for run in STUDIES[name](records)]
    return [run for run in dict.fromkeys(runs) if run not in records]


def work(arguments: argparse.Namespace) -> None:
    """Start a process a run, ``workers`` at a time, until none is missing."""
    running: dict[Run, subprocess.Popen] = {}
    failed: set[Run] = set()
    while True:
        for run, process in list(running.items()):
            if process.poll() is not None:
                del running[run]
                if process.returncode:
                    failed.add(run)
                    logger.error("failed with exit code %d: %s", process.returncode, run)
        waiting = [run for run in missing(arguments) if run not in running and run not in failed]
        if not waiting and not running:
            break
        for run in waiting[: arguments.workers - len(running)]:
            logger.info("%d to go; start %s", len(waiting), run)
            running[run] = start(run)
        time.sleep(SECONDS_BETWEEN_LOOKS)
    if failed:
        sys.exit(f"{len(failed)} runs failed; start the study again to try them once more")


def start(run: Run) -> subprocess.Popen:
    """Start a run in a process of its own, with one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    return subprocess.Popen([sys.executable, *sys.argv, "--one", json.dumps(run.to_dict())], env=environment)


if __name__ == "__main__":
    main()
