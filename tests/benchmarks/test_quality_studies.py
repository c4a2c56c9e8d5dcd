"""The bookkeeping of studies: which runs are made, what their records become."""

import json
import sys
from dataclasses import replace

import pytest
import torch
from transformers import BertForMaskedLM, ModernBertForMaskedLM

from flash.corpus.tokenizer_loading import load_tokenizer
from flash.errors import InputError

import study
from contestants import CONTESTANTS, SIZES
from run_records import append_record
from runs import Run, Texts, as_pairs, build_model, model_folder, read_records, train
from studies import ADAMW_RATES, MUON_RATES, SEEDS, STEPS, STUDIES, best_rate, rates_to_try, tuned
from summary import plus_minus, summarize

FIRST = Run("flash-quad", "3M", learning_rate=0.0, seed=0, steps=5)


def record_of(run, loss):
    return {"run": run.to_dict(), "loss": loss, "accuracy": 0.1, "seconds": 10.0}


def records_of(losses, seed=0):
    runs = {rate: replace(FIRST, learning_rate=rate, seed=seed) for rate in losses}
    return {runs[rate]: record_of(runs[rate], loss) for rate, loss in losses.items()}


def test_the_best_rate_is_known_only_when_all_were_tried():
    records = records_of({1.0: 5.0, 2.0: 4.0})
    assert best_rate(records, FIRST, (1.0, 2.0)) == 2.0
    assert best_rate(records, FIRST, (1.0, 2.0, 4.0)) is None


@pytest.mark.parametrize(
    ("losses", "rates"),
    [
        ({1.0: 5.0, 2.0: 4.0, 4.0: 4.5}, (1.0, 2.0, 4.0)),
        ({1.0: 5.0, 2.0: 4.0}, (1.0, 2.0, 4.0)),
        ({1.0: 4.0, 2.0: 5.0}, (1.0, 2.0, 0.5)),
        ({0.5: 3.0, 1.0: 4.0, 2.0: 5.0}, (1.0, 2.0, 0.5, 0.25)),
    ],
)
def test_rates_are_extended_until_the_best_has_worse_neighbours(losses, rates):
    start = (1.0, 2.0, 4.0) if 4.0 in losses else (1.0, 2.0)
    assert rates_to_try(records_of(losses), FIRST, start) == rates


def test_other_seeds_are_run_at_the_best_rate_only():
    runs = tuned(records_of({1.0: 5.0, 2.0: 4.0, 4.0: 4.5}), FIRST, (1.0, 2.0, 4.0))
    assert [(run.learning_rate, run.seed) for run in runs] == [(1.0, 0), (2.0, 0), (4.0, 0), (2.0, 1), (2.0, 2)]


def finished(*names):
    """Give a record to every run of the studies, all of them equally good."""
    records = {}
    for name in names:
        while missing := [run for run in STUDIES[name](records) if run not in records]:
            records |= {run: record_of(run, 5.0) for run in missing}
    return records


def test_a_confirmation_waits_for_the_comparison_that_tunes_it():
    records = finished("comparison-3M")
    rates = {best / factor for best in (MUON_RATES[0], ADAMW_RATES[0]) for factor in (1, 2)}
    assert {run.learning_rate for run in STUDIES["confirmation-11M"](records)} == rates
    assert {run.learning_rate for run in STUDIES["confirmation-512"](records)} == {MUON_RATES[0]}
    undecided = {run: record for run, record in records.items() if run.contestant != "flash"}
    decided = {run.contestant for run in STUDIES["confirmation-512"](undecided)}
    assert decided == {"flash-quad", "transformer-tricks", "transformer-own-init"}


def test_the_better_transformer_goes_on():
    records = finished("comparison-3M")
    first = replace(FIRST, steps=STEPS)
    better = replace(first, contestant="transformer-own-init", learning_rate=MUON_RATES[1])
    records[better] = record_of(better, 4.9)
    elsewhere = ("confirmation-11M", "confirmation-512", "confirmation-2048", "four-rows-2048")
    for name in elsewhere:
        rates = {run.learning_rate for run in STUDIES[name](records) if run.contestant == better.contestant}
        assert MUON_RATES[1] in rates, name


def test_at_the_largest_size_everybody_has_a_rate_of_its_own_and_half_of_it():
    runs = STUDIES["confirmation-23M"]({})
    assert {run.contestant for run in runs} == {
        run.contestant for run in STUDIES["confirmation-11M"](finished("comparison-3M"))
    }
    for contestant in {run.contestant for run in runs}:
        low, high = sorted(run.learning_rate for run in runs if run.contestant == contestant)
        assert high == 2 * low


def test_rows_that_fill_a_batch_are_tuned_anew():
    records = finished("comparison-3M")
    while missing := [run for run in STUDIES["confirmation-2048"](records) if run not in records]:
        # the lower the rate, the better, down to an eighth
        records |= {run: record_of(run, 5.0 + abs(run.learning_rate - MUON_RATES[0] / 8)) for run in missing}
    tried = {run.learning_rate for run in STUDIES["confirmation-2048"](records) if run.seed == SEEDS[0]}
    assert tried == {MUON_RATES[0] / factor for factor in (1, 2, 4, 8, 16)}
    others = [run for run in STUDIES["confirmation-2048"](records) if run.seed != SEEDS[0]]
    assert {run.learning_rate for run in others} == {MUON_RATES[0] / 8}


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_names_models_that_exist(name):
    runs = STUDIES[name](finished("comparison-3M", "confirmation-11M"))
    assert runs
    assert len(set(runs)) == len(runs)
    for run in runs:
        assert run.contestant in CONTESTANTS
        assert run.size in SIZES


@pytest.mark.parametrize("name", sorted(STUDIES.keys() - {"confirmation-11M", "confirmation-23M"}))
def test_every_variant_of_a_study_can_be_built(name):
    for settings in dict.fromkeys(
        (run.contestant, run.length, run.settings) for run in STUDIES[name](finished("comparison-3M"))
    ):
        contestant, length, pairs = settings
        build_model(replace(FIRST, contestant=contestant, length=length, settings=pairs), vocab_size=100)


@pytest.mark.parametrize("size", SIZES)
def test_contestants_have_equal_parameters(size):
    counts = {
        name: contestant.build(vocab_size=8000, size=SIZES[size], length=128, **contestant.settings).num_parameters()
        for name, contestant in CONTESTANTS.items()
    }
    assert max(counts.values()) <= 1.03 * min(counts.values()), counts


@pytest.mark.parametrize(("name", "stock"), [("transformer", ModernBertForMaskedLM), ("bert", BertForMaskedLM)])
def test_a_transformer_as_published_begins_as_transformers_begins_it(name, stock):
    model = build_model(replace(FIRST, contestant=name, seed=3), vocab_size=50)
    torch.manual_seed(3)
    published = stock(model.config)
    assert isinstance(model, stock)
    assert published.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(weight, model.state_dict()[key]) for key, weight in published.state_dict().items())


def test_equal_seeds_give_equal_models_and_others_do_not():
    def first_weights(run):
        return build_model(run, vocab_size=50).get_input_embeddings().weight

    assert (first_weights(FIRST) == first_weights(FIRST)).all()
    assert not (first_weights(FIRST) == first_weights(replace(FIRST, seed=1))).all()


@pytest.mark.parametrize("settings", [{"convolution": 5}, {"activated": "gvb"}, {"own_position": True}])
def test_a_change_that_begins_as_the_recommended_model_scores_as_it(settings):
    run = replace(FIRST, settings=tuple(settings.items()))
    plain, changed = (build_model(each, vocab_size=50).eval() for each in (FIRST, run))
    token_ids = torch.randint(5, 50, (2, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(token_ids)
    mask[1, 6:] = 0
    with torch.no_grad():
        logits, expected = (model(input_ids=token_ids, attention_mask=mask).logits for model in (changed, plain))
    torch.testing.assert_close(logits[mask.bool()], expected[mask.bool()])


def test_a_bias_can_begin_with_near_tokens():
    run = replace(FIRST, settings=(("bias_slope", 0.5),))
    (bias, *_) = [layer.relative_bias.weight for layer in build_model(run, vocab_size=50).base_model.layers]
    middle = len(bias) // 2
    assert bias[middle] == 0.0
    assert (bias[middle:].diff() < 0).all()
    assert torch.equal(bias, bias.flip(0))


def test_records_survive_the_file(tmp_path):
    run = replace(FIRST, settings=(("token_shift", 0.5),), training=(("muon", False),), evaluate_at=(16, 32))
    for seed in (0, 1):
        append_record(tmp_path / "runs.jsonl", record_of(replace(run, seed=seed), 4.0 + seed))
    records = read_records(tmp_path / "runs.jsonl")
    assert {each for each in records if each.evaluate_at} == {run, replace(run, seed=1)}
    assert records[replace(run, seed=1)]["loss"] == 5.0
    assert [json.loads(line)["loss"] for line in (tmp_path / "runs.jsonl").read_text().splitlines()] == [4.0, 5.0]


def test_a_run_measured_at_other_lengths_serves_where_none_are_asked_for(tmp_path):
    measured = replace(FIRST, evaluate_at=(16, 32))
    append_record(tmp_path / "runs.jsonl", record_of(measured, 4.0))
    append_record(tmp_path / "runs.jsonl", record_of(replace(FIRST, seed=1), 5.0))
    records = read_records(tmp_path / "runs.jsonl")
    assert records[FIRST] == records[measured]
    assert replace(measured, seed=1) not in records


def test_a_summary_is_of_the_best_rate_over_its_seeds():
    records = records_of({MUON_RATES[0]: 5.0, MUON_RATES[1]: 4.0, MUON_RATES[2]: 4.5})
    for seed, loss in zip(SEEDS[1:], (4.2, 4.4), strict=True):
        records |= records_of({MUON_RATES[1]: loss}, seed=seed)
    (summary,) = summarize(records, list(records))
    assert (summary.learning_rate, len(summary.runs)) == (MUON_RATES[1], 3)
    assert summary.sweep == {MUON_RATES[0]: 5.0, MUON_RATES[1]: 4.0, MUON_RATES[2]: 4.5}
    assert plus_minus(summary.mean_of("loss"), summary.spread_of("loss")) == "4.200 ± 0.200"


def test_a_run_leaves_its_record_and_its_model(toy_dataset, toy_vocabulary, tmp_path):
    texts = Texts(str(toy_dataset), str(toy_dataset), load_tokenizer(toy_vocabulary), test=str(toy_dataset))
    small = as_pairs({"hidden_size": 32, "num_hidden_layers": 1})
    run = replace(FIRST, learning_rate=1e-2, steps=16, length=64, settings=small, evaluate_at=(16,))
    record = train(run, texts, keep_in=tmp_path)
    assert Run.from_dict(json.loads(json.dumps(record["run"]))) == run
    assert [point["step"] for point in record["curve"]] == list(range(2, 17, 2))
    seconds = [point["seconds"] for point in record["curve"]]
    assert seconds[0] == 0.0 < record["seconds"] == seconds[-1]  # the clock starts with the fourth step
    assert seconds == sorted(seconds)
    assert record["loss"] == pytest.approx(record["curve"][-1]["loss"], abs=1e-3)  # all of the text is the curve's
    assert record["loss"] < record["curve"][0]["loss"]
    assert list(record["lengths"]) == [16]
    assert record["test"] == {"loss": record["loss"], "accuracy": record["accuracy"]}  # the same text, the same masks
    saved = json.loads((tmp_path / model_folder(run) / "config.json").read_text(encoding="utf-8"))
    assert saved["hidden_size"] == 32


@pytest.mark.parametrize(
    ("damaged", "reason"),
    [
        ('{"run": {"contestant": "flash-quad", "si', "JSONDecodeError"),
        ("", "JSONDecodeError"),
        ('{"loss": 4.0}', "KeyError"),
        ('{"run": {"contestant": "flash"}}', "KeyError"),
        ("7", "TypeError"),
    ],
)
def test_a_damaged_record_is_named_with_its_line(tmp_path, damaged, reason):
    results = tmp_path / "runs.jsonl"
    append_record(results, record_of(FIRST, 4.0))
    with results.open("a", encoding="utf-8") as out:
        out.write(f"{damaged}\n")
    with pytest.raises(InputError, match=rf"runs.jsonl:2: no record of a run \({reason}.*delete the line"):
        read_records(results)


def test_a_record_behind_a_line_that_was_not_finished_is_whole(tmp_path):
    results = tmp_path / "runs.jsonl"
    append_record(results, record_of(FIRST, 4.0))
    whole = results.read_bytes()
    results.write_bytes(whole + whole[:50])  # a process was killed while it wrote
    append_record(results, record_of(replace(FIRST, seed=1), 5.0))
    first, half, last = results.read_bytes().splitlines(keepends=True)
    assert first == whole
    assert half == whole[:50] + b"\n"
    assert json.loads(last)["loss"] == 5.0


def test_no_two_runs_leave_their_models_in_one_folder():
    records = finished("comparison-3M")
    runs = {replace(run, evaluate_at=()) for name in STUDIES for run in STUDIES[name](records)}
    assert len({model_folder(run) for run in runs}) == len(runs)
    assert model_folder(FIRST) == "flash-quad-3M-128-0-0-5steps"


@pytest.fixture
def study_error(monkeypatch, capsys, toy_dataset, tmp_path):
    """What `study.py` says last, given other flags than good ones."""

    def run(*names, **flags):
        good = {"train": toy_dataset, "validation": toy_dataset, "results": tmp_path / "runs.jsonl"}
        words = [word for name, value in (good | flags).items() for word in (f"--{name}", str(value))]
        monkeypatch.setattr(sys, "argv", ["study.py", *names, *words])
        with pytest.raises(SystemExit) as stop:
            study.main()
        assert stop.value.code == 2
        return capsys.readouterr().err.splitlines()[-1]

    return run


def test_a_study_says_what_is_wrong_before_it_starts_a_run(study_error, tmp_path, toy_dataset, monkeypatch):
    monkeypatch.setattr(study, "start", lambda run: pytest.fail("a run was started"))
    assert "no study 'nothing'; there are comparison-3M" in study_error("nothing")
    for workers in (0, -1):
        assert f"--workers must be at least 1, got {workers}" in study_error("settings", workers=workers)
    for flag in ("train", "validation", "test"):
        assert "nowhere: no such dataset folder" in study_error("settings", **{flag: tmp_path / "nowhere"})
    assert "Is a directory" in study_error("settings", results=tmp_path)
    (tmp_path / "file").write_text("no record", encoding="utf-8")
    assert "file:1: no record of a run" in study_error("settings", results=tmp_path / "file")
    assert "File exists" in study_error("settings", **{"keep-models": tmp_path / "file"})


def test_heads_that_attend_alike_are_one_head_and_those_that_do_not_are_not():
    run = Run("flash-quad", "3M", learning_rate=1.0, seed=0, steps=1, settings=as_pairs({"own_position": True}))
    ids = torch.arange(5, 29).view(2, 12)
    one = build_model(run, 100).double().eval()
    two = build_model(replace(run, settings=as_pairs({"heads": 2})), 100).double().eval()
    weights = one.state_dict()
    two.load_state_dict({name: value for name, value in weights.items() if "offset_scale" not in name}, strict=False)
    with torch.no_grad():
        expected = one(input_ids=ids).logits
        assert not torch.allclose(two(input_ids=ids).logits, expected)
        for layer in two.base_model.layers:
            layer.offset_scale.gain.fill_(1.0)
        assert torch.allclose(two(input_ids=ids).logits, expected, atol=1e-12)
