"""Scores against definitions worked out by hand and against scipy."""

import random

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import r2_score

from flash.tasks.examples import Answer, Entity
from flash.tasks.metrics import (
    choice_scores,
    classification_scores,
    entity_report,
    entity_scores,
    mean_and_spread,
    reading_scores,
    regression_scores,
)


def test_macro_f1_is_the_mean_over_classes_however_rare():
    # of a 2 / 2.5, of b and c nothing
    scores = classification_scores(["a", "a", "a", "b"], ["a", "a", "b", "c"])
    assert scores == {"accuracy": 0.5, "macro_f1": pytest.approx(0.8 / 3)}


def test_a_choice_without_an_answer_counts_as_wrong():
    assert choice_scores([1, 0, 2, 0], [1, 1, 2, -1]) == {"accuracy": 0.5}


def test_correlations_are_those_of_scipy():
    generator = random.Random(0)
    a = [generator.gauss(0, 1) for _ in range(50)]
    b = [value + generator.choice((0, 0, 1)) for value in a]
    scores = regression_scores(a, b)
    assert scores["pearson"] == pytest.approx(scipy.stats.pearsonr(a, b).statistic)
    assert scores["spearman"] == pytest.approx(scipy.stats.spearmanr(a, b).statistic)
    assert scores["r2"] == pytest.approx(r2_score(b, a))
    assert regression_scores([1.0, 1.0], [0.0, 1.0]) == {"spearman": 0.0, "pearson": 0.0, "r2": -1.0}
    assert regression_scores([0.0, 1.0], [1.0, 1.0]) == {"spearman": 0.0, "pearson": 0.0, "r2": 0.0}


def test_an_entity_counts_only_whole_and_with_its_label():
    right = [(Entity(0, 2, "a"), Entity(3, 5, "b")), (Entity(1, 2, "a"),)]
    found = [(Entity(0, 2, "a"), Entity(3, 4, "b")), (Entity(1, 2, "b"), Entity(3, 4, "a"))]
    scores = entity_scores(found, right, ["a", "b"])
    assert scores["entity_precision"] == pytest.approx(1 / 4)
    assert scores["entity_recall"] == pytest.approx(1 / 3)
    assert scores["entity_f1"] == pytest.approx(2 / 7)
    assert scores["entity_macro_f1"] == pytest.approx((0.5 + 0.0) / 2)
    assert entity_report(found, right, ["a", "b"])["a"] == {
        "precision": 0.5,
        "recall": 0.5,
        "f1-score": 0.5,
        "support": 2,
    }


@pytest.mark.parametrize(
    ("found", "answers", "exact", "f1"),
    [
        ("油门", ["油门"], 1.0, 1.0),
        ("油门。", ["油门"], 1.0, 1.0),  # punctuation does not count
        ("XRD 方法 ", ["xrd 方法"], 1.0, 1.0),  # nor does case
        ("XRD 方法", ["xrd方法"], 0.0, 1.0),  # spaces count only where all must match
        ("5%", ["5"], 0.0, 2 * 1 / 3),  # nor is a sign left out that is none of the list
        ("C++", ["c"], 1.0, 1.0),  # a plus is
        ("20.1倍", ["20.2倍"], 0.0, 2 * 1 / 4),  # so is one with a point
        ("1,000.", ["1,000"], 0.0, 2 * 1 / 3),
        ("a,b", ["a"], 0.0, 2 * 1 / 4),
        ("油门，气阀", ["油门", "油门或气阀"], 0.0, 2 * 2 / 6),
        ("2008年", ["2009年"], 0.0, 2 * 1 / 4),  # a number is one unit
        ("", ["油门"], 0.0, 0.0),
        ("甲乙丙丁", ["丙丁戊"], 0.0, 2 * 2 / 7),
    ],
)
def test_answers_are_compared_as_cmrc_does(found, answers, exact, f1):
    scores = reading_scores([found], [[Answer(text, 0) for text in answers]])
    assert scores == {"answer_f1": pytest.approx(f1), "exact_match": exact}


@given(st.text("甲乙丙a1 ，", max_size=12), st.text("甲乙丙a1 ，", max_size=12))
def test_f1_of_answers_is_symmetric_and_a_share(a, b):
    scores = [reading_scores([x], [[Answer(y, 0)]]) for x, y in ((a, b), (b, a))]
    assert scores[0] == scores[1]
    assert 0.0 <= scores[0]["answer_f1"] <= 1.0


def test_the_spread_of_one_run_is_not_known():
    assert mean_and_spread([0.5]) == {"mean": 0.5, "std": None, "values": [0.5]}
    assert mean_and_spread([0.4, 0.6])["std"] == pytest.approx(0.1414, abs=1e-4)
