import logging

import pytest
import torch

from flash.errors import InputError
from flash.training.arguments import PretrainingArguments, parse_config_settings


@pytest.fixture
def arguments(tmp_path):
    def make(**settings):
        return PretrainingArguments(**({"output_dir": str(tmp_path / "out")} | settings))

    return make


def test_a_bare_command_trains(arguments):
    assert arguments().do_train


def test_scoring_alone_does_not_train(arguments):
    assert not arguments(do_eval=True, init_model="model").do_train


@pytest.mark.parametrize("settings", [{}, {"init_model": "model", "validation_split": 0.0}])
def test_scoring_alone_needs_a_model_and_rows(arguments, settings):
    with pytest.raises(InputError, match=r"--do_eval without --do_train .* --init_model.* --validation_dir"):
        arguments(do_eval=True, **settings)


def test_validation_comes_with_the_checkpoints_unless_told_otherwise(arguments):
    default = arguments(save_steps=30)
    assert (default.eval_strategy, default.eval_steps) == ("steps", 30)
    assert arguments(save_steps=30, eval_steps=10).eval_steps == 10
    assert arguments(eval_strategy="epoch").eval_strategy == "epoch"
    assert arguments(validation_split=0.0).eval_strategy == "no"
    assert arguments(validation_split=0.0, validation_dir="held_out").eval_strategy == "steps"


def test_the_earlier_name_of_the_evaluation_strategy_is_mapped(arguments):
    assert arguments(evaluation_strategy="epoch").eval_strategy == "epoch"


def test_logs_go_to_the_output_folder_unless_told_otherwise(arguments, tmp_path):
    assert arguments().logging_dir == f"{tmp_path}/out/logs"
    assert arguments(output_dir=f"{tmp_path}/out/").logging_dir == f"{tmp_path}/out/logs"
    assert arguments(logging_dir="elsewhere").logging_dir == "elsewhere"


def test_columns_are_never_dropped(arguments):
    assert not arguments(remove_unused_columns=True).remove_unused_columns


@pytest.mark.skipif(torch.accelerator.is_available(), reason="tells what happens without an accelerator")
def test_bf16_needs_no_accelerator(arguments):
    assert arguments(bf16=True).bf16


def test_fp16_on_a_cpu_is_float32_and_that_is_said(arguments, caplog):
    with caplog.at_level(logging.WARNING, logger="flash"):
        args = arguments(fp16=True, use_cpu=True)
    assert not args.fp16
    assert "--fp16 has no effect on a CPU: the run is in float32; a CPU can do --bf16" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_name": "bert"}, r"--model_name bert: there is flashquad .* and flash "),
        ({"max_seq_length": 2}, r"--max_seq_length must be at least 3, got 2"),
        ({"mlm_probability": 0.0}, r"--mlm_probability must lie between 0 and 1, got 0\.0"),
        ({"mask_ngrams": 0}, "--mask_ngrams must be at least 1, got 0"),
        ({"mlm_probability": 1.0}, r"--mlm_probability must lie between 0 and 1, got 1\.0"),
        ({"validation_split": 0.6}, r"--validation_split must lie between 0 and 0\.5, got 0\.6"),
        ({"validation_split": -0.1}, r"--validation_split must lie between 0 and 0\.5, got -0\.1"),
        ({"save_only_model": True}, r"--save_only_model: .* cannot be gone on with; leave it out"),
        ({"label_smoothing_factor": 0.1}, r"--label_smoothing_factor 0\.1: .* leave it out"),
        ({"seed": -1}, r"--seed must lie between 0 and 4,294,967,295, got -1"),
        ({"seed": 2**32}, r"--seed must lie between 0 and 4,294,967,295, got 4294967296"),
        ({"per_device_train_batch_size": 0}, r"--per_device_train_batch_size must be at least 1, got 0"),
        ({"learning_rate": -1e-4}, r"--learning_rate must be at least 0, got -0\.0001"),
        ({"validation_split": 0, "eval_strategy": "steps"}, r"--eval_strategy steps needs rows .* --validation_dir"),
        ({"validation_split": 0, "do_train": True, "do_eval": True}, "--do_eval needs rows that are held out"),
        ({"validation_split": 0, "eval_on_start": True}, "--eval_on_start needs rows that are held out"),
    ],
)
def test_values_no_run_can_have_are_refused(arguments, settings, message):
    with pytest.raises(InputError, match=message):
        arguments(**settings)


class OnFourGPUs(PretrainingArguments):
    @property
    def _setup_devices(self):
        self._n_gpu = 4
        return torch.device("cpu")


def test_without_torchrun_one_gpu_is_used_and_that_is_said(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="flash"):
        assert OnFourGPUs(output_dir=str(tmp_path)).n_gpu == 1
    assert "only one of 4 GPUs is used; torchrun --nproc_per_node 4 run_mlm_wwm.py" in caplog.text


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ({"max_steps": 1000, "warmup_steps": 5000}, True),
        ({"max_steps": 1000, "warmup_steps": 999}, False),
        ({"max_steps": 1, "warmup_steps": 0.5}, False),
        ({"warmup_steps": 5000}, False),
        ({"max_steps": 1000, "warmup_steps": 5000, "lr_scheduler_type": "constant"}, False),
        ({"max_steps": 1000, "warmup_steps": 5000, "lr_scheduler_type": "reduce_lr_on_plateau"}, False),
    ],
)
def test_a_warm_up_longer_than_the_run_is_warned_of(arguments, caplog, settings, warned):
    with caplog.at_level(logging.WARNING, logger="flash"):
        arguments(**settings)
    assert ("--warmup_steps 5000: a run of 1000 steps never reaches --learning_rate" in caplog.text) == warned


# ---- the tokenizer


def test_the_tokenizer_is_the_one_named_then_the_models_then_the_datasets(arguments, tmp_path):
    (tmp_path / "data" / "tokenizer").mkdir(parents=True)
    settings = {"train_dir": str(tmp_path / "data")}
    assert arguments(**settings).default_tokenizer() == str(tmp_path / "data" / "tokenizer")
    assert arguments(**settings, init_model="model").default_tokenizer() == "model"
    assert arguments(**settings, init_model="model", tokenizer_name="vocab.txt").default_tokenizer() == "vocab.txt"


def test_a_dataset_that_is_not_there_is_named(arguments, tmp_path):
    with pytest.raises(InputError, match=rf"--train_dir {tmp_path}/nowhere: no such folder; make one with"):
        arguments(train_dir=str(tmp_path / "nowhere")).default_tokenizer()


def test_a_dataset_without_tokenizer_needs_one_named(arguments, tmp_path):
    with pytest.raises(InputError, match=rf"--tokenizer_name is needed: {tmp_path} has no folder `tokenizer`"):
        arguments(train_dir=str(tmp_path)).default_tokenizer()


# ---- settings of a new model


def test_settings_are_read_as_yaml():
    text = "hidden_size=256, dropout=0.1,attention_norm=true,initialization=fan_in,"
    assert parse_config_settings(text) == {
        "hidden_size": 256,
        "dropout": 0.1,
        "attention_norm": True,
        "initialization": "fan_in",
    }


def test_a_setting_without_a_value_is_refused():
    with pytest.raises(InputError, match=r"--config: 'hidden_size' is not key=value; write e\.g\."):
        parse_config_settings("hidden_size")


def test_a_setting_whose_value_is_no_yaml_is_refused():
    with pytest.raises(InputError, match=r"--config: the value of 'hidden_size=\[1' is not valid YAML; write e\.g\."):
        parse_config_settings("hidden_size=[1")


def test_settings_come_from_flags_or_from_a_recipe(arguments):
    assert arguments(config="hidden_size=64").config_settings() == {"hidden_size": 64}
    assert arguments(config={"hidden_size": 64}).config_settings() == {"hidden_size": 64}
    assert arguments().config_settings() is None
