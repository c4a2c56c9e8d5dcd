"""From questions to windows of a text and back to answers: none is lost on the way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flash.errors import InputError
from flash.finetuning.problems import problem_of
from flash.finetuning.task_file import read_task_file, write_task_file
from flash.tasks.examples import Answer, ReadingExample
from flash.tasks.task import load_task

from toy_pretraining import SENTENCES, toy_tokenizer

TEXT = "".join(SENTENCES[:8])


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return toy_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def perfect_span_logits(encoded):
    """Logits that point at the labels."""
    sides = []
    for name in ("start_positions", "end_positions"):
        rows = []
        for row in encoded.features.rows:
            logits = np.full(len(row["input_ids"]), -20.0)
            logits[row[name]] = 20.0
            rows.append(logits)
        sides.append(rows)
    return sides


@settings(deadline=None, max_examples=60)
@given(
    start=st.integers(0, len(TEXT) - 1),
    answer_length=st.integers(1, 16),
    max_length=st.sampled_from((44, 60, 200)),
    question=st.sampled_from(("天？", SENTENCES[0], SENTENCES[0] * 3)),
)
def test_no_answer_is_lost_between_windows(start, answer_length, max_length, question, tokenizer):
    text = TEXT[start : start + answer_length].strip()
    if not text:
        return
    example = ReadingExample("q", TEXT, question, (Answer(text, TEXT.index(text, start)),))
    problem = problem_of(load_task("reading"))
    encoded = problem.encode([example], tokenizer, max_length, training=True)
    assert encoded.cut == 0
    assert all(len(row["input_ids"]) <= max_length for row in encoded.features.rows)
    (found,) = problem.answers(perfect_span_logits(encoded), encoded).predictions
    assert text in found  # tokens may be longer than the answer: words in Latin script
    assert len(found) <= len(text) + 10


def test_validation_reads_the_same_windows_with_and_without_answers(tokenizer):
    problem = problem_of(load_task("reading"))
    answers = (Answer(TEXT[40:80], 40),)
    labelled, unlabelled = (
        problem.encode([ReadingExample("q", TEXT, "天？", found)], tokenizer, 44) for found in (answers, None)
    )
    assert [row["input_ids"] for row in labelled.features.rows] == [
        row["input_ids"] for row in unlabelled.features.rows
    ]


def test_an_answer_longer_than_every_window_is_counted_and_not_learned(tokenizer):
    long = ReadingExample("q", TEXT, "天？", (Answer(TEXT, 0),))
    short = ReadingExample("r", TEXT, "天？", (Answer(TEXT[40:44], 40),))
    encoded = problem_of(load_task("reading")).encode([long, short], tokenizer, 24, training=True)
    assert encoded.cut == 1
    # that there is no answer would be wrong
    assert {window.owner for window in encoded.windows} == {1}
    assert len(encoded.features) == len(encoded.windows)
    with pytest.raises(InputError, match="--max_seq_length 24: no window holds the answer to any of 1 questions"):
        problem_of(load_task("reading")).encode([long], tokenizer, 24, training=True)


@pytest.mark.parametrize("before", ["", " ", "\u200b", "\u3000 ", "\ufe0f", "\ufffd"])
@pytest.mark.parametrize("behind", ["", " ", "\u200b\n", "\u0301", "\ufffd\ufe0f"])
@pytest.mark.parametrize("place", [0, 30, 100, len(TEXT)])
def test_what_no_tokenizer_keeps_may_stand_at_the_ends_of_an_answer(before, behind, place, tokenizer):
    text = f"{before}{TEXT[40:46]}{behind}"
    context = TEXT[:place] + text + TEXT[place:]
    problem = problem_of(load_task("reading"))
    example = ReadingExample("q", context, "天？", (Answer(text, place),))
    encoded = problem.encode([example], tokenizer, 44, training=True)
    assert encoded.cut == 0
    (found,) = problem.answers(perfect_span_logits(encoded), encoded).predictions
    assert found == TEXT[40:46]


def test_windows_without_room_for_a_text_are_refused(tokenizer):
    example = ReadingExample(0, SENTENCES[0], SENTENCES[1], (Answer(SENTENCES[0][:1], 0),))
    problem = problem_of(load_task("reading"))
    for max_length in (3, 6):
        with pytest.raises(InputError, match=f"--max_seq_length {max_length} leaves no room"):
            problem.encode([example], tokenizer, max_length)
    assert len(problem.encode([example], tokenizer, 7).features)


def test_answers_as_long_as_those_trained_on_can_be_given(tokenizer, tmp_path):
    long, short = Answer(TEXT[5:105], 5), Answer(TEXT[5:8], 5)
    problem = problem_of(load_task("reading"))
    problem.encode([ReadingExample("q", TEXT, "天？", (long,))], tokenizer, 200, training=True)
    write_task_file(tmp_path, problem, {})
    of_folder, _ = read_task_file(tmp_path)
    encoded = of_folder.encode([ReadingExample("q", TEXT, "天？", (long,))], tokenizer, 200)
    assert of_folder.answers(perfect_span_logits(encoded), encoded).predictions == [long.text]
    # ... and twice as long; but a model of short answers keeps to them
    assert of_folder.most_answer_tokens == 2 * of_folder.measured["longest_answer_tokens"] >= 180
    other = problem_of(load_task("reading"))
    other.encode([ReadingExample("q", TEXT, "天？", (short,))], tokenizer, 200, training=True)
    assert other.most_answer_tokens == 64
    assert other.answers(perfect_span_logits(encoded), encoded).predictions != [long.text]


def test_there_is_an_answer_where_all_likely_ends_are_before_the_starts(tokenizer):
    problem = problem_of(load_task("reading"))
    encoded = problem.encode([ReadingExample("q", TEXT, "天？", None)], tokenizer, 128)
    tokens = [len(row["input_ids"]) for row in encoded.features.rows]
    starts, ends = ([np.arange(length, dtype=float) * sign for length in tokens] for sign in (1, -1))
    (answer,) = problem.answers((starts, ends), encoded).predictions
    assert answer
    assert answer in TEXT


def test_in_validation_a_question_is_lost_only_without_any_answer_in_reach(tokenizer):
    long, short = Answer(TEXT[:90], 0), Answer(TEXT[40:44], 40)
    problem = problem_of(load_task("reading"))
    for answers, lost in (((long,), 1), ((long, short), 0), ((short, long), 0)):
        assert problem.encode([ReadingExample("q", TEXT, "天？", answers)], tokenizer, 44).cut == lost


def test_an_answer_that_is_nowhere_is_scored_against_but_not_looked_for(tokenizer):
    example = ReadingExample(0, TEXT, "什么", (Answer(TEXT[3:5], 3), Answer("天很好", -1)))
    problem = problem_of(load_task("reading"))
    assert problem.encode([example], tokenizer, 16, training=True).cut == 0
    assert problem.encode([example], tokenizer, 16).cut == 0
    assert problem.scores(["天很好"], [example])["exact_match"] == 1.0


def test_a_question_that_loses_its_end_is_told(tokenizer, caplog):
    question = TEXT * 2
    encoded = problem_of(load_task("reading")).encode([ReadingExample(0, TEXT, question, None)], tokenizer, 32)
    assert "1 of 1 questions are longer than 16 tokens" in caplog.text
    assert encoded.lengths == [len(tokenizer(question, TEXT)["input_ids"])]


def test_a_question_on_nothing_is_answered_with_nothing(tokenizer):
    problem = problem_of(load_task("reading"))
    encoded = problem.encode([ReadingExample("q", "", "天？", None)], tokenizer, 24)
    length = len(encoded.features.rows[0]["input_ids"])
    assert problem.answers(([np.zeros(length)], [np.zeros(length)]), encoded).predictions == [""]


def test_a_stretch_of_text_comes_with_its_probability_and_a_mistake_is_what_its_f1_lacks(tokenizer):
    problem = problem_of(load_task("reading"))
    encoded = problem.encode([ReadingExample("q", "天气很好", "天？", (Answer("很好", 2),))], tokenizer, 64)
    (row,) = encoded.features.rows
    starts, ends = (np.zeros(len(row["input_ids"])) for _ in range(2))
    starts[row["start_positions"] + 1] = ends[row["end_positions"]] = 5.0
    probability = np.exp(5.0) / (np.exp(5.0) + len(starts) - 1)
    answers = problem.answers(([starts], [ends]), encoded)
    assert answers.predictions == ["好"]
    assert answers.confidences == pytest.approx([probability**2])
    assert problem.mistakes(None, answers, encoded) == pytest.approx([1 - 2 / 3])
