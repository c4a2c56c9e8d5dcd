"""The three commands as they are typed; a mistake is one line and exit code 2."""

import json

import pytest
import torch
from typer.testing import CliRunner

from flash.cli import app

from toy_tasks import checkpoint, task_folder

GIVEN = ("--task", "tnews", "--model", "x")


def flashquad(*arguments, text=None):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=text)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    checkpoint(folder / "model")
    task_folder(folder / "data", "classification", train=24, dev=12)
    return folder


@pytest.fixture(scope="module")
def finetuned(workplace):
    done = flashquad(
        *("finetune", "--task", "tnews", "--data_dir", workplace / "data", "--model", workplace / "model"),
        *("--output_dir", workplace / "out", "--num_train_epochs", "1", "--learning_rates", "1e-3", "1e-2"),
    )
    assert done.exit_code == 0, done.stderr
    return workplace / "out", done


def test_a_study_says_what_it_found(finetuned):
    folder, done = finetuned
    lines = done.stdout.splitlines()
    assert lines[0].startswith("tnews: dev scores, learning rate")
    assert lines[1].split() == ["accuracy", "macro_f1"]
    assert [line.split("  ")[0] for line in lines[2:5]] == ["most frequent", "character n-grams (TF-IDF)", "model"]
    assert lines[-1] == f"model and files in {folder}"
    assert "train: 24 rows; tokens: median" in done.stderr
    assert "LOAD REPORT" not in done.stderr


def test_everything_about_training_is_a_flag(workplace, tmp_path):
    done = flashquad(
        *("finetune", "--task", "tnews", "--data_dir", workplace / "data", "--model", workplace / "model"),
        *("--output_dir", tmp_path / "out", "--num_train_epochs", "3", "--learning_rates", "1e-9", "1e-2"),
        *("--seeds", "5", "--patience", "1", "--class_weights", "balanced", "--layer_decay", "0.9", "--bf16"),
        *("--classifier_pooling", "cls"),
        *("--metric", "macro_f1", "--train_sampling_strategy", "random", "--no_baselines"),
    )
    assert done.exit_code == 0, done.stderr
    assert ", 5 seeds" in done.stdout.splitlines()[0]
    assert " ± " in done.stdout
    metrics = json.loads((tmp_path / "out/metrics.json").read_text(encoding="utf-8"))
    assert metrics["metric"] == "macro_f1"
    assert set(metrics["learning_rates"]) == {"1e-09", "0.01"}
    assert len(metrics["dev"]["macro_f1"]["values"]) == 5
    steps = [
        json.loads(path.read_text(encoding="utf-8"))["steps"]
        for path in (tmp_path / "out/runs").glob("lr-1e-09-*/metrics.json")
    ]
    assert len(steps) == 5
    assert min(steps) < 3  # a step an epoch: a rate that changes nothing is stopped
    card = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert "mean and standard deviation of 5 seeds" in card
    assert "| **this model** |" in card
    report = json.loads((tmp_path / "out/per_class.json").read_text(encoding="utf-8"))
    assert {"food", "place", "macro avg"} <= set(report)
    for name in ("curves.png", "confusion.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")


def test_evaluate_prints_one_json_object(finetuned, workplace):
    done = flashquad("evaluate", "--model", finetuned[0], "--file", workplace / "data/dev.json")
    scores = json.loads(done.stdout)
    assert scores["rows"] == 12
    assert 0 <= scores["accuracy"] <= 1


def test_predict_answers_texts_lines_and_files(finetuned, workplace, tmp_path):
    done = flashquad("predict", "--model", finetuned[0], "苹果很好", "公园很好")
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == ["苹果很好", "公园很好"]
    assert all(row[1] in ("food", "place") and 0.5 <= float(row[2]) <= 1 for row in rows)
    assert flashquad("predict", "--model", finetuned[0], text="苹果很好\n\n公园很好\n").stdout == done.stdout
    of_windows = "\ufeff苹果很好\r\n公园很好\r\n"
    assert flashquad("predict", "--model", finetuned[0], text=of_windows).stdout == done.stdout
    done = flashquad("predict", "--model", finetuned[0], text="苹果很好\n".encode() + b"\xff\n")
    assert done.exit_code == 2
    assert done.stderr.strip() == "flashquad: text 2 is not UTF-8: '\\udcff'; write it as UTF-8"
    test = workplace / "data/test.json"
    done = flashquad("predict", "--model", finetuned[0], "--input", test, "--submission", "--output", tmp_path)
    assert done.stdout.strip() == str(tmp_path / "tnews11_predict.json")
    lines = (tmp_path / "tnews11_predict.json").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["label"] in ("101", "102") for line in lines] == [True] * 6


@pytest.mark.skipif(torch.cuda.is_available(), reason="there the kernels run")
def test_every_command_takes_the_backend(finetuned, workplace, tmp_path, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)  # in which the kernels would run
    folder, data = finetuned[0], workplace / "data"
    commands = (
        ("predict", "--model", folder, "苹果很好"),
        ("evaluate", "--model", folder, "--file", data / "dev.json"),
        ("finetune", "--task", "tnews", "--model", workplace / "model", "--data_dir", data, "--output_dir", tmp_path),
    )
    for command in commands:
        failed = flashquad(*command, "--attention-backend", "fused")
        assert failed.exit_code == 2
        assert "attention_backend='fused' cannot run: " in failed.stderr
        assert flashquad(*command, "--attention-backend", "reference").exit_code == 0  # goes on where it stopped


def test_predictions_overwrite_no_texts_and_are_not_lost(finetuned, workplace, tmp_path):
    texts = tmp_path / "texts.json"
    texts.write_bytes((workplace / "data/test.json").read_bytes())
    before = texts.read_bytes()
    done = flashquad("predict", "--model", finetuned[0], "--input", texts, "--output", texts)
    assert done.exit_code == 2
    assert "texts.json would overwrite the texts; name another file" in done.stderr
    assert texts.read_bytes() == before
    done = flashquad("predict", "--model", finetuned[0], "--output", tmp_path / "answers.jsonl", "苹果很好")
    assert done.exit_code == 2
    assert "answers.jsonl is for the predictions of a file; name it with --input" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("finetune",), "--task is needed"),
        (("finetune", "--task", "tnews"), "--model is needed"),
        (("finetune", "--task", "tnewz", "--model", "x"), "no task 'tnewz'"),
        (("finetune", "--task", "tnews", "--model", "x", "--bogus"), "unknown flag '--bogus'"),
        (("finetune", "--task", "tnews", "--model", "x"), "--train_file is needed: no --data_dir was given"),
        (
            ("finetune", "--task", "tnews", "--model", "x", "--data_dir", "/nowhere"),
            "--data_dir /nowhere: no such folder",
        ),
        (("finetune", "--task", "tnews", "--model", "x", "--seeds", "0"), "--seeds must be at least 1, got 0"),
        (
            ("finetune", "--task", "tnews", "--model", "x", "--layer_decay", "2"),
            "--layer_decay must lie between 0 and 1",
        ),
        (
            ("finetune", "--task", "tnews", "--model", "x", "--learning_rate", "3"),
            "a learning rate must lie between 0 and 1",
        ),
        (
            ("finetune", "--task", "tnews", "--model", "x", "--eval_strategy", "no"),
            "--eval_strategy must be epoch or steps",
        ),
        (("finetune", *GIVEN, "--bf16", "--fp16"), "At most one of fp16 and bf16"),
        (("finetune", *GIVEN, "--save_strategy", "steps"), "--save_strategy steps is not taken: a checkpoint is saved"),
        (("finetune", *GIVEN, "--save_steps", "7"), "--save_steps 7.0 is not taken: a checkpoint is saved at each"),
        (("finetune", *GIVEN, "--load_best_model_at_end", "False"), "--load_best_model_at_end False is not taken"),
        (("finetune", *GIVEN, "--save_total_limit", "0"), "--save_total_limit must be at least 1, got 0"),
        (("finetune", *GIVEN, "--save_only_model"), "--save_only_model True is not taken: a run that was stopped"),
        (("finetune", *GIVEN, "--eval_on_start", "true"), "--eval_on_start True is not taken: a checkpoint is saved"),
        (("finetune", *GIVEN, "--eval_delay", "9"), "--eval_delay 9.0 is not taken: a checkpoint is saved at each"),
        (("finetune", *GIVEN, "--metric_for_best_model", "f1"), "name the task's metric with --metric"),
        (("finetune", *GIVEN, "--eval_steps", "5"), "--eval_steps 5 is heeded with --eval_strategy steps"),
        (
            ("finetune", *GIVEN, "--label_smoothing_factor", "0.1", "--class_weights", "balanced"),
            "--label_smoothing_factor is for classes without weights; these have --class_weights",
        ),
        (
            ("finetune", "--task", "stsb", "--model", "x", "--label_smoothing_factor", "0.1"),
            "--label_smoothing_factor is for classes without weights; task stsb has none",
        ),
        (
            ("finetune", "--task", "stsb", "--model", "x", "--bf16_full_eval"),
            "--bf16_full_eval and --fp16_full_eval round the values that a model gives; leave them out",
        ),
        (
            ("finetune", *GIVEN, "--per_device_train_batch_size", "0"),
            "--per_device_train_batch_size must be at least 1",
        ),
        (("finetune", *GIVEN, "--per_device_eval_batch_size", "0"), "--per_device_eval_batch_size must be at least 1"),
        (("finetune", *GIVEN, "--num_train_epochs", "nan"), "--num_train_epochs must be a number above 0, got nan"),
        (("finetune", *GIVEN, "--num_train_epochs", "inf"), "--num_train_epochs must be a number above 0, got inf"),
        (("finetune", *GIVEN, "--seed", "-1"), "--seed must lie between 0 and 4,294,967,295, and those after it too"),
        (("finetune", *GIVEN, "--seed", "4294967295", "--seeds", "2"), "got 4294967295; take another, such as 2022"),
        (("finetune", "--task", "tnews", "--model", "x", "--metric", "bleu"), "no metric 'bleu' for classification"),
        (
            ("finetune", "--task", "reading", "--model", "x", "--text_columns", "text"),
            "task reading: form squad reads two columns of texts, context and question, got text",
        ),
        (("evaluate", "--model", "/nowhere", "--file", "x.json"), "/nowhere has no task.json"),
        (("predict", "--model", "/nowhere", "--submission"), "--submission is made of a file"),
        (("predict", "--model", "/nowhere", "--input", "x.json", "text"), "both --input x.json and texts"),
    ],
)
def test_a_mistake_is_one_line(arguments, message):
    done = flashquad(*arguments)
    assert done.exit_code == 2
    (line,) = done.stderr.strip().splitlines()
    assert message in line
