"""A study that is stopped ends, when it is started again, as if it had not been."""

import json
import logging
import shutil

import pytest

from flash.finetuning.finetune import finetune

from toy_tasks import checkpoint, scores_of, small_study


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("start"))


class StopError(Exception):
    pass


def stop_at_step_5(self, args, state, control, **kwargs):
    if state.global_step == 5:
        raise StopError


@pytest.mark.parametrize("strategy", ["random", "group_by_length"])
def test_a_run_that_is_stopped_within_an_epoch_ends_as_if_it_were_not(strategy, start, tmp_path, monkeypatch, caplog):
    settings = {"eval_strategy": "steps", "eval_steps": 2, "num_train_epochs": 4, "patience": 9}
    settings |= {"train_sampling_strategy": strategy, "layer_decay": 0.9}
    whole = finetune(small_study(start, tmp_path, **settings), command="")
    shutil.move(whole.folder, tmp_path / "whole")

    with monkeypatch.context() as patch:
        patch.setattr("flash.finetuning.run._Progress.on_step_end", stop_at_step_5)
        with pytest.raises(StopError):
            finetune(small_study(start, tmp_path, **settings), command="")
    assert list((tmp_path / "out").glob("runs/*/checkpoint-4"))
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    resumed = finetune(small_study(start, tmp_path, **settings), command="")
    assert "do not match" not in caplog.text  # of transformers, about steps that are a share of all
    assert scores_of(resumed) == scores_of(whole)
    weights = [folder / "model.safetensors" for folder in (tmp_path / "whole", resumed.folder)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_the_time_of_a_resumed_run_is_that_of_all_its_sessions(start, tmp_path, monkeypatch):
    settings = {"eval_strategy": "steps", "eval_steps": 2, "num_train_epochs": 4}
    with monkeypatch.context() as patch:
        patch.setattr("flash.finetuning.run._Progress.on_step_end", stop_at_step_5)
        with pytest.raises(StopError):
            finetune(small_study(start, tmp_path, **settings), command="")
    (state,) = (tmp_path / "out").glob("runs/*/checkpoint-4/trainer_state.json")
    values = json.loads(state.read_text(encoding="utf-8"))
    assert 0 < values["stateful_callbacks"]["_Clock"]["args"]["before"] < 600
    values["stateful_callbacks"]["_Clock"]["args"]["before"] = 1e6
    state.write_text(json.dumps(values), encoding="utf-8")
    resumed = finetune(small_study(start, tmp_path, **settings), command="")
    assert 1e6 < resumed.metrics["seconds"]["mean"] < 1e6 + 600


def test_a_run_that_was_stopped_early_and_then_killed_is_at_its_end(start, tmp_path, monkeypatch):
    settings = {"patience": 2, "learning_rate": 3e-2, "num_train_epochs": 8, "save_total_limit": 5}
    whole = finetune(small_study(start, tmp_path, **settings), command="")
    run = json.loads(next(whole.folder.glob("runs/*/metrics.json")).read_text(encoding="utf-8"))
    assert run["best_step"] < run["steps"] < 8 * 3
    shutil.move(whole.folder, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr("flash.finetuning.run.math.isnan", lambda score: 1 / 0)  # behind the training
        with pytest.raises(ZeroDivisionError):
            finetune(small_study(start, tmp_path, **settings), command="")
    resumed = finetune(small_study(start, tmp_path, **settings), command="")
    assert scores_of(resumed) == scores_of(whole)
    again = json.loads(next(resumed.folder.glob("runs/*/metrics.json")).read_text(encoding="utf-8"))
    assert (again["steps"], again["best_step"]) == (run["steps"], run["best_step"])
    assert 0 < again["seconds"] < 600
    weights = [folder / "model.safetensors" for folder in (tmp_path / "whole", resumed.folder)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_more_checkpoints_of_a_run_under_way_are_kept_if_asked_for(start, tmp_path, monkeypatch):
    settings = {"eval_strategy": "steps", "eval_steps": 1, "num_train_epochs": 4, "save_total_limit": 3}
    monkeypatch.setattr("flash.finetuning.run._Progress.on_step_end", stop_at_step_5)
    with pytest.raises(StopError):
        finetune(small_study(start, tmp_path, **settings), command="")
    assert {f"checkpoint-{step}" for step in (2, 3, 4)} <= {path.name for path in tmp_path.glob("out/runs/*/*")}
