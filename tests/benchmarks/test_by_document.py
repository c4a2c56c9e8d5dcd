"""Losses document by document add up to those of a study, and say how sure a difference is."""

from dataclasses import replace

import numpy as np
import pytest
from by_document import difference, load_kept, score

from flash.corpus.tokenizer_loading import load_tokenizer
from flash.errors import InputError

from runs import Run, Texts, as_pairs, model_folder, train

SMALL = as_pairs({"hidden_size": 32, "num_hidden_layers": 1})
RUN = Run("flash-quad", "3M", learning_rate=1e-2, seed=0, steps=16, length=64, settings=SMALL)


@pytest.fixture(scope="module")
def texts(toy_dataset, toy_vocabulary):
    return Texts(str(toy_dataset), str(toy_dataset), load_tokenizer(toy_vocabulary))


def test_documents_add_up_to_the_loss_of_the_run(texts, tmp_path):
    record = train(RUN, texts, keep_in=tmp_path)
    model = load_kept(RUN, tmp_path, len(texts.tokenizer))
    first = score(model, texts, texts.validation, 64, draws=1)
    assert len(first.loss) == len(set(texts.tokenized(texts.validation, 64)["row"])) > 1
    assert first.loss.sum() / first.scored.sum() == pytest.approx(record["loss"], abs=2e-3)  # bfloat16, other batches
    both = score(model, texts, texts.validation, 64, draws=2)
    assert both.scored.sum() == pytest.approx(2 * first.scored.sum(), rel=0.2)
    assert not np.allclose(both.loss, 2 * first.loss)


def test_models_of_other_runs_are_refused(texts, tmp_path):
    with pytest.raises(InputError, match=r"model\.safetensors is missing; run the study again with --keep-models"):
        load_kept(RUN, tmp_path, len(texts.tokenizer))
    train(replace(RUN, steps=2), texts, keep_in=tmp_path)
    deeper = replace(RUN, settings=as_pairs({"hidden_size": 32, "num_hidden_layers": 2}), steps=2)
    (tmp_path / model_folder(replace(RUN, steps=2))).rename(tmp_path / model_folder(deeper))
    with pytest.raises(InputError, match="is of another model than its name says"):
        load_kept(deeper, tmp_path, len(texts.tokenizer))


def sums(losses, scored):
    return {"loss": list(losses), "scored": list(scored)}


def test_a_difference_is_that_of_the_means_over_tokens():
    ours = [sums((10.0, 30.0), (5, 10)), sums((12.0, 30.0), (5, 10))]
    theirs = [sums((10.0, 45.0), (5, 10)), sums((10.0, 45.0), (5, 10))]
    apart, low, high = difference(ours, theirs)
    assert apart == pytest.approx((41.0 - 55.0) / 15)
    assert low == pytest.approx(-15 / 10)  # the second document alone
    assert high == pytest.approx(1 / 5)  # the first
    assert difference(theirs, ours) == pytest.approx([-apart, -high, -low])


def test_documents_that_agree_make_a_difference_sure_and_others_do_not():
    rng = np.random.default_rng(0)
    scored = rng.integers(50, 150, size=200)
    ours = rng.normal(5.0, 1.0, size=200) * scored
    agreeing = difference([sums(ours, scored)], [sums(ours + 0.1 * scored, scored)])
    assert agreeing == pytest.approx([-0.1] * 3)
    scattered = rng.normal(0.1, 0.5, size=200) * scored
    apart, low, high = difference([sums(ours, scored)], [sums(ours + scattered, scored)])
    assert low < apart < high
    standard_error = 0.5 / np.sqrt(200)
    assert high - low == pytest.approx(2 * 1.96 * standard_error, rel=0.25)
