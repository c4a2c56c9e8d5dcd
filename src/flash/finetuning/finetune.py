"""A study: learning rates and seeds on one task, the best model kept, everything a reader wants written beside it."""

import hashlib
import json
import logging
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flash.errors import InputError
from flash.finetuning.arguments import FinetuningArguments
from flash.finetuning.baselines import baselines
from flash.finetuning.data import TaskData, check_vocabulary, describe, load_data
from flash.finetuning.figures import draw_curves
from flash.finetuning.json_files import read_json, write_json
from flash.finetuning.models import load_task_model, load_task_tokenizer, usual_learning_rate
from flash.finetuning.problems.problem import Encoded
from flash.finetuning.reports import plus_minus, write_hardest, write_model_card, write_report
from flash.finetuning.run import METRICS, MODEL, Run, task_trainer, train_run
from flash.finetuning.task_file import write_task_file
from flash.models.execution import warn_of_missing_kernels
from flash.packaged import packaged_or_named
from flash.tasks.loading import answers_beside
from flash.tasks.metrics import mean_and_spread
from flash.tasks.submission import submission_name, submission_obstacle, write_predictions, write_submission
from flash.tasks.task import METRICS as METRICS_OF_KIND
from flash.tasks.task import packaged_tasks
from flash.training.folder_lock import holds_nothing, only_process_in
from flash.training.reporters import make_reporting_callbacks

SETTINGS, RUNS, BASELINES = "settings.json", "runs", "baselines.json"
# settings that say where, how many runs and by which code, not what a run is: that has its learning rate in its name
_NOT_COMPARED = {
    *("output_dir", "logging_dir", "overwrite_output_dir", "baselines", "disable_tqdm"),
    *("seeds", "learning_rate", "learning_rates", "attention_backend"),
}

logger = logging.getLogger(__name__)


@dataclass
class Study:
    """What a study found: ``metrics.json`` as read, and its folder."""

    folder: Path
    metrics: dict[str, Any]


def finetune(args: FinetuningArguments, *, command: str) -> Study:
    """Fine-tune a checkpoint with each learning rate and seed; go on where an earlier call stopped.

    Args:
        command: The command line, for the model card.

    Raises:
        InputError: A file, model or setting that cannot be used; what was finished before is kept.
    """
    if args.world_size > 1:
        raise InputError(
            f"{args.world_size} processes were started, and a study trains in one; start it without torchrun (several "
            "GPUs can each run one: CUDA_VISIBLE_DEVICES=1 flashquad finetune --output_dir ...)"
        )
    with only_process_in(Path(args.output_dir)):
        return _finetune(args, command=command)


def _finetune(args: FinetuningArguments, *, command: str) -> Study:
    folder = Path(args.output_dir)
    make_reporting_callbacks(args.report_to or [])  # each run makes its own; what is not installed shows now
    data = load_data(args)
    tokenizer = load_task_tokenizer(args.model)
    tokenizer.model_max_length = data.problem.task.max_length  # what truncation=True means to those who use the folder
    # what is wrong with the model shows now, and not after minutes
    max_length = data.problem.task.max_length
    loaded = load_task_model(
        args.model,
        data.problem,
        data.label_names,
        max_length=max_length,
        from_scratch=args.from_scratch,
        classifier_pooling=args.classifier_pooling,
        attention_backend=args.attention_backend,
    )
    if loaded.head_replaced:
        logger.warning(
            "--model %s: its head is for other labels, or another kind of task, than this; a new one is trained",
            args.model,
        )
    data.problem.prepare(loaded.model)
    warn_of_missing_kernels(loaded.model.config, args.device)
    if args.from_scratch and args.layer_decay != 1:
        logger.info("--layer_decay %g changes nothing: from scratch every weight is new", args.layer_decay)
    splits = {"train": data.train, "dev": data.dev} | ({} if data.test is None else {"test": data.test})
    encoded = {
        name: data.problem.encode(split.examples, tokenizer, max_length, training=name == "train")
        for name, split in splits.items()
    }
    embeddings = loaded.model.get_input_embeddings().num_embeddings
    unknown = check_vocabulary(args.model, encoded["train"], tokenizer, embeddings)
    _claim(folder, args, data)
    facts = describe(data, encoded, max_length)
    facts["train"]["unknown_tokens"] = round(unknown, 4)
    facts["left_out"] = {name: dict(split.left_out) for name, split in splits.items() if split.left_out}
    found = _baselines(folder, data) if args.baselines else {}
    rates = _learning_rates(args, loaded.model.num_parameters())
    runs = [
        Run(rate, seed, folder / RUNS / f"lr-{rate!r}-seed-{seed}")
        for rate in rates
        for seed in range(args.seed, args.seed + args.seeds)
    ]
    records = {run.name: train_run(run, args, data, encoded, tokenizer) for run in runs}
    metrics = _summary(args, data, runs, records) | {"baselines": found, "data": facts}
    best = _best_run(runs, records, metrics["learning_rate"], data.problem.task.metric)
    shutil.copytree(best.folder / MODEL, folder, dirs_exist_ok=True)
    write_task_file(folder, data.problem, data.label_names)
    write_json(folder / METRICS, metrics)
    _write_answers(folder, args, data, encoded, tokenizer)
    chosen = [records[run.name] for run in runs if run.learning_rate == best.learning_rate]
    draw_curves(folder / "curves.png", data.problem.task.metric, chosen)
    write_model_card(folder, data=data, metrics=metrics, command=command, model=args.model)
    return Study(folder, metrics)


def _learning_rates(args: FinetuningArguments, parameters: int) -> list[float]:
    if args.learning_rates:
        return list(dict.fromkeys(args.learning_rates))
    if args.learning_rate is not None:
        return [args.learning_rate]
    rate = usual_learning_rate(parameters)
    logger.info("learning rate %g, for %s parameters; --learning_rates tries several", rate, f"{parameters:,}")
    return [rate]


def _claim(folder: Path, args: FinetuningArguments, data: TaskData) -> None:
    """Take a folder for a study, or go on with the same one."""
    settings = {name: value for name, value in args.to_dict().items() if name not in _NOT_COMPARED}
    settings |= {"contents": _fingerprints(args, data)}
    settings = json.loads(json.dumps(settings, default=str))
    known = folder / SETTINGS
    if args.overwrite_output_dir and known.is_file():
        _clear(folder)
    elif known.is_file() and (folder / RUNS).is_dir():
        before = read_json(known, "name another --output_dir, or pass --overwrite_output_dir")
        for name, value in settings.items():
            if before.get(name) != value:
                what = f"with --{name} {before.get(name)}, this one has {value}"
                if name == "contents":
                    changed = [key for key, found in value.items() if before.get(name, {}).get(key) != found]
                    what = f"of other contents of {', '.join(changed)}"
                raise InputError(
                    f"{folder} holds a study {what}; name another --output_dir, or pass --overwrite_output_dir"
                )
    elif not known.is_file() and folder.is_dir() and not holds_nothing(folder) and not args.overwrite_output_dir:
        raise InputError(
            f"{folder} exists and holds no study; name another --output_dir, or pass --overwrite_output_dir"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(known, settings)


def _clear(folder: Path) -> None:
    """Delete what a study writes."""
    shutil.rmtree(folder / RUNS, ignore_errors=True)
    names = (
        "metrics.json",
        BASELINES,
        "per_class.json",
        "confusion.png",
        "curves.png",
        "hardest.jsonl",
        "*_predictions.jsonl",
    )
    for pattern in (*names, "*_predict.json"):
        for path in folder.glob(pattern):
            path.unlink()


def _fingerprints(args: FinetuningArguments, data: TaskData) -> dict[str, str]:
    """Hash what the study is made of: the files, the task where a file describes it, the model where it is a folder."""
    files = {}
    for split in (data.train, data.dev, data.test):
        if split is not None:
            beside = answers_beside(split.path, data.problem.task)
            files[str(split.path)] = [split.path] if beside is None else [split.path, beside]
    if args.task not in packaged_tasks():
        files[args.task] = [Path(args.task)]
    model = Path(packaged_or_named(args.model))
    if model.is_dir():
        suffixes = (".safetensors", ".bin", ".json", ".txt", ".model")  # weights, and what tokenizers are made of
        weights = [path for path in model.iterdir() if path.suffix in suffixes]
        files[args.model] = sorted(path for path in weights if path.name != "trainer_state.json")
    hashes = {}
    for name, paths in files.items():
        content = hashlib.sha256()
        for path in paths:
            with path.open("rb") as file:
                content.update(hashlib.file_digest(file, "sha256").digest())
        hashes[name] = content.hexdigest()
    return hashes


def _baselines(folder: Path, data: TaskData) -> dict[str, Any]:
    """Compute the baselines, or read what an earlier call found in the same texts."""
    known = folder / BASELINES
    task = data.problem.task
    read = repr((task, METRICS_OF_KIND[task.kind], data.train.examples, data.dev.examples, data.scored_test))
    fingerprint = hashlib.sha256(read.encode(errors="surrogatepass")).hexdigest()
    if known.is_file():
        before = read_json(known, "delete it, and the baselines are computed again")
        if before["fingerprint"] == fingerprint:
            return before["scores"]
    logger.info("compute the baselines (--no_baselines does without)")
    scores = baselines(data.problem, data.train.examples, data.dev.examples, data.scored_test)
    write_json(known, {"fingerprint": fingerprint, "scores": scores})
    return scores


def _summary(
    args: FinetuningArguments, data: TaskData, runs: list[Run], records: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    metric = data.problem.task.metric
    by_rate: dict[float, list[dict[str, Any]]] = {}
    for run in runs:
        by_rate.setdefault(run.learning_rate, []).append(records[run.name])
    means = {rate: mean_and_spread([record["dev"][metric] for record in found]) for rate, found in by_rate.items()}
    best = max(means, key=lambda rate: _or_lowest(means[rate]["mean"]))
    chosen = by_rate[best]
    summary = {
        "task": data.problem.task.name,
        "metric": metric,
        "model": args.model,
        "from_scratch": args.from_scratch,
        "parameters": chosen[0]["parameters"],
        "learning_rate": best,
        "seeds": [record["seed"] for record in chosen],
        "seconds": mean_and_spread([record["seconds"] for record in chosen]),
        "learning_rates": {repr(rate): found for rate, found in means.items()},
    }
    for split in ("dev", "test"):
        if split in chosen[0]:
            summary[split] = {
                name: mean_and_spread([record[split][name] for record in chosen]) for name in chosen[0][split]
            }
    return summary


def _best_run(runs: list[Run], records: dict[str, dict[str, Any]], rate: float, metric: str) -> Run:
    of_rate = [run for run in runs if run.learning_rate == rate]
    return max(of_rate, key=lambda run: _or_lowest(records[run.name]["dev"][metric]))


def _or_lowest(score: float) -> float:
    return -math.inf if math.isnan(score) else score


def _write_answers(
    folder: Path, args: FinetuningArguments, data: TaskData, encoded: dict[str, Encoded], tokenizer: Any
) -> None:
    """Answer dev and test files with the model that was kept."""
    problem = data.problem
    loaded = load_task_model(
        str(folder),
        problem,
        data.label_names,
        max_length=problem.task.max_length,
        attention_backend=args.attention_backend,
    )
    trainer = task_trainer(loaded, args, problem, {"dev": encoded["dev"]}, tokenizer)
    logits = trainer.logits_of(encoded["dev"])
    answers = problem.answers(logits, encoded["dev"])
    write_predictions(folder / "dev_predictions.jsonl", data.dev.examples, answers.predictions, answers.confidences)
    write_report(folder, problem, data.label_names, answers.predictions, data.dev.examples)
    write_hardest(folder, problem, data.label_names, logits, answers, encoded["dev"])
    if data.test is None:
        return
    answers = problem.answers(trainer.logits_of(encoded["test"]), encoded["test"])
    write_predictions(folder / "test_predictions.jsonl", data.test.examples, answers.predictions, answers.confidences)
    if problem.task.submission is None:
        return
    if (obstacle := submission_obstacle(problem.task, data.test)) is not None:
        logger.warning("no submission is written: %s: %s", data.test.path, obstacle)
    else:
        name = submission_name(problem.task, data.test.examples)
        write_submission(folder / name, problem.task, data.test.examples, answers.predictions)


def study_summary(study: Study) -> str:
    """Lay the scores out beside the baselines, as a table of text."""
    metrics = study.metrics
    names = [name for name in metrics["dev"] if name != "loss"]
    rows = [["", *names]]
    for baseline, scores in metrics["baselines"].items():
        rows.append([baseline, *(f"{scores['dev'][name]:.4f}" for name in names)])
    rows.append([Path(metrics["model"]).name, *(plus_minus(metrics["dev"][name]) for name in names)])
    if "test" in metrics:
        rows.append(["the same, test file", *(plus_minus(metrics["test"][name]) for name in names)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    seeds = f"{len(metrics['seeds'])} seed{'s' if len(metrics['seeds']) > 1 else ''}"
    return "\n".join(
        [
            f"{metrics['task']}: dev scores, learning rate {metrics['learning_rate']:g}, {seeds}",
            *lines,
            f"model and files in {study.folder}",
        ]
    )
