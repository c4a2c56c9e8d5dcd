"""Fine-tune checkpoints on every task of a folder, one run after the other; start it again to go on.

    python benchmarks/finetuning/clue_study.py --clue CLUE --results RUNS.jsonl --seeds 3 --bf16 \
        --model tiny-zh=src/flash/assets/tiny-zh --model transformer=runs/transformer --from-scratch tiny-zh

What has a record in the results is not run again; the first seed of every task and model comes before the second. The
tables of docs/finetuning.md are written from the results by clue_page.py.
"""

import argparse
import logging
import math
import subprocess
import sys
from functools import cache
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # the harness of the other benchmarks

from flash.errors import InputError
from flash.tasks.loading import find_file, load_split
from flash.tasks.task import load_task, packaged_tasks

from clue_runs import BASELINES, TASK_OF_FOLDER, Run, finetune, read_records, score_baselines
from run_records import append_record

FIRST_SEED = 2022
ROWS_A_STEP = 32

logger = logging.getLogger("clue_study")


def main() -> None:
    """Run what is missing."""
    arguments = parse()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("flash").setLevel(logging.ERROR)  # each run says it again
    try:
        records = read_records(arguments.results)
        runs = [run for run in plan(arguments) if run not in records]
    except (InputError, OSError) as error:
        sys.exit(str(error))
    failed = 0
    for number, run in enumerate(runs, start=1):
        shown = " ".join(run.command(model=run.contestant, clue="clue")[2:])
        if arguments.dry_run:
            print(f"{run.folder}: baselines" if run.contestant == BASELINES else shown)
            continue
        logger.info("%d of %d: %s", number, len(runs), f"{run.folder}: baselines" if not run.epochs else shown)
        try:
            if run.contestant == BASELINES:
                record = score_baselines(run, clue=arguments.clue)
            else:
                model = arguments.models[run.contestant]
                record = finetune(
                    run, model=model, clue=arguments.clue, work=arguments.work, keep=arguments.keep_models
                )
        except (subprocess.CalledProcessError, InputError) as error:
            failed += 1
            logger.error("failed: %s", error)
            continue
        append_record(arguments.results, record)
    if failed:
        sys.exit(f"{failed} runs failed; start the study again to try them once more")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clue", type=Path, required=True, help="folder with a folder a task: train, dev, test")
    parser.add_argument("--results", type=Path, required=True, help="JSON lines of finished runs; added to")
    parser.add_argument("--model", action="append", default=[], metavar="NAME=PATH", help="a checkpoint; several")
    parser.add_argument("--from-scratch", nargs="*", default=[], metavar="NAME", help="of these also with new weights")
    parser.add_argument("--tasks", nargs="*", help="folders of --clue; all of them by default")
    parser.add_argument("--seeds", type=int, default=3, help=f"runs of each, from seed {FIRST_SEED} on")
    parser.add_argument("--learning-rates", type=float, nargs="*", default=[1e-3], help="the table takes the best mean")
    parser.add_argument("--epochs", type=float, default=3.0, help="times that the training rows are gone through")
    parser.add_argument("--least-steps", type=int, default=0, help="more epochs for small tasks: so many steps of 32")
    parser.add_argument("--max-train-rows", type=int, help="train on so many rows of each task, drawn by the seed")
    parser.add_argument("--bf16", action="store_true", help="train in bfloat16")
    parser.add_argument("--work", type=Path, default=Path("build/finetuning"), help="folder for what is under way")
    parser.add_argument("--keep-models", action="store_true", help="leave the models in --work")
    parser.add_argument("--dry-run", action="store_true", help="print the runs that are missing")
    arguments = parser.parse_args()
    arguments.models = dict(each.split("=", 1) for each in arguments.model if "=" in each)
    if len(arguments.models) < len(arguments.model):
        parser.error("--model takes NAME=PATH, each name once")
    if unknown := sorted({*arguments.from_scratch} - {*arguments.models}):
        parser.error(f"--from-scratch {unknown[0]}: no --model of that name")
    known = packaged_tasks()
    folders = sorted(path.name for path in arguments.clue.glob("*") if path.is_dir())
    there = [name for name in folders if TASK_OF_FOLDER.get(name, name) in known]
    if not there:
        parser.error(f"--clue {arguments.clue}: no folder of a task is there, such as {arguments.clue / 'tnews'}")
    if unknown := sorted({*(arguments.tasks or [])} - {*there}):
        parser.error(f"--tasks {unknown[0]}: {arguments.clue} has {', '.join(there)}")
    arguments.tasks = arguments.tasks or there
    return arguments


def plan(arguments: argparse.Namespace) -> list[Run]:
    """List all runs: seed by seed the baselines of each task, then every model at every learning rate.

    There is no chance in the baselines but for the rows that a seed draws; without a draw they are scored once.
    """
    contestants = [(name, scratch) for name in arguments.models for scratch in (False, True)]
    contestants = [(name, scratch) for name, scratch in contestants if not scratch or name in arguments.from_scratch]
    epochs = {folder: epochs_of(folder, arguments) for folder in arguments.tasks}
    rows = {"max_train_rows": arguments.max_train_rows}
    flags = ("--bf16",) if arguments.bf16 else ()
    runs = []
    for seed in range(FIRST_SEED, FIRST_SEED + arguments.seeds):
        for folder in arguments.tasks:
            if seed == FIRST_SEED or draws_rows(folder, arguments):
                runs.append(Run(folder, BASELINES, seed, **rows))
        runs += [
            Run(folder, name, seed, rate, epochs[folder], from_scratch=scratch, flags=flags, **rows)
            for folder in arguments.tasks
            for name, scratch in contestants
            for rate in arguments.learning_rates
        ]
    return runs


def draws_rows(folder: str, arguments: argparse.Namespace) -> bool:
    """Tell whether each seed trains on rows of its own."""
    return arguments.max_train_rows is not None and count_rows(arguments.clue, folder) > arguments.max_train_rows


def epochs_of(folder: str, arguments: argparse.Namespace) -> float:
    """Give small tasks as many epochs as ``--least-steps`` takes."""
    if not arguments.least_steps:
        return arguments.epochs
    count = count_rows(arguments.clue, folder)
    steps = math.ceil(min(count, arguments.max_train_rows or count) / ROWS_A_STEP)
    return max(arguments.epochs, float(math.ceil(arguments.least_steps / steps)))


@cache
def count_rows(clue: Path, folder: str) -> int:
    """Count the training rows of a task that can be used."""
    path = find_file(clue / folder, "train")
    if path is None:
        raise InputError(f"{clue / folder} has no train.json, .csv, ...")
    return len(load_split(path, load_task(TASK_OF_FOLDER.get(folder, folder))).examples)


if __name__ == "__main__":
    main()
