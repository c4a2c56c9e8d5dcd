"""A study on a task of each kind, by the stock commands: it learns, leaves its files, resumes and repeats itself."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from transformers import AutoConfig, pipeline

import flash  # noqa: F401
from flash.errors import InputError
from flash.finetuning.baselines import baselines
from flash.finetuning.finetune import _best_run, finetune, study_summary
from flash.finetuning.json_files import read_json, write_json
from flash.finetuning.run import Run
from flash.finetuning.scoring import Finetuned
from flash.tasks.task import METRICS as METRICS_OF_KIND
from flash.training.folder_lock import only_process_in

from toy_tasks import (
    TASK_OF,
    checkpoint,
    peer,
    rows_of,
    scores_of,
    small_study,
    task_folder,
    toy_finetuning,
    write_rows,
)

# the loss of new weights, or the score of a guess, that a model which has learned something is beyond
BETTER_THAN = {
    "classification": 0.85,
    "pair": 0.6,
    "regression": 0.6,
    "entities": 0.5,
    "reading": 0.4,
    "choice": 0.6,
}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("start"))


@pytest.fixture(scope="module", params=TASK_OF)
def study(request, start, tmp_path_factory):
    kind = request.param
    folder = tmp_path_factory.mktemp(kind)
    data = task_folder(folder / "data", kind, train=160, dev=40)
    args = toy_finetuning(kind, data, start, folder / "out", num_train_epochs=6)
    return kind, data, finetune(args, command=f"flashquad finetune --task {kind}")


def test_it_learns(study):
    kind, _, found = study
    metric = found.metrics["metric"]
    assert found.metrics["dev"][metric]["mean"] > BETTER_THAN[kind], found.metrics["dev"]
    for scores in found.metrics["baselines"].values():
        assert set(scores["dev"]) <= set(found.metrics["dev"])
    assert study_summary(found).count("\n") >= 3


def test_it_leaves_what_a_reader_wants(study):
    kind, _data, found = study
    names = {path.name for path in found.folder.iterdir()}
    assert names >= {
        *("model.safetensors", "config.json", "tokenizer.json", "task.json", "metrics.json", "README.md"),
        *("curves.png", "hardest.jsonl", "dev_predictions.jsonl", "test_predictions.jsonl"),
    }
    assert ("confusion.png" in names) == (kind in ("classification", "pair"))
    assert ("per_class.json" in names) == (kind in ("classification", "pair", "entities"))
    assert len((found.folder / "test_predictions.jsonl").read_text(encoding="utf-8").splitlines()) == 6
    hardest = [json.loads(line) for line in (found.folder / "hardest.jsonl").read_text(encoding="utf-8").splitlines()]
    mistakes = [row["mistake"] for row in hardest]
    assert mistakes == sorted(mistakes, reverse=True)
    for row in hardest:
        match kind:
            case "classification":
                assert (row["right"], row["right_name"]) in (("101", "food"), ("102", "place"))
                assert row["predicted_name"] in ("food", "place")
            case "choice":
                assert row["right_text"] in row["text"]
                assert row["predicted_text"] in row["text"]
            case "entities":
                assert all(entity.split("/")[0] in row["text"] for entity in (*row["right"], *row["predicted"]))
            case "reading":
                assert all(answer in row["text"] for answer in (*row["right"], row["predicted"]))
    assert not list(found.folder.glob("runs/*/checkpoint-*"))


def test_the_folder_gives_the_scores_that_training_reported(study):
    _, data, found = study
    scores = Finetuned(found.folder).evaluate(data / "dev.json")
    metric = found.metrics["metric"]
    assert scores[metric] == pytest.approx(max(found.metrics["dev"][metric]["values"]), abs=1e-6)


def test_predictions_do_not_depend_on_the_batch(study, tmp_path):
    _, data, found = study
    files = [
        Finetuned(found.folder, batch_size=size).predict_file(data / "dev.json", tmp_path / f"{size}.jsonl")
        for size in (1, 7)
    ]
    predictions = [
        [json.loads(line)["prediction"] for line in file.read_text(encoding="utf-8").splitlines()] for file in files
    ]
    if study[0] == "regression":
        predictions[1] = pytest.approx(predictions[1], rel=1e-4)
    assert predictions[0] == predictions[1]


@pytest.mark.parametrize("study", ["classification", "pair", "entities"], indirect=True)
def test_the_pipelines_of_transformers_know_the_labels(study):
    kind, _, found = study
    text = "妈妈在厨房里苹果很好"
    if kind == "entities":
        tokens = pipeline("token-classification", model=str(found.folder), ignore_labels=[])(text)
        assert [token["word"] for token in tokens] == list(text)
        tags = {f"{place}-{label}" for place in "BI" for label in ("food", "place")} | {"O"}
        assert {token["entity"] for token in tokens} <= tags
        assert set(AutoConfig.from_pretrained(found.folder).label2id) == tags
    else:
        classify = pipeline("text-classification", model=str(found.folder), top_k=None, truncation=True)
        (answers,) = classify([{"text": text, "text_pair": "苹果"} if kind == "pair" else text * 20])
        assert {answer["label"] for answer in answers} == ({"0", "1"} if kind == "pair" else {"food", "place"})


def test_the_packaged_model_makes_a_folder_for_the_pipeline(tmp_path):
    data = task_folder(tmp_path / "data", "classification", train=16, dev=4)
    args = toy_finetuning("classification", data, "tiny-zh", tmp_path / "out", num_train_epochs=1, baselines=False)
    study = finetune(args, command="")
    (answers,) = pipeline("text-classification", model=str(study.folder), top_k=None)(["苹果很好"])
    assert {answer["label"] for answer in answers} == {"food", "place"}
    assert sum(answer["score"] for answer in answers) == pytest.approx(1)
    (record,) = (json.loads(path.read_text(encoding="utf-8")) for path in study.folder.glob("runs/*/metrics.json"))
    assert [entry["step"] for entry in record["curve"] if "loss" in entry] == [1, 2]


def test_the_same_seed_gives_the_same_scores_and_weights(start, tmp_path):
    first = finetune(small_study(start, tmp_path, seeds=2), command="")
    shutil.move(first.folder, tmp_path / "first")
    again = finetune(small_study(start, tmp_path, seeds=2), command="")
    assert scores_of(again) == scores_of(first)
    weights = [folder / "model.safetensors" for folder in (tmp_path / "first", again.folder)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert again.metrics["seeds"] == [2022, 2023]


def test_a_stopped_study_goes_on_with_what_is_missing(start, tmp_path):
    whole = finetune(small_study(start, tmp_path, seeds=2), command="")
    kept = (whole.folder / "runs/lr-0.01-seed-2022/metrics.json").read_bytes()
    shutil.rmtree(whole.folder / "runs/lr-0.01-seed-2023")
    (whole.folder / "metrics.json").unlink()
    again = finetune(small_study(start, tmp_path, seeds=2), command="")
    assert scores_of(again) == scores_of(whole)
    assert (again.folder / "runs/lr-0.01-seed-2022/metrics.json").read_bytes() == kept


def test_baselines_are_computed_once_for_the_same_texts(start, tmp_path, monkeypatch):
    calls = []

    def counted(problem, train, *others):
        calls.append(len(train))
        return baselines(problem, train, *others)

    monkeypatch.setattr("flash.finetuning.finetune.baselines", counted)
    settings = {"num_train_epochs": 1, "max_steps": 1}
    first = finetune(small_study(start, tmp_path, **settings, baselines=True), command="")
    again = finetune(small_study(start, tmp_path, **settings, baselines=True, seeds=2), command="")
    assert calls == [24]
    assert again.metrics["baselines"] == first.metrics["baselines"] != {}
    write_rows(tmp_path / "data/train.json", rows_of("classification", 30, seed=9))
    finetune(small_study(start, tmp_path, **settings, baselines=True, overwrite_output_dir=True), command="")
    assert calls == [24, 30]
    monkeypatch.setitem(METRICS_OF_KIND, "classification", ("accuracy",))  # a version with other scores
    finetune(small_study(start, tmp_path, **settings, baselines=True), command="")
    assert calls == [24, 30, 30]


def test_more_seeds_are_added_to_a_study(start, tmp_path):
    finetune(small_study(start, tmp_path), command="")
    study = finetune(small_study(start, tmp_path, seeds=2), command="")
    assert len(study.metrics["dev"]["accuracy"]["values"]) == 2
    assert study.metrics["dev"]["accuracy"]["std"] is not None


def test_of_several_seeds_the_best_model_is_kept(tmp_path):
    runs = [Run(rate, seed, tmp_path) for rate in (0.1, 0.2) for seed in (1, 2, 3)]
    scores = (0.9, 0.9, 0.9, float("nan"), 0.3, 0.2)
    records = {run.name: {"dev": {"accuracy": score}} for run, score in zip(runs, scores, strict=True)}
    assert _best_run(runs, records, 0.2, "accuracy") == runs[4]


def test_another_study_is_not_mixed_in(start, tmp_path):
    finetune(small_study(start, tmp_path), command="")
    with pytest.raises(InputError, match="--num_train_epochs 2"):
        finetune(small_study(start, tmp_path, num_train_epochs=3), command="")
    study = finetune(small_study(start, tmp_path, num_train_epochs=3, overwrite_output_dir=True), command="")
    assert study.metrics["dev"]


def test_a_study_is_gone_on_with_by_another_backend(start, tmp_path):
    before = finetune(small_study(start, tmp_path, attention_backend="blocked"), command="")
    after = finetune(small_study(start, tmp_path, attention_backend="reference"), command="")
    assert after.metrics["dev"]["accuracy"] == before.metrics["dev"]["accuracy"]


def test_the_folder_keeps_the_pooling_that_was_asked_for(start, tmp_path):
    study = finetune(small_study(start, tmp_path, classifier_pooling="mean"), command="")
    assert json.loads((study.folder / "config.json").read_text(encoding="utf-8"))["classifier_pooling"] == "mean"
    scores = Finetuned(study.folder).evaluate(tmp_path / "data/dev.json")
    assert scores["accuracy"] == pytest.approx(study.metrics["dev"]["accuracy"]["mean"], abs=1e-6)


def test_a_pooling_that_the_model_does_not_have_is_refused_before_anything_is_done(tmp_path):
    model = peer(tmp_path / "model", "bert")
    with pytest.raises(InputError, match="pools in one way only"):
        finetune(small_study(model, tmp_path, classifier_pooling="mean", baselines=True), command="")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_else_is_left_alone(start, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="exists and holds no study"):
        finetune(small_study(start, tmp_path), command="")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_patience_stops_early(start, tmp_path):
    study = finetune(small_study(start, tmp_path, patience=1, learning_rate=1e-9, num_train_epochs=8), command="")
    run = json.loads(next(study.folder.glob("runs/*/metrics.json")).read_text(encoding="utf-8"))
    assert run["steps"] < 8 * 3


def test_scoring_in_half_precision_leaves_the_weights_as_they_are(start, tmp_path):
    args = small_study(start, tmp_path, bf16_full_eval=True)
    write_rows(tmp_path / "data/test.json", rows_of("classification", 10, seed=5))
    study = finetune(args, command="")
    with safe_open(study.folder / "model.safetensors", "pt") as weights:
        assert {weights.get_tensor(name).dtype for name in weights.keys()} == {torch.float32}  # noqa: SIM118
    assert json.loads((study.folder / "config.json").read_text(encoding="utf-8"))["dtype"] == "float32"


def test_a_labelled_test_file_is_scored_with_the_model_that_is_kept(start, tmp_path):
    args = small_study(start, tmp_path)
    rows = rows_of("classification", 10, seed=5)
    rows[2]["sentence"] = " "  # is predicted, not scored
    path = write_rows(tmp_path / "data/test.json", rows)
    study = finetune(args, command="")
    scores = Finetuned(study.folder).evaluate(path)
    assert scores["rows"] == 9
    assert study.metrics["test"]["accuracy"]["mean"] == scores["accuracy"]


def test_answers_that_the_model_cannot_know_are_taken_for_none(start, tmp_path):
    args = small_study(start, tmp_path)
    rows = rows_of("classification", 6, seed=5)
    rows[2]["label"] = "-1"
    write_rows(tmp_path / "data/test.json", rows)
    study = finetune(args, command="")
    assert "test" not in study.metrics
    assert len((study.folder / "tnews11_predict.json").read_text(encoding="utf-8").splitlines()) == 6


def test_one_label_in_all_test_rows_is_a_placeholder_and_no_result(start, tmp_path, caplog):
    args = small_study(start, tmp_path)
    rows = [row | {"label": "101"} for row in rows_of("classification", 6, seed=5)]
    path = write_rows(tmp_path / "data/test.json", rows)
    study = finetune(args, command="")
    assert "label is '101' in all 6 rows, as in CLUE's test files" in caplog.text
    assert "test" not in study.metrics
    assert len((study.folder / "tnews11_predict.json").read_text(encoding="utf-8").splitlines()) == 6
    caplog.clear()
    assert Finetuned(study.folder).evaluate(path)["rows"] == 6
    assert "is it a placeholder?" in caplog.text


def test_a_submission_that_lacks_rows_is_not_written(start, tmp_path, caplog):
    args = small_study(start, tmp_path)
    path = write_rows(tmp_path / "data/test.json", rows_of("classification", 6, seed=5))
    path.write_text(path.read_text(encoding="utf-8") + "{broken\n", encoding="utf-8")
    study = finetune(args, command="")
    assert "no submission is written" in caplog.text
    assert not (study.folder / "tnews11_predict.json").exists()
    with pytest.raises(InputError, match="1 rows cannot be read, and a submission must answer every one"):
        Finetuned(study.folder).predict_file(path, tmp_path, submission=True)
    assert len((study.folder / "test_predictions.jsonl").read_text(encoding="utf-8").splitlines()) == 6


@pytest.mark.parametrize("settings", [{"logging_steps": 2}, {"eval_steps": 2}, {"eval_steps": 2, "logging_steps": 3}])
def test_with_validations_in_steps_the_best_of_them_is_kept(settings, start, tmp_path):
    study = finetune(small_study(start, tmp_path, eval_strategy="steps", num_train_epochs=4, **settings), command="")
    scores = Finetuned(study.folder).evaluate(tmp_path / "data/dev.json")
    assert scores["accuracy"] == pytest.approx(study.metrics["dev"]["accuracy"]["mean"])
    run = json.loads(next(study.folder.glob("runs/*/metrics.json")).read_text(encoding="utf-8"))
    curve = [entry["eval_accuracy"] for entry in run["curve"] if "eval_accuracy" in entry]
    assert len(curve) == run["steps"] // 2
    assert max(curve) == study.metrics["dev"]["accuracy"]["mean"]


def test_a_folder_into_which_another_process_trains_is_left_alone(start, tmp_path):
    with only_process_in(tmp_path / "out"), pytest.raises(InputError, match="another process trains into"):
        finetune(small_study(start, tmp_path), command="")
    assert not (tmp_path / "out").exists()


def test_a_run_without_a_score_that_is_a_number_loses_to_the_others(start, tmp_path, monkeypatch, caplog):
    def scores(problem, predictions, examples):
        best = len(calls) > 1
        calls.append(best)
        return {"accuracy": 0.5 if best else float("nan"), "macro_f1": 0.5}

    calls = []
    monkeypatch.setattr("flash.finetuning.problems.text.ClassificationProblem.scores", scores)
    study = finetune(small_study(start, tmp_path, learning_rates=[0.5, 1e-3], num_train_epochs=2), command="")
    assert study.metrics["learning_rate"] == 1e-3
    assert "lr 0.5, seed 2022: no score is a number" in caplog.text


@pytest.mark.parametrize("name", ["settings.json", "baselines.json", "runs/lr-0.01-seed-2022/metrics.json"])
def test_a_damaged_file_of_a_study_is_named_with_the_way_out(name, start, tmp_path):
    study = finetune(small_study(start, tmp_path, max_steps=1, baselines=True), command="")
    (study.folder / name).write_text('{"a', encoding="utf-8")
    with pytest.raises(InputError, match=f"{name} is damaged .*; (delete it|name another --output_dir)"):
        finetune(small_study(start, tmp_path, max_steps=1, baselines=True), command="")


def test_a_file_of_a_study_is_written_in_whole_or_not_at_all(tmp_path, monkeypatch):
    write_json(tmp_path / "a.json", {"number": 1})

    def killed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        write_json(tmp_path / "a.json", {"number": 2})
    assert read_json(tmp_path / "a.json", "") == {"number": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_task_whose_description_has_changed_is_not_gone_on_with(start, tmp_path):
    task = tmp_path / "tnews.yaml"  # of the name of a task that comes along
    task.write_text("form: text\ntexts: sentence\n", encoding="utf-8")
    finetune(small_study(start, tmp_path, task=str(task), max_steps=1), command="")
    task.write_text("form: text\ntexts: sentence\nmax_length: 12\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"holds a study of other contents of .*tnews.yaml"):
        finetune(small_study(start, tmp_path, task=str(task), max_steps=1), command="")


def test_answers_beside_the_texts_are_contents_of_a_study(start, tmp_path):
    settings = {"task": "chid", "max_steps": 1}

    def write(name, answer):
        rows = [{"content": [f"他#idiom{number}#。"], "candidates": ["天气", "公园"]} for number in range(8)]
        write_rows(tmp_path / f"data/{name}.json", rows)
        answers = {f"#idiom{number}#": answer for number in range(8)}
        (tmp_path / f"data/{name}_answer.json").write_text(json.dumps(answers), encoding="utf-8")

    write("train", 0)
    write("dev", 0)
    finetune(small_study(start, tmp_path, **settings), command="")
    write("train", 1)
    with pytest.raises(InputError, match=r"holds a study of other contents of .*train.json"):
        finetune(small_study(start, tmp_path, **settings), command="")


@pytest.mark.parametrize("changed", ["train.json", "model", "vocabulary"])
def test_a_study_of_other_contents_is_not_gone_on_with(changed, tmp_path):
    model = checkpoint(tmp_path / "model")
    finetune(small_study(model, tmp_path), command="")
    if changed == "model":
        checkpoint(tmp_path / "model", seed=1)
    elif changed == "vocabulary":
        (tmp_path / "model/vocab.txt").write_text("[PAD]\n", encoding="utf-8")
    else:
        write_rows(tmp_path / "data/train.json", rows_of("classification", 30, seed=9))
    contents = "model" if changed == "vocabulary" else changed
    with pytest.raises(InputError, match=f"holds a study of other contents of .*{contents}"):
        finetune(small_study(model, tmp_path), command="")


def test_overwriting_leaves_nothing_of_the_study_before(start, tmp_path):
    first = finetune(small_study(start, tmp_path), command="")
    assert (first.folder / "tnews11_predict.json").exists()
    task_folder(tmp_path / "pairs", "pair", train=24, dev=12)
    args = toy_finetuning("pair", tmp_path / "pairs", start, first.folder, overwrite_output_dir=True, baselines=False)
    names = {path.name for path in finetune(args, command="").folder.iterdir()}
    assert "afqmc_predict.json" in names
    assert "tnews11_predict.json" not in names
