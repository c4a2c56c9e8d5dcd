"""What a study refuses before anything is done, and what it leaves alone."""

import logging

import pytest
import torch

from flash.errors import InputError
from flash.finetuning.arguments import FinetuningArguments
from flash.finetuning.finetune import finetune

from toy_tasks import checkpoint, small_study, toy_finetuning


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("start"))


def test_a_report_to_what_is_not_installed_is_refused_before_anything_is_done(start, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.integrations.integration_utils.is_wandb_available", lambda: False)
    with pytest.raises(InputError, match=r"--report_to wandb: .* requires wandb .*; or pass --report_to tensorboard"):
        finetune(small_study(start, tmp_path, report_to="wandb"), command="")
    assert not (tmp_path / "out").exists()


class OnFourGPUs(FinetuningArguments):
    @property
    def _setup_devices(self):
        self._n_gpu = 4
        return torch.device("cpu")


def test_of_several_gpus_one_is_used_and_that_is_said(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="flash"):
        args = OnFourGPUs(task="tnews", model="tiny-zh", output_dir=str(tmp_path))
    assert (args.n_gpu, args.train_batch_size) == (1, 32)
    assert "one of 4 GPUs is used; CUDA_VISIBLE_DEVICES says which" in caplog.text


def test_a_study_does_not_replace_the_model_that_it_starts_from(start, tmp_path):
    before = (start / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match="the model that is trained there would take the place of --model"):
        toy_finetuning("classification", tmp_path, start, start, overwrite_output_dir=True)
    assert (start / "model.safetensors").read_bytes() == before


def test_several_processes_are_refused_before_anything_is_done(start, tmp_path, monkeypatch):
    args = small_study(start, tmp_path)
    monkeypatch.setattr(type(args), "world_size", 2)
    with pytest.raises(InputError, match="2 processes were started, and a study trains in one; start it without torch"):
        finetune(args, command="")
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_the_folder_is_named(start, tmp_path):
    (tmp_path / "out").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=r"--output_dir .*out is a file; name a folder"):
        small_study(start, tmp_path)


def test_training_and_validation_on_one_file_is_refused(start, tmp_path):
    args = small_study(start, tmp_path, dev_file=str(tmp_path / "data/train.json"))
    with pytest.raises(InputError, match="named for training and for validation"):
        finetune(args, command="")
