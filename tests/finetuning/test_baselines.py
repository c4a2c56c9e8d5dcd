"""Baselines find what character n-grams and a dictionary can find, and the most frequent answer."""

import pytest

from flash.finetuning.baselines import _PREDICTORS, baselines
from flash.finetuning.baselines.entities import DICTIONARY, predict_entities
from flash.finetuning.baselines.found import MAJORITY, TFIDF
from flash.finetuning.baselines.reading import FIRST, LIKEST, predict_answers
from flash.finetuning.data import load_data
from flash.tasks.examples import Answer, Entity, EntityExample, ReadingExample

from toy_tasks import TASK_OF, task_folder, toy_finetuning


def found_in(kind, tmp_path):
    data = load_data(toy_finetuning(kind, task_folder(tmp_path / "data", kind, 160, 60), "tiny-zh", tmp_path))
    return baselines(data.problem, data.train.examples, data.dev.examples, data.dev.examples), data


@pytest.mark.parametrize("kind", ["classification", "pair", "regression", "choice"])
def test_n_grams_beat_the_most_frequent_answer(kind, tmp_path):
    found, data = found_in(kind, tmp_path)
    metric = data.problem.task.metric
    frequent = found["mean" if kind == "regression" else MAJORITY]["dev"][metric]
    assert found[TFIDF]["dev"][metric] > frequent
    if kind in ("classification", "pair"):
        labels = [example.label for example in data.dev.examples]
        assert frequent in {labels.count(label) / len(labels) for label in data.problem.labels}


@pytest.mark.parametrize("kind", TASK_OF)
def test_every_kind_of_task_has_baselines_on_both_files(kind, tmp_path):
    found, data = found_in(kind, tmp_path)
    assert found
    for scores in found.values():
        assert scores["dev"] == scores["test"]
        assert data.problem.task.metric in scores["dev"]


def test_of_several_variants_the_best_on_dev_is_told(tmp_path, monkeypatch):
    data = load_data(toy_finetuning("classification", task_folder(tmp_path / "data", "classification"), "x", tmp_path))
    dev = data.dev.examples
    right = [example.label for example in dev]
    wrong = [{"101": "102", "102": "101"}[label] for label in right]
    for variants in ([[right, wrong], [wrong, right]], [[wrong, right], [right, wrong]]):
        monkeypatch.setitem(_PREDICTORS, "classification", lambda train, splits, variants=variants: {TFIDF: variants})
        found = baselines(data.problem, data.train.examples, dev, dev)[TFIDF]
        assert (found["dev"]["accuracy"], found["test"]["accuracy"]) == (1, 0)


def test_a_dictionary_finds_the_entities_that_it_knows(tmp_path):
    found, _ = found_in("entities", tmp_path)
    assert found[DICTIONARY]["dev"]["entity_f1"] == 1


def test_the_longest_entry_wins_and_those_that_mislead_are_left_out():
    train = [
        EntityExample(0, "北京大学好", (Entity(0, 4, "school"),)),
        EntityExample(1, "北京好", (Entity(0, 2, "place"),)),
        EntityExample(2, "好好好好", (Entity(0, 1, "mood"),)),
    ]
    everything, precise = predict_entities(train, [[EntityExample(3, "好北京大学在北京", None)]])[DICTIONARY]
    assert precise == [[(Entity(1, 5, "school"), Entity(6, 8, "place"))]]
    assert everything == [[(Entity(0, 1, "mood"), *precise[0][0])]]


def test_the_stretch_that_shares_most_with_the_question_is_the_answer():
    context = "天气很好。小明在公园里，看见一只猫！后来下雨了"
    train = [ReadingExample(0, context, "小明看见什么？", (Answer("一只猫", 12),))]
    found = predict_answers(
        train, [[ReadingExample(1, context, "小明在哪里？", None), ReadingExample(2, "", "？", None)]]
    )
    assert found[FIRST] == [[["天气很好", ""]]]
    assert found[LIKEST] == [[["小明在公园里，看见一只猫", ""]], [["小明在公园里", ""]]]
