"""Baselines find what character n-grams can find, and the most frequent answer."""

import pytest

from flash.finetuning.baselines import MAJORITY, TFIDF, baselines
from flash.finetuning.data import load_data

from toy_tasks import task_folder, toy_finetuning


@pytest.mark.parametrize("kind", ["classification", "pair", "regression", "choice"])
def test_n_grams_beat_the_most_frequent_answer(kind, tmp_path):
    data = load_data(toy_finetuning(kind, task_folder(tmp_path / "data", kind, 160, 60), tmp_path, tmp_path))
    found = baselines(data.problem, data.train.examples, data.dev.examples, data.dev.examples)
    metric = data.problem.task.metric
    frequent = found["mean" if kind == "regression" else MAJORITY]["dev"][metric]
    assert found[TFIDF]["dev"][metric] > frequent
    assert found[TFIDF]["test"] == found[TFIDF]["dev"]
    if kind in ("classification", "pair"):
        labels = [example.label for example in data.dev.examples]
        assert frequent in {labels.count(label) / len(labels) for label in data.problem.labels}
