"""Submission files have the form that CLUE's rules show, in the order of the test file."""

import json
from pathlib import Path

import pytest

from flash.tasks.examples import ChoiceExample, Entity, EntityExample, ReadingExample, TextExample
from flash.tasks.loading import Split
from flash.tasks.submission import submission_name, submission_obstacle, write_predictions, write_submission
from flash.tasks.task import load_task


@pytest.mark.parametrize(
    ("task", "examples", "predictions", "name", "lines"),
    [
        (
            "tnews",
            [TextExample(4, "甲", None, None), TextExample(2, "乙", None, None)],
            ["104", "100"],
            "tnews11_predict.json",
            ['{"id": 4, "label": "104"}', '{"id": 2, "label": "100"}'],
        ),
        (
            "cluener",
            [EntityExample(0, "叶老桂在", None)],
            [(Entity(0, 3, "name"),)],
            "cluener_predict.json",
            ['{"id": 0, "text": "叶老桂在", "label": {"name": {"叶老桂": [[0, 2]]}}}'],
        ),
        (
            "cmrc2018",
            [ReadingExample("T_0", "甲乙", "？", None), ReadingExample("T_1", "甲乙", "？", None)],
            ["甲", "乙"],
            "cmrc2018_predict.json",
            ['{"T_0": "甲", "T_1": "乙"}'],
        ),
        (
            "c3",
            [ChoiceExample(None, "甲", "？", ("a", "b"), None), ChoiceExample(None, "甲", "？", ("a", "b"), None)],
            [1, 0],
            "c311_predict.json",
            ['{"id": 0, "label": 1}', '{"id": 1, "label": 0}'],
        ),
        (
            "chid",
            [ChoiceExample("#idiom7#", "甲", "", ("a", "b"), None)],
            [1],
            "chid11_predict.json",
            ['{"#idiom7#": 1}'],
        ),
        (
            "chid",
            [ChoiceExample(3000, "甲", "", ("a", "b"), None)],
            [1],
            "chidf_predict.json",
            ['{"id": 3000, "answer": 1}'],
        ),
    ],
)
def test_a_submission_has_clues_form(task, examples, predictions, name, lines, tmp_path):
    task = load_task(task)
    assert submission_name(task, examples) == name
    write_submission(tmp_path / name, task, examples, predictions)
    assert (tmp_path / name).read_text(encoding="utf-8").splitlines() == lines


@pytest.mark.parametrize(
    ("task", "examples", "obstacle"),
    [
        ("cmrc2018", [ReadingExample(name, "甲", "？", None) for name in (1, "1", "2")], "2 questions have the id 1,"),
        ("chid", [ChoiceExample(f"#idiom{i}#", "甲", "", ("a", "b"), None) for i in (7, 7)], "have the id #idiom7#,"),
        ("cmrc2018", [ReadingExample(name, "甲", "？", None) for name in "ab"], None),
        # a line for each row
        ("chid", [ChoiceExample(1, "甲", "", ("a", "b"), None)] * 2, None),
        ("tnews", [TextExample(1, "甲", None, None)] * 2, None),
    ],
)
def test_two_questions_of_one_id_have_no_submission(task, examples, obstacle):
    found = submission_obstacle(load_task(task), Split(Path("test.json"), examples))
    assert found is None if obstacle is None else obstacle in found


def test_predictions_say_what_was_read_and_how_sure_the_model_is(tmp_path):
    examples = [TextExample(1, "甲", "乙", None), ChoiceExample(2, "丙", "？", ("a", "b"), None)]
    write_predictions(tmp_path / "p.jsonl", examples, ["0", 1], [0.75, None])
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows == [
        {"id": 1, "text": "甲", "pair": "乙", "prediction": "0", "confidence": 0.75},
        {"id": 2, "question": "？", "candidates": ["a", "b"], "prediction": 1, "answer": "b"},
    ]
