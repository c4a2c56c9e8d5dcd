import pytest

from flash import FLASHQuadConfig
from flash.errors import InputError
from flash.training.recipes import load_recipe, parse_arguments, recipe_names

from toy_pretraining import EARLIER_README_FLAGS

EARLIER_README = [part for name, value in EARLIER_README_FLAGS.items() for part in (f"--{name}", value)]


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_of_the_package_describes_a_run_and_a_model(name):
    args = parse_arguments([], recipe=name)
    assert args.max_steps > args.warmup_steps > 0
    settings = args.config_settings()
    preset = settings.pop("preset", None)
    config = FLASHQuadConfig(**settings) if preset is None else FLASHQuadConfig.preset(preset, **settings)
    assert settings.get("max_position_embeddings", args.max_seq_length) == args.max_seq_length
    assert (config.initialization == "normal") == (name == "earlier")


def test_the_package_has_the_recipes_that_its_help_names():
    assert {"demo", "small", "earlier", "tiny-zh"} == set(recipe_names())


def test_the_flags_of_the_earlier_readme_mean_what_they_say():
    args = parse_arguments(EARLIER_README)
    assert (args.do_train, args.tokenizer_name) == (True, "junnyu/roformer_chinese_char_base")
    assert (args.train_dir, args.logging_dir) == ("./clue_small_wwm_data", "./wwm_flash_small//logs")
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == (32, 4)
    assert (args.learning_rate, args.weight_decay, args.adam_epsilon) == (1e-4, 0.01, 1e-6)
    assert (args.max_steps, args.warmup_steps, args.logging_steps, args.save_steps) == (250000, 5000, 100, 5000)
    assert (args.seed, args.max_grad_norm, args.dataloader_num_workers) == (2022, 3.0, 6)


def test_the_recipe_earlier_is_what_the_earlier_readme_types():
    typed, recipe = parse_arguments(EARLIER_README), parse_arguments([], recipe="earlier")
    elsewhere = {"tokenizer_name", "train_dir", "output_dir", "logging_dir", "dataloader_num_workers"}
    names = {*EARLIER_README_FLAGS, "max_seq_length", "mlm_probability"} - elsewhere
    assert {name: getattr(recipe, name) for name in names} == {name: getattr(typed, name) for name in names}


@pytest.mark.parametrize(
    ("flags", "settings"),
    [
        (["--max_seq_length", "128"], {"max_seq_length": 128}),
        (["--mlm_probability", "0.2"], {"mlm_probability": 0.2}),
        (["--pad_to_max_length"], {"pad_to_max_length": True}),
        (["--preprocessing_num_workers", "12"], {"preprocessing_num_workers": 12}),
        (["--overwrite_cache"], {"overwrite_cache": True}),
        (["--overwrite_output_dir"], {"overwrite_output_dir": True}),
        (["--model_name", "flashquad"], {"model_name": "flashquad"}),
        (["--evaluation_strategy", "epoch"], {"eval_strategy": "epoch"}),
    ],
)
def test_the_other_flags_of_the_earlier_command_are_taken(flags, settings):
    args = parse_arguments(flags)
    assert {name: getattr(args, name) for name in settings} == settings


def test_flags_go_over_the_recipe_and_single_settings_over_its_model(tmp_path):
    recipe = tmp_path / "run.yaml"
    recipe.write_text("max_steps: 50\nlearning_rate: 1e-3\nconfig:\n  hidden_size: 64\n  num_hidden_layers: 3\n")
    args = parse_arguments(["--max_steps", "9", "--config", "hidden_size=32"], recipe=str(recipe))
    assert (args.max_steps, args.learning_rate) == (9, 1e-3)
    assert args.config_settings() == {"hidden_size": 32, "num_hidden_layers": 3}


def test_single_settings_without_a_recipe_go_over_those_of_the_recipe_small():
    settings = parse_arguments(["--config", "num_hidden_layers=3"]).config_settings()
    assert settings == load_recipe("small")["config"] | {"num_hidden_layers": 3}


def test_a_model_to_go_on_from_brings_its_own_settings_not_the_recipes():
    assert parse_arguments(["--init_model", "model"], recipe="small").config_settings() is None
    flags = ["--init_model", "model", "--config", "attention_backend=blocked"]
    assert parse_arguments(flags, recipe="small").config_settings() == {"attention_backend": "blocked"}


@pytest.mark.parametrize("config", ["config: hidden_size=64", "config:"])
def test_a_recipe_may_write_its_settings_as_a_flag_does_or_not_at_all(tmp_path, config):
    recipe = tmp_path / "run.yaml"
    recipe.write_text(f"max_steps: 50\n{config}\n")
    args = parse_arguments(["--config", "num_hidden_layers=3"], recipe=str(recipe))
    expected = {"num_hidden_layers": 3} | ({"hidden_size": 64} if "=" in config else {})
    assert args.config_settings() == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_step: 5", r"unknown key 'max_step'; the keys are the long flags of `flashquad pretrain --help-all`"),
        ("- 5", r"expected lines `key: value`, got list"),
        ("", r"expected lines `key: value`, got NoneType"),
        ("a: [1", r"not valid YAML: "),
        ("max_steps: many", r"max.steps.*'many'"),
        ("config: hidden_size", r"'hidden_size' is not key=value"),
        ("config: [hidden_size, 64]", r"config must be lines `key: value` of its own, got \['hidden_size', 64\]"),
        ("learning_rate: [1]", "a setting has a value of another kind than it takes"),
    ],
)
def test_a_recipe_that_cannot_be_meant_is_refused_in_one_line(tmp_path, text, message):
    recipe = tmp_path / "run.yaml"
    recipe.write_text(text)
    with pytest.raises(InputError, match=message) as raised:
        parse_arguments([], recipe=str(recipe))
    assert "\n" not in str(raised.value)


def test_a_recipe_that_is_not_there_names_those_that_are():
    with pytest.raises(InputError, match=r"no recipe 'big': it is neither a file nor one of .*demo.*small"):
        load_recipe("big")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--max_stepz", "5"], "unknown flag '--max_stepz'"),
        (["--max_step", "5"], "unknown flag '--max_step'"),  # no guessing: a typo must not set something else
        (["--log", "5"], "unknown flag '--log'"),
        (["out"], "unknown flag 'out'"),
        (["--max_steps", "many"], "max_steps.*invalid int value: 'many'"),
        (["--max_steps"], "max_steps.*expected one argument"),
        (["--eval_strategy", "never"], "never"),
        (["--validation_split", "2"], "--validation_split must lie between 0 and 0.5, got 2.0"),
    ],
)
def test_a_wrong_flag_or_value_is_one_line(flags, message, capsys):
    with pytest.raises(InputError, match=message) as raised:
        parse_arguments(flags)
    assert "\n" not in str(raised.value)
    assert capsys.readouterr() == ("", "")


def test_help_lists_every_flag(capsys):
    with pytest.raises(SystemExit) as stopped:
        parse_arguments(["--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert all(flag in shown for flag in ("--train_dir", "--max_steps", "--logging_dir", "--config"))


def test_a_recipe_that_is_not_utf8_is_named(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_bytes(b"output_dir: \xff\n")
    with pytest.raises(InputError, match=rf"recipe {recipe}: not UTF-8 \(.* at byte 12\); save it as UTF-8"):
        load_recipe(str(recipe))
