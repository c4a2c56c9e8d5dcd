"""Learning rates of a study: those given, or else one for the size of the model; the best is kept."""

import pytest

from flash.finetuning.finetune import finetune
from flash.finetuning.models import usual_learning_rate

from toy_tasks import checkpoint, small_study


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("start"))


@pytest.mark.parametrize(
    ("millions", "rate"), [(0.1, 1e-3), (7, 1e-3), (11, 6e-4), (54, 9e-5), (102, 4e-5), (326, 1e-5), (7000, 1e-5)]
)
def test_larger_models_learn_at_lower_rates(millions, rate):
    assert usual_learning_rate(int(millions * 1e6)) == rate


def test_without_a_learning_rate_the_size_of_the_model_gives_one(start, tmp_path, caplog):
    args = small_study(start, tmp_path, learning_rate=None, num_train_epochs=1)
    with caplog.at_level("INFO"):
        study = finetune(args, command="")
    assert study.metrics["learning_rate"] == 1e-3
    assert f"learning rate 0.001, for {study.metrics['parameters']:,} parameters" in caplog.text
    assert args.learning_rate is None  # so the same arguments serve for another model


def test_the_best_learning_rate_is_kept(start, tmp_path):
    study = finetune(small_study(start, tmp_path, learning_rates=[1e-6, 1e-2], num_train_epochs=5), command="")
    assert study.metrics["learning_rate"] == 1e-2
    assert set(study.metrics["learning_rates"]) == {"1e-06", "0.01"}


def test_a_learning_rate_that_is_named_twice_is_tried_once(start, tmp_path):
    study = finetune(small_study(start, tmp_path, learning_rates=[1e-2, 0.01]), command="")
    assert study.metrics["seeds"] == [2022]


def test_learning_rates_that_hardly_differ_are_runs_of_their_own(start, tmp_path):
    study = finetune(small_study(start, tmp_path, learning_rates=[1e-2, 0.010000001], num_train_epochs=1), command="")
    assert set(study.metrics["learning_rates"]) == {"0.01", "0.010000001"}
