import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from flash.errors import InputError
from flash.models.checkpoint_folders import checkpoints_newest_first
from flash.training import checkpoints as module
from flash.training.checkpoints import (
    check_same_everywhere,
    last_whole_checkpoint,
    saying_how_to_go_on,
    steps_done,
    why_unusable,
)

NEEDED = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")


@pytest.fixture
def checkpoints(toy_run, tmp_path):
    """A folder with the checkpoints 3 and 6 of a real run."""
    for step in (3, 6):
        shutil.copytree(toy_run / f"checkpoint-{step}", tmp_path / f"checkpoint-{step}")
    return tmp_path


def cut(path: Path, keep: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def test_the_newest_is_the_one_of_most_steps(tmp_path):
    for name in ("checkpoint-9", "checkpoint-10", "checkpoint-100", "checkpoint-x", "logs"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-1000").write_text("a file")
    assert [path.name for path in checkpoints_newest_first(tmp_path)] == [
        "checkpoint-100",
        "checkpoint-10",
        "checkpoint-9",
    ]


def test_processes_that_find_other_checkpoints_do_not_go_on(checkpoints, monkeypatch):
    for checkpoint in (None, checkpoints / "checkpoint-3"):
        check_same_everywhere(checkpoint, checkpoints)
    monkeypatch.setattr(module, "gather_object", lambda own: [*own, 0])  # a machine that has none on its disk
    with pytest.raises(InputError, match=r"different checkpoints in .*, after 0 and 3 steps: .* all machines share"):
        check_same_everywhere(checkpoints / "checkpoint-3", checkpoints)


def test_a_whole_checkpoint_is_used_and_nothing_said(checkpoints, caplog):
    assert why_unusable(checkpoints / "checkpoint-6") is None
    assert last_whole_checkpoint(checkpoints) == checkpoints / "checkpoint-6"
    assert steps_done(checkpoints / "checkpoint-6") == 6
    assert caplog.text == ""


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_file_cut_short_anywhere_makes_the_one_before_be_used(checkpoints, caplog, name, keep):
    cut(checkpoints / "checkpoint-6" / name, keep)
    with caplog.at_level(logging.WARNING, logger="flash"):
        assert last_whole_checkpoint(checkpoints) == checkpoints / "checkpoint-3"
    assert f"{checkpoints}/checkpoint-6 is not whole ({name} is cut short): passed over" in caplog.text


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_file_makes_the_one_before_be_used(checkpoints, caplog, name):
    (checkpoints / "checkpoint-6" / name).unlink()
    with caplog.at_level(logging.WARNING, logger="flash"):
        assert last_whole_checkpoint(checkpoints) == checkpoints / "checkpoint-3"
    assert "checkpoint-6 is not whole (" in caplog.text
    assert " missing): passed over" in caplog.text


def test_an_empty_folder_is_passed_over(checkpoints):
    (checkpoints / "checkpoint-9").mkdir()
    assert last_whole_checkpoint(checkpoints) == checkpoints / "checkpoint-6"


def test_without_a_whole_one_there_is_none(checkpoints, tmp_path):
    for step in (3, 6):
        (checkpoints / f"checkpoint-{step}" / "trainer_state.json").unlink()
    assert last_whole_checkpoint(checkpoints) is None
    assert last_whole_checkpoint(tmp_path / "nowhere") is None


def test_every_shard_of_the_weights_is_looked_at(checkpoints):
    folder = checkpoints / "checkpoint-6"
    index = folder / "model.safetensors.index.json"
    weights = folder / "model.safetensors"
    weights.rename(folder / "model-00001-of-00002.safetensors")
    files = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    index.write_text(json.dumps({"weight_map": files}))
    assert why_unusable(folder) == "model-00002-of-00002.safetensors is missing"
    shutil.copy(folder / files["a"], folder / files["b"])
    assert why_unusable(folder) is None
    cut(folder / files["b"], 0.5)
    assert why_unusable(folder) == "model-00002-of-00002.safetensors is cut short"
    cut(index, 0.5)
    assert why_unusable(folder) == "model.safetensors.index.json is cut short"


def test_the_random_state_of_every_rank_is_looked_at(checkpoints):
    folder = checkpoints / "checkpoint-6"
    (folder / "rng_state.pth").rename(folder / "rng_state_0.pth")
    shutil.copy(folder / "rng_state_0.pth", folder / "rng_state_1.pth")
    assert why_unusable(folder) is None
    cut(folder / "rng_state_1.pth", 0.5)
    assert why_unusable(folder) == "rng_state_1.pth is cut short"


@pytest.mark.parametrize("shards", ["pytorch_model_fsdp_0", "global_step6"])
def test_sharded_checkpoints_have_names_of_their_own(checkpoints, shards):
    folder = checkpoints / "checkpoint-6"
    for name in ("optimizer.pt", "scheduler.pt"):
        (folder / name).unlink()
    assert why_unusable(folder) == "optimizer.pt is missing"
    (folder / shards).mkdir()
    assert why_unusable(folder) is None


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), SafetensorError("I/O error: No space left on device")]
)
def test_a_full_disk_is_one_line_with_the_way_out(error):
    message = (
        r"out/checkpoint-6 could not be written \(.*No space left on device\); make room and give the same command"
    )
    with pytest.raises(OSError, match=message), saying_how_to_go_on(Path("out/checkpoint-6")):
        raise error


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_torchs_own_error_of_a_full_disk_is_one_line_too():
    message = r"^out could not be written .* make room"
    with pytest.raises(OSError, match=message) as raised, saying_how_to_go_on(Path("out")):
        torch.save(torch.zeros(100_000), "/dev/full")
    assert "\n" not in str(raised.value)


def test_other_errors_pass_through():
    with pytest.raises(RuntimeError, match=r"^out of memory$"), saying_how_to_go_on(Path("out")):
        raise RuntimeError("out of memory")
