"""A run that was stopped and started again is the run that was never stopped: float32 on a CPU, bit for bit."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from flash.corpus.tokenizer_loading import load_tokenizer
from flash.data import stream_order
from flash.errors import InputError
from flash.training import trainer
from flash.training.folder_lock import only_process_in
from flash.training.pretrain import pretrain

from token_folders import rows_of_text, write_token_folder
from toy_pretraining import (
    MAX_LENGTH,
    REPOSITORY,
    TOY_CONFIG,
    curve,
    log_history,
    run_python,
    single_threaded_environment,
    toy_arguments,
    toy_flags,
)

# 20 rows for training, 4 a batch, 2 batches a step (the last of an epoch has 1): 3 steps an epoch. The checkpoints are
# in mid-epoch and on its border, at logs and between them. Dropout, because its random numbers must go on too.
SETTINGS = {
    "config": TOY_CONFIG | {"dropout": 0.1},
    "validation_split": 0.3,
    "gradient_accumulation_steps": 2,
    "max_steps": 8,
    "logging_steps": 2,
    "save_steps": 1,
    "eval_steps": 4,
}
STEPS_OF_AN_EPOCH = 3
BORDER, NEXT_EPOCH = STEPS_OF_AN_EPOCH, STEPS_OF_AN_EPOCH + 1

# more workers than cores are meant
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


@pytest.fixture(scope="module")
def run(toy_dataset):
    def run(output_dir: Path, **changes) -> Path:
        settings = {"train_dir": toy_dataset} | SETTINGS | changes
        pretrain(toy_arguments(output_dir=output_dir, **settings), command="flashquad pretrain")
        return output_dir

    return run


@pytest.fixture(scope="module")
def token_folder(toy_dataset, toy_vocabulary, tmp_path_factory):
    """The same rows as token shards."""
    tokenizer = load_tokenizer(toy_vocabulary)
    rows = rows_of_text(toy_dataset, tokenizer, max_length=MAX_LENGTH)
    return write_token_folder(tmp_path_factory.mktemp("tokens") / "data", rows, tokenizer, max_length=MAX_LENGTH)


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    """The run that was never stopped; not to be changed."""
    return run(tmp_path_factory.mktemp("whole") / "out")


def stopped_after(step: int, uninterrupted: Path, output_dir: Path) -> Path:
    """Leave what a run killed right after a checkpoint leaves."""
    shutil.copytree(uninterrupted / f"checkpoint-{step}", output_dir / f"checkpoint-{step}")
    return output_dir


def weights(run_dir: Path) -> bytes:
    return (run_dir / "model.safetensors").read_bytes()


def logged_steps(run_dir: Path, tag: str) -> list[int]:
    accumulator = EventAccumulator(str(run_dir / "logs"))
    accumulator.Reload()
    return [event.step for event in accumulator.Scalars(tag)]


def test_the_epochs_are_as_long_as_meant(whole):
    state = json.loads((whole / f"checkpoint-{STEPS_OF_AN_EPOCH}" / "trainer_state.json").read_text())
    assert state["epoch"] == 1.0


@pytest.mark.parametrize("step", [1, 2, BORDER, NEXT_EPOCH, 2 * BORDER, 2 * BORDER + 1])
def test_a_resumed_run_ends_with_the_same_weights_and_curve(run, whole, tmp_path, step):
    resumed = run(stopped_after(step, whole, tmp_path))
    assert curve(resumed) == curve(whole)
    assert weights(resumed) == weights(whole)


@pytest.mark.parametrize("step", [0, 2, BORDER, NEXT_EPOCH])
def test_so_does_one_with_two_loader_workers(run, whole, tmp_path, step):
    output_dir = tmp_path if step == 0 else stopped_after(step, whole, tmp_path)
    resumed = run(output_dir, dataloader_num_workers=2)
    assert curve(resumed) == curve(whole)
    assert weights(resumed) == weights(whole)


@pytest.mark.parametrize("step", [0, 2, BORDER, NEXT_EPOCH])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_folder_of_tokens_is_gone_on_with_as_one_of_text(run, whole, tmp_path, token_folder, step, workers):
    output_dir = tmp_path if step == 0 else stopped_after(step, whole, tmp_path)
    resumed = run(output_dir, train_dir=token_folder, dataloader_num_workers=workers)
    assert curve(resumed) == curve(whole)
    assert weights(resumed) == weights(whole)


@pytest.fixture
def in_memory(token_folder, monkeypatch):
    """The address of the token shards in fsspec's memory, which loader workers inherit; in blocks of three rows."""
    monkeypatch.setattr(stream_order.StreamOrder.__init__, "__kwdefaults__", {"rows_of_block": 3})
    filesystem = fsspec.filesystem("memory")
    filesystem.put(str(token_folder), "/bucket/data", recursive=True)
    yield "memory://bucket/data"
    filesystem.rm("/bucket", recursive=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_streamed_run_goes_on_in_mid_epoch_as_if_never_stopped(run, in_memory, tmp_path, workers):
    settings = {"train_dir": in_memory, "stream_buffer_rows": 6, "dataloader_num_workers": workers}
    uninterrupted = run(tmp_path / "whole", **settings)
    for step, workers_now in ((2, workers), (NEXT_EPOCH, 2 - workers)):  # with as many workers, and with another number
        resumed = run(
            stopped_after(step, uninterrupted, tmp_path / str(step)),
            **settings | {"dataloader_num_workers": workers_now},
        )
        assert curve(resumed) == curve(uninterrupted)
        assert weights(resumed) == weights(uninterrupted)


@pytest.mark.parametrize("step", [0, 2])
def test_masking_on_the_device_trains_the_same_model(run, whole, tmp_path, step):
    output_dir = tmp_path if step == 0 else stopped_after(step, whole, tmp_path)
    resumed = run(output_dir, mask_on_device=True)
    assert curve(resumed) == curve(whole)
    assert weights(resumed) == weights(whole)


def test_hiding_spans_of_words_trains_another(run, whole, tmp_path):
    assert weights(run(tmp_path, mask_ngrams=3)) != weights(whole)


def test_the_tokens_seen_are_those_of_the_whole_run(run, whole, tmp_path):
    resumed = run(stopped_after(5, whole, tmp_path))
    (expected,) = (line for line in (whole / "README.md").read_text().splitlines() if " tokens. " in line)
    assert expected.startswith("8 steps, ")
    assert expected in (resumed / "README.md").read_text()


def test_tokens_a_second_are_those_since_the_run_went_on(run, whole, tmp_path, monkeypatch):
    batch_sums, seconds = trainer._batch_sums, 1.0

    def one_second_a_token(inputs, *args, **kwargs):
        nonlocal seconds
        seconds += inputs["attention_mask"].sum().item()
        return batch_sums(inputs, *args, **kwargs)

    monkeypatch.setattr(trainer, "_batch_sums", one_second_a_token)
    monkeypatch.setattr(trainer, "time", SimpleNamespace(monotonic=lambda: seconds))
    resumed = run(stopped_after(3, whole, tmp_path))
    rates = {entry["step"]: entry["tokens_per_second"] for entry in log_history(resumed) if "loss" in entry}
    assert [rates[step] for step in (4, 6, 8)] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("max_steps", [8, 5])
def test_a_finished_run_started_again_trains_no_further(run, whole, tmp_path, capsys, max_steps):
    again = Path(shutil.copytree(whole, tmp_path / "out"))
    (again / "model.safetensors").unlink()  # as if it had been killed before it wrote the model
    run(again, max_steps=max_steps)
    assert "nothing to train: 8 steps are done" in capsys.readouterr().out
    assert curve(again) == curve(whole)
    assert weights(again) == weights(whole)
    assert logged_steps(again, "train/mlm_acc") == [2, 4, 6, 8]
    assert logged_steps(again, "eval/mlm_acc") == [4, 8]


def test_more_steps_go_on_from_a_finished_run(run, whole, tmp_path):
    longer = run(Path(shutil.copytree(whole, tmp_path / "out")), max_steps=10)
    assert [entry["step"] for entry in log_history(longer) if "loss" in entry] == [2, 4, 6, 8, 10]
    assert curve(longer)[: len(curve(whole))] == curve(whole)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "rng_state.pth", "trainer_state.json"])
def test_a_half_written_checkpoint_is_passed_over_and_said(run, whole, tmp_path, caplog, capsys, name):
    for step in (2, 3):
        stopped_after(step, whole, tmp_path)
    damaged = tmp_path / "checkpoint-3" / name
    os.truncate(damaged, damaged.stat().st_size // 2)
    with caplog.at_level(logging.WARNING, logger="flash"):
        run(tmp_path)
    assert f"{tmp_path}/checkpoint-3 is not whole ({name} is cut short): passed over" in caplog.text
    assert f"resume from {tmp_path}/checkpoint-2" in capsys.readouterr().out
    assert weights(tmp_path) == weights(whole)
    assert curve(tmp_path) == curve(whole)


def test_a_run_killed_in_its_first_checkpoint_starts_anew(run, whole, tmp_path, caplog):
    stopped_after(1, whole, tmp_path)
    (tmp_path / "checkpoint-1" / "trainer_state.json").unlink()
    shutil.copytree(whole / "logs", tmp_path / "logs")
    with caplog.at_level(logging.WARNING, logger="flash"):
        run(tmp_path)
    assert "checkpoint-1 is not whole" in caplog.text
    assert weights(tmp_path) == weights(whole)
    assert logged_steps(tmp_path, "train/loss") == [2, 4, 6, 8]


def test_a_half_written_checkpoint_that_the_run_does_not_reach_is_left(run, whole, tmp_path):
    stopped_after(8, whole, tmp_path)
    (tmp_path / "checkpoint-8" / "trainer_state.json").unlink()
    run(tmp_path, max_steps=1)
    assert (tmp_path / "checkpoint-8" / "optimizer.pt").exists()


def test_logs_beside_other_files_of_the_run_are_its_own(run, tmp_path):
    (tmp_path / "out" / "curves" / "tensorboard").mkdir(parents=True)
    run(tmp_path / "out", max_steps=1, logging_dir=str(tmp_path / "out" / "curves" / "tensorboard"))


def test_the_checkpoint_gone_on_from_may_be_deleted_on_the_way(run, whole, tmp_path):
    run(stopped_after(6, whole, tmp_path), save_total_limit=1)
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-8"]
    assert weights(tmp_path) == weights(whole)


def test_resuming_loads_the_tied_weights_without_alarm(run, whole, tmp_path, capfd):
    run(stopped_after(3, whole, tmp_path))
    assert "missing keys" not in capfd.readouterr().err


def test_a_named_checkpoint_is_gone_on_from(run, whole, tmp_path):
    best = shutil.copytree(whole / "checkpoint-2", tmp_path / "best")
    resumed = run(tmp_path / "out", resume_from_checkpoint=str(best))
    assert weights(resumed) == weights(whole)
    assert logged_steps(resumed, "train/loss") == [4, 6, 8]


def test_a_named_checkpoint_that_is_not_whole_is_refused(run, whole, tmp_path):
    with pytest.raises(InputError, match=rf"--resume_from_checkpoint {tmp_path}/nowhere: no such folder"):
        run(tmp_path / "out", resume_from_checkpoint=str(tmp_path / "nowhere"))
    broken = Path(shutil.copytree(whole / "checkpoint-2", tmp_path / "broken"))
    (broken / "optimizer.pt").unlink()
    with pytest.raises(InputError, match=r"broken: optimizer\.pt is missing; leave it out to take the last whole one"):
        run(tmp_path / "out", resume_from_checkpoint=str(broken))


def test_a_run_that_began_before_presets_named_a_pooling_goes_on(run, whole, tmp_path):
    checkpoint = stopped_after(3, whole, tmp_path) / "checkpoint-3"
    before = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    del before["classifier_pooling"]
    (checkpoint / "config.json").write_text(json.dumps(before), encoding="utf-8")
    config = SETTINGS["config"] | {"classifier_pooling": "mean"}
    out = run(checkpoint.parent, config=config, max_steps=4)
    after = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert after["classifier_pooling"] == "mean"


@pytest.mark.parametrize(
    ("setting", "value"), [("hidden_size", 64), ("num_hidden_layers", 3), ("norm_type", "layer_norm")]
)
def test_a_checkpoint_of_a_model_with_other_settings_is_refused(run, whole, tmp_path, capsys, setting, value):
    stopped_after(3, whole, tmp_path)
    message = rf"checkpoint-3 was trained with {setting}=.*, this run asks for {setting}={value}; "
    with pytest.raises(InputError, match=message):
        run(tmp_path, config=SETTINGS["config"] | {setting: value})
    assert "resume from" not in capsys.readouterr().out


def test_a_checkpoint_of_another_architecture_is_refused(run, whole, tmp_path):
    # FLASH has every setting of FLASH-Quad, and none of its weights would be found
    config = stopped_after(3, whole, tmp_path) / "checkpoint-3" / "config.json"
    settings = json.loads(config.read_text(encoding="utf-8")) | {"model_type": "flash", "chunk_size": MAX_LENGTH}
    config.write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(InputError, match="trained with model_type=flash, this run asks for model_type=flash_quad; "):
        run(tmp_path)


@pytest.mark.slow
def test_a_run_killed_in_mid_training_ends_as_if_it_had_not_been(toy_dataset, run, tmp_path):
    changes = SETTINGS | {"max_steps": 60, "logging_steps": 1, "save_steps": 7}
    settings = ",".join(f"{name}={value}" for name, value in SETTINGS["config"].items())
    flags = toy_flags(toy_dataset, tmp_path / "killed", **changes | {"config": settings})
    command = [REPOSITORY / "run_mlm_wwm.py", *flags]
    with (tmp_path / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=tmp_path,
            env=single_threaded_environment(),
            stdout=log,
            stderr=log,
        )
        # killed some steps behind its checkpoint, so that these are logged a second time
        while process.poll() is None and "step 10/" not in (tmp_path / "log.txt").read_text():
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, (tmp_path / "log.txt").read_text()
    assert (tmp_path / "killed" / "checkpoint-7").is_dir()
    assert not (tmp_path / "killed" / "model.safetensors").exists()

    again = run_python(*command, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "resume from " in again.stdout
    # the flags change settings of a preset
    config = {"preset": "small"} | SETTINGS["config"]
    uninterrupted = run(tmp_path / "uninterrupted", **changes | {"config": config})
    assert curve(tmp_path / "killed") == curve(uninterrupted)
    assert weights(tmp_path / "killed") == weights(uninterrupted)
    assert logged_steps(tmp_path / "killed", "train/loss") == list(range(1, 61))
    assert logged_steps(tmp_path / "killed", "train/mlm_acc") == list(range(1, 61))


def test_a_folder_into_which_another_process_trains_is_left_alone(run, tmp_path):
    with only_process_in(tmp_path / "out"), pytest.raises(InputError, match="another process trains into"):
        run(tmp_path / "out")
    assert not (tmp_path / "out").exists()
