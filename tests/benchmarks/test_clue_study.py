"""The results table of fine-tuning: what is run, what is skipped, what the tables make of the records."""

import json
import logging
import re
import sys

import pytest

import clue_page
import clue_study
from clue_page import PAGE
from clue_runs import BASELINES, Run, read_records
from clue_tables import NO_RECORD, TABLES, summarize
from run_records import append_record
from toy_tasks import checkpoint, task_folder


@pytest.fixture(autouse=True)
def log_level_as_before():
    """A study silences the library's log, which in a process of its own is nobody else's."""
    level = logging.getLogger("flash").level
    yield
    logging.getLogger("flash").setLevel(level)


def record(folder, contestant, dev, seed=2022, **changes):
    run = Run(folder, contestant, seed, **({"learning_rate": 1e-3, "epochs": 1.0} | changes))
    scores = {"dev": {"accuracy": dev}} | ({"test": {"accuracy": dev / 2}} if folder == "c3" else {})
    return run, {
        **{"run": run.to_dict(), "metric": "accuracy", "scores": scores, "rows": {"train": 40}},
        **{"parameters": 1, "seconds": 2.0, "machine": "M"},
    }


def baselines_record(folder, simplest, n_grams, seed=2022):
    run = Run(folder, BASELINES, seed)
    scores = {"most frequent": simplest, "character n-grams (TF-IDF)": n_grams}
    found = {name: {"dev": {"accuracy": score}} for name, score in scores.items()}
    facts = {"run": run.to_dict(), "metric": "accuracy", "baselines": found, "rows": {"train": 40}, "machine": "M"}
    return run, facts


def some_records():
    entries = [
        record("tnews", "ours", 0.4),
        record("tnews", "ours", 0.6, seed=2023),
        record("tnews", "ours", 0.45, learning_rate=3e-3),  # one seed only, which says less
        record("tnews", "ours", 0.3, learning_rate=1e-4),
        record("tnews", "ours", 0.3, seed=2023, learning_rate=1e-4),
        record("tnews", "ours", 0.2, from_scratch=True),
        record("c3", "ours", 0.8),
    ]
    return dict([baselines_record("tnews", 0.1, 0.5), *entries])


def test_the_tables_of_the_page_are_what_the_records_give():
    text = PAGE.read_text(encoding="utf-8")
    assert clue_page.filled(text) == text
    shown = set(re.findall(r"<!-- table ([\w-]+) -->", text))
    assert {f"clue-{name}" for name in TABLES} <= shown <= set(clue_page.tables())


def test_a_cell_is_the_best_rate_of_most_seeds_and_its_command_repeats_it():
    records = some_records()
    assert "| tnews | accuracy | 40 | 0.1000 | **0.5000** | **0.5000 ± 0.1414** | 0.2000 |" in TABLES["dev"](records)
    assert "| c3 | accuracy | 40 | - | - | **0.4000** |" in TABLES["test"](records)
    assert summarize(records, "dev")["tnews"]["ours"].score["values"] == [0.4, 0.6]
    commands = TABLES["commands"](records)
    assert (
        "flashquad finetune --task tnews --data_dir clue/tnews --model ours --learning_rate 0.001 --num_train_epochs 1 "
        "--seed 2022 --seeds 2 --output_dir runs/tnews-ours-2022\n"
    ) in commands
    verdict = TABLES["verdict"](records)
    assert "- **ours**: above *most frequent* on 1 of 1, above *n-grams, dictionary* on 0 of 1" in verdict


@pytest.mark.parametrize(("seeds", "rows"), [((2022, 2023), 10), ((2022, 2024), None)])
def test_runs_that_one_command_would_not_repeat_have_one_each(seeds, rows):
    # `finetune --seeds` draws rows once, by its first seed, and counts the seeds up from it
    records = dict(record("tnews", "ours", 0.4, seed=seed, max_train_rows=rows) for seed in seeds)
    commands = [line for line in TABLES["commands"](records).splitlines() if line.startswith("flashquad")]
    assert [command.partition("--seed ")[2] for command in commands] == [
        f"{seed} --output_dir runs/tnews-ours-{seed}" for seed in seeds
    ]


def test_baselines_are_averaged_over_the_rows_that_the_seeds_drew():
    records = dict([baselines_record("tnews", 0.1, 0.7, seed=2023), baselines_record("tnews", 0.1, 0.5)])
    of_task = summarize(records, "dev")["tnews"]
    assert of_task["n-grams, dictionary"].score["values"] == [0.5, 0.7]
    assert "| 0.1000 ± 0.0000 | **0.6000 ± 0.1414** |" in TABLES["dev"](records)


def test_without_records_every_table_says_so():
    assert {table({}) for table in TABLES.values()} == {NO_RECORD}


def test_different_numbers_of_rows_are_not_compared():
    records = some_records() | dict([record("tnews", "other", 0.9, max_train_rows=10)])
    with pytest.raises(ValueError, match="tnews: records with different --max-train-rows"):
        summarize(records, "dev")


def test_a_record_is_read_as_it_was_written(tmp_path):
    run, values = record("tnews", "ours", 0.4, flags=("--bf16",), max_train_rows=7)
    append_record(tmp_path / "new/runs.jsonl", values)
    assert read_records(tmp_path / "new/runs.jsonl") == {run: json.loads(json.dumps(values))}


def test_a_study_runs_what_is_missing_and_nothing_twice(tmp_path, monkeypatch, capsys):
    for folder, kind in (("tnews", "classification"), ("cluener", "entities")):
        task_folder(tmp_path / "clue" / folder, kind, train=24, dev=8)
    checkpoint(tmp_path / "model")
    (tmp_path / "clue/notes").mkdir()
    results = tmp_path / "runs.jsonl"
    command = [
        *(
            "clue_study.py",
            "--clue",
            str(tmp_path / "clue"),
            "--results",
            str(results),
            "--work",
            str(tmp_path / "work"),
        ),
        *("--model", f"toy={tmp_path / 'model'}", "--from-scratch", "toy", "--epochs", "1", "--max-train-rows", "16"),
    ]

    def study(*more):
        monkeypatch.setattr(sys, "argv", [*command, *more])
        clue_study.main()

    study("--seeds", "1", "--tasks", "tnews")
    first = results.read_text(encoding="utf-8")
    runs = list(read_records(results))
    assert [(run.contestant, run.from_scratch) for run in runs] == [(BASELINES, False), ("toy", False), ("toy", True)]
    assert not list((tmp_path / "work").iterdir())
    capsys.readouterr()
    study("--seeds", "2", "--dry-run")
    missing = capsys.readouterr().out
    assert missing.count("\n") == 3 + 6  # seed 2 of tnews, all of cluener
    assert missing.count("tnews: baselines") == 1  # of the rows that seed 2 draws
    study("--seeds", "2", "--dry-run", "--max-train-rows", "99")
    assert capsys.readouterr().out.count("baselines") == 2  # all rows are the same rows
    study("--seeds", "1", "--tasks", "tnews")
    assert results.read_text(encoding="utf-8") == first
    table = TABLES["dev"](read_records(results))
    assert re.search(r"\| tnews \| accuracy \| 16 \| .* \|", table)


def test_a_folder_that_is_no_task_is_named(tmp_path, monkeypatch, capsys):
    task_folder(tmp_path / "tnews", "classification")
    monkeypatch.setattr(
        sys, "argv", ["clue_study.py", "--clue", str(tmp_path), "--results", "r.jsonl", "--tasks", "tnewz"]
    )
    with pytest.raises(SystemExit):
        clue_study.main()
    assert "--tasks tnewz" in capsys.readouterr().err


def test_a_place_without_tasks_is_no_finished_study(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["clue_study.py", "--clue", str(tmp_path / "cleu"), "--results", "r.jsonl"])
    with pytest.raises(SystemExit) as stop:
        clue_study.main()
    assert stop.value.code == 2
    assert "cleu: no folder of a task is there" in capsys.readouterr().err


def test_a_task_without_its_file_is_named_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "tnews").mkdir()
    given = ["clue_study.py", "--clue", str(tmp_path), "--results", "r.jsonl", "--model", "m=m", "--least-steps", "9"]
    monkeypatch.setattr(sys, "argv", given)
    with pytest.raises(SystemExit, match=r"tnews has no train\.json"):
        clue_study.main()


def test_a_page_names_a_damaged_record(tmp_path, monkeypatch, capsys):
    (tmp_path / "runs.jsonl").write_text("{half\n", encoding="utf-8")
    monkeypatch.setattr(clue_page, "RECORDS", {"clue": tmp_path / "runs.jsonl"})
    monkeypatch.setattr(sys, "argv", ["clue_page.py", "--check"])
    with pytest.raises(SystemExit) as stop:
        clue_page.main()
    assert stop.value.code == 2
    assert "runs.jsonl:1: no record of a run" in capsys.readouterr().err


def test_a_fine_tuning_study_names_a_damaged_record(tmp_path, monkeypatch):
    results = tmp_path / "runs.jsonl"
    results.write_text("{half\n", encoding="utf-8")
    (tmp_path / "clue" / "tnews").mkdir(parents=True)
    given = ["clue_study.py", "--clue", str(tmp_path / "clue"), "--results", str(results)]
    monkeypatch.setattr(sys, "argv", given)
    with pytest.raises(SystemExit, match=r"runs\.jsonl:1: no record of a run"):
        clue_study.main()
