"""Records of fine-tunings as the tables of docs/finetuning.md."""

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))  # the harness of the other benchmarks

from flash.errors import InputError
from flash.finetuning.baselines.entities import DICTIONARY
from flash.finetuning.baselines.found import MAJORITY, TFIDF
from flash.finetuning.baselines.reading import FIRST, LIKEST
from flash.finetuning.reports import plus_minus
from flash.tasks.metrics import mean_and_spread

from clue_runs import BASELINES, Run
from generated_page import markdown_table

Records = dict[Run, dict[str, Any]]

NO_RECORD = "No run has a record yet."
# baselines of different kinds of task that belong into one column
SIMPLEST, WITHOUT_NETWORK = "most frequent", "n-grams, dictionary"
COLUMN_OF = {
    MAJORITY: SIMPLEST,
    "mean": SIMPLEST,
    FIRST: SIMPLEST,
    TFIDF: WITHOUT_NETWORK,
    LIKEST: WITHOUT_NETWORK,
    DICTIONARY: WITHOUT_NETWORK,
}


@dataclass(frozen=True)
class Entry:
    """A cell: mean, spread and values of the scores, and the runs behind it, that of the first seed ahead."""

    score: dict[str, Any]
    runs: tuple[Run, ...] = ()


def summarize(records: Records, split: str) -> dict[str, dict[str, Entry]]:
    """Take of each task and contestant the settings with the best mean on dev, among those with most seeds.

    Returns:
        ``{folder: {column: entry}}``, both in the order of the records.

    Raises:
        InputError: A task has records with different numbers of training rows, which cannot be compared.
    """
    found: dict[str, dict[str, Entry]] = {}
    for folder in dict.fromkeys(run.folder for run in records):
        of_task = {run: record for run, record in records.items() if run.folder == folder}
        if len({run.max_train_rows for run in of_task}) > 1:
            raise InputError(f"{folder}: records with different --max-train-rows; keep them in files of their own")
        row: dict[str, Entry] = {}
        for name, values in _of_baselines(of_task, split).items():
            row[name] = Entry(mean_and_spread(values))
        for column, settings in _by_column(of_task).items():
            best = max(settings, key=lambda runs: (len(runs), _mean(of_task, runs, "dev")))
            if all(split in of_task[run]["scores"] for run in best):
                metric = of_task[best[0]]["metric"]
                row[column] = Entry(mean_and_spread([of_task[run]["scores"][split][metric] for run in best]), best)
        if row:
            found[folder] = row
    return found


def _of_baselines(of_task: Records, split: str) -> dict[str, list[float]]:
    columns: dict[str, list[float]] = {}
    for run in sorted((run for run in of_task if run.contestant == BASELINES), key=lambda run: run.seed):
        for name, scores in of_task[run]["baselines"].items():
            if split in scores:
                columns.setdefault(COLUMN_OF[name], []).append(scores[split][of_task[run]["metric"]])
    return columns


def _by_column(of_task: Records) -> dict[str, list[tuple[Run, ...]]]:
    columns: dict[str, dict[Run, list[Run]]] = {}
    for run in of_task:
        if run.contestant != BASELINES:
            name = f"{run.contestant}, from scratch" if run.from_scratch else run.contestant
            columns.setdefault(name, {}).setdefault(replace(run, seed=0), []).append(run)
    return {
        name: [tuple(sorted(runs, key=lambda run: run.seed)) for runs in settings.values()]
        for name, settings in columns.items()
    }


def _mean(of_task: Records, runs: tuple[Run, ...], split: str) -> float:
    return sum(of_task[run]["scores"][split][of_task[run]["metric"]] for run in runs) / len(runs)


def scores_table(records: Records, split: str) -> str:
    """Write a row a task and a column a contestant, the best score of a row in bold."""
    found = summarize(records, split)
    if not found:
        return NO_RECORD
    columns = [SIMPLEST, WITHOUT_NETWORK, *_contestants(found)]
    rows = []
    for folder, row in found.items():
        record = next(record for run, record in records.items() if run.folder == folder)
        best = max(entry.score["mean"] for entry in row.values())
        cells = [folder, record["metric"].replace("_", " "), f"{record['rows']['train']:,}"]
        for column in columns:
            shown = plus_minus(row[column].score) if column in row else "-"
            cells.append(f"**{shown}**" if column in row and row[column].score["mean"] == best else shown)
        rows.append(cells)
    return markdown_table(["task", "score", "training rows", *columns], rows)


def _contestants(found: dict[str, dict[str, Entry]]) -> list[str]:
    names = dict.fromkeys(column for row in found.values() for column in row)
    return [name for name in names if name not in (SIMPLEST, WITHOUT_NETWORK)]


def verdict(records: Records) -> str:
    """Count for each model the tasks on which its mean is above each other column's."""
    found = summarize(records, "dev")
    lines = []
    for name in _contestants(found):
        counts = []
        for other in (SIMPLEST, WITHOUT_NETWORK, *_contestants(found)):
            both = [row for row in found.values() if name in row and other in row]
            if other != name and both:
                above = sum(row[name].score["mean"] > row[other].score["mean"] for row in both)
                counts.append(f"above *{other}* on {above} of {len(both)}")
        lines.append(f"- **{name}**: {', '.join(counts)}.")
    return "\n".join(lines) or NO_RECORD


def commands(records: Records) -> str:
    """Write the command of each score, with the seconds of one run and what it gave."""
    found = summarize(records, "dev")
    lines = []
    for folder, row in found.items():
        for entry in row.values():
            if entry.runs:
                of_runs = [records[run] for run in entry.runs]
                seconds = mean_and_spread([record["seconds"] for record in of_runs])["mean"]
                lines.append(f"# {folder}: {plus_minus(entry.score)}, {seconds:,.0f} s a run")
                lines += [shlex.join(typed) for typed in _typed(entry.runs)]
    machines = sorted({record["machine"] for record in records.values()})
    listing = "\n".join(["```bash", *lines, "```", "", *(f"Machine: {name}." for name in machines)])
    return listing if lines else NO_RECORD


def _typed(runs: tuple[Run, ...]) -> list[list[str]]:
    """Type the runs of a cell: one command where ``--seeds`` repeats them, or else one each."""
    first = runs[0]
    # with --seeds all runs get the rows that the first seed draws; here each seed has drawn its own
    at_once = first.max_train_rows is None and [run.seed for run in runs] == [first.seed + i for i in range(len(runs))]
    seeds = {first: len(runs)} if at_once else dict.fromkeys(runs, 1)
    return [
        [*run.command(model=run.contestant, clue="clue", seeds=count), "--output_dir", _folder_of(run)]
        for run, count in seeds.items()
    ]


def _folder_of(run: Run) -> str:
    return "-".join([f"runs/{run.folder}", run.contestant, *(["scratch"] if run.from_scratch else []), str(run.seed)])


TABLES: dict[str, Callable[[Records], str]] = {
    "dev": lambda records: scores_table(records, "dev"),
    "verdict": verdict,
    "test": lambda records: scores_table(records, "test"),
    "commands": commands,
}
