import json
import logging
import resource
import shlex
import shutil

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from flash import FLASHQuadForMaskedLM
from flash.corpus.tokenizer_loading import load_tokenizer
from flash.errors import InputError
from flash.models.presets import RECOMMENDED
from flash.training.pretrain import PretrainingResult, result_summary
from flash.training.trainer import MaskedLMTrainer

from token_folders import rows_of_text, write_token_folder
from toy_pretraining import (
    COMMAND,
    MAX_LENGTH,
    SENTENCES,
    TOKENS,
    TOY_CONFIG,
    curve,
    earlier_folder,
    earlier_references,
    log_history,
    run_python,
)


def scalars(logging_dir, tag):
    accumulator = EventAccumulator(str(logging_dir))
    accumulator.Reload()
    return [(event.step, event.value) for event in accumulator.Scalars(tag)]


@pytest.fixture(scope="module")
def token_folder(toy_dataset, toy_vocabulary, tmp_path_factory):
    """The rows of ``toy_dataset`` as token shards; not to be changed."""
    tokenizer = load_tokenizer(toy_vocabulary)
    rows = rows_of_text(toy_dataset, tokenizer, max_length=MAX_LENGTH)
    return write_token_folder(tmp_path_factory.mktemp("tokens") / "data", rows, tokenizer, max_length=MAX_LENGTH)


# ---- folders of tokens


def test_a_folder_of_tokens_trains_what_the_folder_of_text_trains(train, token_folder, toy_run):
    result, output_dir = train(train_dir=token_folder)
    assert curve(output_dir) == curve(toy_run)
    assert (output_dir / "model.safetensors").read_bytes() == (toy_run / "model.safetensors").read_bytes()
    assert '"format": "tokens"' in (output_dir / "README.md").read_text(encoding="utf-8")
    assert result.metrics["eval_loss"] > 0


def test_two_kinds_of_folders_may_be_trained_and_validated_on(train, token_folder, toy_dataset):
    tokens, text = (
        train(name, train_dir=token_folder, validation_dir=str(folder), max_steps=2)[0].metrics["eval_loss"]
        for name, folder in (("tokens", token_folder), ("text", toy_dataset))
    )
    assert tokens == text


def test_rows_of_tokens_are_cut_to_the_length_of_the_model(train, token_folder):
    _, output_dir = train(train_dir=token_folder, max_seq_length=16, max_steps=2)
    assert "train_loss" in log_history(output_dir)[-1]


def test_a_changed_shard_is_found_before_training_where_that_is_asked_for(train, token_folder, tmp_path):
    folder = shutil.copytree(token_folder, tmp_path / "changed")
    shard = next(folder.glob("*.arrow"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(InputError, match=f"{shard.name} was changed since it was written: its SHA-256 is "):
        train(train_dir=folder, verify_data=True)
    assert not (tmp_path / "out").exists()


# ---- what a run leaves


def test_the_model_folder_works_in_a_fresh_process_with_the_classes_of_transformers(toy_run, tmp_path):
    code = """
import json, sys
import flash
from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline
model = AutoModelForMaskedLM.from_pretrained(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
candidates = pipeline("fill-mask", model=sys.argv[1])("今天的天[MASK]很好")
print(json.dumps([type(model).__name__, tokenizer.tokenize("hello world，今天"), candidates]))
"""
    ran = run_python("-c", code, toy_run, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    name, tokens, candidates = json.loads(ran.stdout)
    assert name == "FLASHQuadForMaskedLM"
    assert tokens == ["hello", "wor", "##ld", "，", "今", "天"]
    assert len(candidates) == 5
    assert all(0 < candidate["score"] < 1 for candidate in candidates)


def test_the_saved_model_is_the_trained_one(toy_run):
    last = FLASHQuadForMaskedLM.from_pretrained(toy_run / "checkpoint-10").state_dict()
    saved = FLASHQuadForMaskedLM.from_pretrained(toy_run).state_dict()
    assert saved.keys() == last.keys()
    assert all(saved[name].equal(last[name]) for name in saved)


def test_a_run_leaves_a_card_with_command_and_manifest_and_its_curves(toy_run, toy_dataset):
    card = (toy_run / "README.md").read_text(encoding="utf-8")
    assert COMMAND in card
    assert json.loads((toy_dataset / "manifest.json").read_text())["tokenizer"]["sha256"] in card
    assert "10 steps" in card
    assert (toy_run / "curves.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_a_run_logs_loss_and_accuracy_and_validates_with_every_checkpoint(toy_run):
    history = log_history(toy_run)
    assert [entry["step"] for entry in history if "mlm_acc" in entry] == [2, 4, 6, 8, 10]
    assert [entry["step"] for entry in history if "eval_mlm_acc" in entry] == [3, 6, 9, 10]
    assert sorted(path.name for path in toy_run.glob("checkpoint-*")) == [f"checkpoint-{n}" for n in (10, 3, 6, 9)]


@pytest.mark.parametrize(
    ("tag", "key"),
    [
        ("train/loss", "loss"),
        ("train/mlm_acc", "mlm_acc"),
        ("eval/loss", "eval_loss"),
        ("eval/mlm_acc", "eval_mlm_acc"),
        ("eval/perplexity", "eval_perplexity"),
    ],
)
def test_tensorboard_shows_what_was_logged(toy_run, tag, key):
    expected = [(entry["step"], pytest.approx(entry[key])) for entry in log_history(toy_run) if key in entry]
    assert scalars(toy_run / "logs", tag) == expected


def test_the_summary_names_every_place(train, tmp_path):
    result, output_dir = train(max_steps=2, logging_dir=str(tmp_path / "elsewhere"))
    summary = result_summary(result)
    for place in (output_dir, output_dir / "curves.png", tmp_path / "elsewhere"):
        assert str(place) in summary
        assert place.exists()
    (entry,) = (entry for entry in log_history(output_dir) if "eval_loss" in entry)
    assert f'"loss": {entry["eval_loss"]:.4f}'.rstrip("0") in summary
    assert len(scalars(tmp_path / "elsewhere", "train/loss")) == 1


def test_the_command_of_the_summary_can_be_pasted_where_a_path_has_spaces(tmp_path):
    logs = tmp_path / "my logs"
    logs.mkdir()
    summary = result_summary(PretrainingResult(tmp_path, tmp_path / "curves.png", logs, {}))
    assert shlex.split(summary) == ["TensorBoard", "tensorboard", "--logdir", str(logs)]


def test_without_reports_the_summary_names_none(train):
    result, output_dir = train(max_steps=1, report_to="none")
    assert "TensorBoard" not in result_summary(result)
    assert not (output_dir / "logs").exists()


def test_a_report_to_what_is_not_installed_is_refused(train, monkeypatch):
    monkeypatch.setattr("transformers.integrations.integration_utils.is_wandb_available", lambda: False)
    with pytest.raises(InputError, match=r"--report_to wandb: .* requires wandb .*; or pass --report_to tensorboard"):
        train(report_to="wandb")


def test_a_run_prints_its_figures_as_it_goes(train, capsys):
    train(max_steps=4)
    shown = capsys.readouterr().err
    assert "step 2/4  loss " in shown
    assert " tokens/s  0:00:0" in shown
    assert "(validation)" in shown


# ---- what it learns from


def test_a_model_learns_the_sentences(train):
    _, output_dir = train(max_steps=300, warmup_steps=10, learning_rate=2e-2, save_strategy="no", logging_steps=50)
    first, *_, last = (entry for entry in log_history(output_dir) if "loss" in entry)
    assert first["loss"] > 4
    assert last["loss"] < 2.5
    assert last["mlm_acc"] > 0.4


def test_a_folder_of_the_earlier_repository_is_trained_on_as_it_is(train, toy_vocabulary, tmp_path, caplog):
    tokenizer = load_tokenizer(toy_vocabulary)
    references: list[list[int] | None] = [earlier_references(text, tokenizer) for text in SENTENCES]
    references[2] = [99]
    folder = earlier_folder(tmp_path / "clue_small_wwm_data", list(SENTENCES), references)
    with caplog.at_level(logging.WARNING, logger="flash"):
        _, output_dir = train(train_dir=folder, tokenizer_name=str(toy_vocabulary), max_steps=3)
    assert "left out 1 of 9 rows" in caplog.text
    card = (output_dir / "README.md").read_text(encoding="utf-8")
    assert "6 rows were trained on" in card
    assert "no manifest" in card


def test_validation_rows_may_come_from_a_folder_of_their_own(train, toy_dataset, tmp_path):
    held_out = shutil.copytree(toy_dataset, tmp_path / "held_out")
    _, output_dir = train(validation_dir=str(held_out), max_steps=2)
    card = (output_dir / "README.md").read_text(encoding="utf-8")
    rows = json.loads((toy_dataset / "manifest.json").read_text())["counts"]["blocks"]
    assert f"{rows} rows were trained on" in card
    assert f"{rows} rows held out" in card


def test_without_validation_only_training_is_reported(train):
    result, output_dir = train(validation_split=0.0, max_steps=2)
    assert result.metrics == {}
    assert "perplexity" not in result_summary(result)
    assert not [entry for entry in log_history(output_dir) if "eval_loss" in entry]


def test_a_run_in_which_nothing_is_scored_ends_with_a_model(train):
    result, output_dir = train(mlm_probability=1e-9, max_steps=2)
    assert "validation" not in result_summary(result)
    assert "| validation" not in (output_dir / "README.md").read_text(encoding="utf-8")


def test_the_figures_are_those_of_the_best_model_where_it_is_kept(train):
    # the highest loss for the best: it falls, so that is not the last
    result, output_dir = train(load_best_model_at_end=True, greater_is_better=True, max_steps=6)
    best, last = (entry for entry in log_history(output_dir) if "eval_loss" in entry)
    assert (best["step"], last["step"]) == (3, 6)
    assert result.metrics["eval_loss"] == best["eval_loss"] > last["eval_loss"]
    assert "those of step 3, the best in validation" in (output_dir / "README.md").read_text(encoding="utf-8")


def test_padding_to_the_full_length_trains_the_same(train, monkeypatch):
    widths = []
    compute_loss = MaskedLMTrainer.compute_loss

    def recorded(trainer, model, inputs, **options):
        widths.append(inputs["input_ids"].shape[1])
        return compute_loss(trainer, model, inputs, **options)

    monkeypatch.setattr(MaskedLMTrainer, "compute_loss", recorded)
    _, short = train("short", max_steps=4)
    assert min(widths) < MAX_LENGTH
    widths.clear()
    _, full = train("full", max_steps=4, pad_to_max_length=True)
    assert set(widths) == {MAX_LENGTH}
    for entry, expected in zip(curve(full), curve(short), strict=True):
        assert entry == pytest.approx(expected, rel=1e-4)


def test_bf16_trains_on_a_cpu(train, toy_run):
    _, half = train(bf16=True)
    expected = [entry["loss"] for entry in curve(toy_run) if "loss" in entry]
    losses = [entry["loss"] for entry in curve(half) if "loss" in entry]
    assert losses == pytest.approx(expected, rel=0.02)
    assert losses != expected


# ---- going on from another model


def test_another_seed_hides_other_words(train, toy_run):
    settings = {"do_eval": True, "do_train": False, "init_model": str(toy_run), "config": None}
    losses = [train(**settings, seed=seed)[0].metrics["eval_loss"] for seed in (7, 7, 8)]
    assert losses[0] == losses[1] != losses[2]


def test_scoring_held_out_rows_needs_no_rows_to_train_on(train, toy_run, toy_dataset):
    settings = {"do_eval": True, "do_train": False, "init_model": str(toy_run), "config": None}
    nowhere, _ = train(**settings, train_dir="nowhere", validation_dir=str(toy_dataset), validation_split=0.0)
    expected, _ = train(**settings, validation_dir=str(toy_dataset), validation_split=0.0)
    assert nowhere.metrics["eval_loss"] == expected.metrics["eval_loss"]


def test_a_new_model_with_fewer_embeddings_than_tokens_is_refused(train):
    message = rf"--config vocab_size=100: the tokenizer .* has {len(TOKENS)} tokens; leave vocab_size out"
    with pytest.raises(InputError, match=message):
        train(config=TOY_CONFIG | {"vocab_size": 100})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"hidden_sise": 32}, "--config: 'hidden_sise' is no setting of FLASHQuadConfig"),
        ({"hidden_size": "wide"}, "--config: .*hidden_size"),
        ({"hidden_size": 33}, "--config: hidden_size must be even, got 33"),
    ],
)
def test_a_model_that_cannot_be_is_refused_in_one_line(train, config, message):
    with pytest.raises(InputError, match=message) as raised:
        train(config=config)
    assert "\n" not in str(raised.value)


# ---- output that exists


def test_a_folder_of_something_else_is_never_written_to(train, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    message = rf"{tmp_path}/out exists and holds thesis\.tex but no whole checkpoint; .*--overwrite_output_dir"
    with pytest.raises(InputError, match=message):
        train()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]
    train(overwrite_output_dir=True, max_steps=2)
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years of work"
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_an_empty_folder_is_as_good_as_none(train, tmp_path):
    (tmp_path / "out").mkdir()
    train(max_steps=2)
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_overwriting_starts_from_the_beginning(train, toy_run, tmp_path):
    shutil.copytree(toy_run, tmp_path / "out")
    _, output_dir = train(overwrite_output_dir=True, seed=8, max_steps=4)
    assert sorted(path.name for path in output_dir.glob("checkpoint-*")) == ["checkpoint-3", "checkpoint-4"]
    steps = [entry["step"] for entry in log_history(output_dir) if "loss" in entry]
    assert steps == [2, 4]
    # the replaced run's curve would stand behind the new one
    assert [step for step, _ in scalars(output_dir / "logs", "train/loss")] == steps


def test_overwriting_with_wrong_arguments_loses_nothing(train, toy_run, tmp_path):
    output_dir = shutil.copytree(toy_run, tmp_path / "out")
    before = sorted(path.relative_to(output_dir) for path in output_dir.rglob("*"))
    with pytest.raises(InputError, match="no such dataset folder"):
        train(overwrite_output_dir=True, train_dir=tmp_path / "typo", tokenizer_name=str(toy_run))
    with pytest.raises(InputError, match="'hidden_sise' is no setting"):
        train(overwrite_output_dir=True, config={"hidden_sise": 32})
    assert sorted(path.relative_to(output_dir) for path in output_dir.rglob("*")) == before


def test_a_full_disk_is_one_line_and_leaves_the_last_whole_checkpoint(train, tmp_path, monkeypatch):
    _, output_dir = train(max_steps=3)
    whole = output_dir / "checkpoint-3"
    size = max(path.stat().st_size for path in whole.iterdir())
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1000, hard))  # no file can be larger: as on a full disk
    try:
        with pytest.raises(
            OSError, match=r"checkpoint-6 could not be written \(.*\); make room and give the same"
        ) as raised:
            train(max_steps=6)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert "\n" not in str(raised.value)
    train(max_steps=6)
    assert [entry["step"] for entry in log_history(output_dir) if "loss" in entry] == [2, 4, 6]


def test_settings_of_a_run_may_name_a_preset_and_go_over_it(train):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "token_shift": 0.125}
    _, output_dir = train(config={"preset": "tiny"} | sizes, max_steps=1)
    written = json.loads((output_dir / "config.json").read_text())
    assert {name: written[name] for name in RECOMMENDED | sizes} == RECOMMENDED | sizes
    assert "preset" not in written


def test_a_preset_that_is_not_there_is_refused_before_anything_is_written(train, tmp_path):
    with pytest.raises(InputError, match=r"--config: no preset 'huge'; there are tiny, small, base, large"):
        train(config={"preset": "huge"})
    assert not (tmp_path / "out").exists()
