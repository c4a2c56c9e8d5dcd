"""Rows of CLUE's files, as published, become examples; what is wrong with one is said."""

from datetime import date

import pandas as pd
import pytest

from flash.tasks.examples import Answer, ChoiceExample, Entity, EntityExample, ReadingExample, TextExample
from flash.tasks.loading import load_split
from flash.tasks.readers import BadRowError, read_examples
from flash.tasks.task import load_task

PRONOUN = '{"span1_text": "他", "span1_index": 0, "span2_text": "她", "span2_index": 2}'


def examples(task, row, answers=None):
    return list(read_examples(load_task(task), row, 7, answers or {}))


def fault(task, row):
    (error,) = examples(task, row)
    assert isinstance(error, BadRowError), error
    return error


@pytest.mark.parametrize(
    ("task", "row", "expected"),
    [
        ("tnews", {"sentence": "甲", "label": 104, "id": 3}, TextExample(3, "甲", None, "104")),
        ("tnews", {"sentence": "甲"}, TextExample(7, "甲", None, None)),
        ("tnews", {"sentence": "甲", "label": "104.0"}, TextExample(7, "甲", None, "104")),  # as pandas writes CSV
        ("tnews", {"sentence": "甲", "id": date(2020, 1, 2)}, TextExample("2020-01-02", "甲", None, None)),
        ("tnews", {"sentence": "甲", "id": float("nan")}, TextExample(7, "甲", None, None)),
        ("afqmc", {"sentence1": "甲", "sentence2": "乙", "label": "1"}, TextExample(7, "甲", "乙", "1")),
        ("csl", {"abst": "乙", "keyword": ["甲", "丙"], "label": "0", "id": 1}, TextExample(1, "甲；丙", "乙", "0")),
        ("stsb", {"sentence1": "甲", "sentence2": "乙", "label": "2.5"}, TextExample(7, "甲", "乙", 2.5)),
        (
            "cluewsc",
            {
                "text": "小明说他累了",
                "target": {"span1_text": "小明", "span1_index": 0, "span2_text": "他", "span2_index": 3},
                "label": True,
            },
            TextExample(7, "_小明_说[他]累了", None, "true"),
        ),
        (
            "cluener",
            {"text": "叶老桂在浙商银行", "label": {"company": {"浙商银行": [[4, 7]]}, "name": {"叶老桂": [[0, 2]]}}},
            EntityExample(7, "叶老桂在浙商银行", (Entity(0, 3, "name"), Entity(4, 8, "company"))),
        ),
        (
            "entities",
            {"text": "在北京", "entities": [{"start": 1, "end": 3, "label": "地"}]},
            EntityExample(7, "在北京", (Entity(1, 3, "地"),)),
        ),
        (
            "reading",
            {"context": "天很蓝", "question": "天？", "answers": {"text": ["蓝"], "answer_start": [2]}},
            ReadingExample(7, "天很蓝", "天？", (Answer("蓝", 2),)),
        ),
        (
            "choice",
            {"context": "天", "question": "色？", "candidates": ["红", "蓝"], "answer": "蓝", "id": "q"},
            ChoiceExample("q", "天", "色？", ("红", "蓝"), 1),
        ),
        (
            "chid",
            {"content": "他#idiom#。", "candidates": ["甲", "乙"], "answer": 0, "id": 5},
            ChoiceExample(5, "他____。", "", ("甲", "乙"), 0),
        ),
    ],
)
def test_a_row_becomes_an_example(task, row, expected):
    assert examples(task, row) == [expected]


@pytest.mark.parametrize(
    ("task", "row"),
    [
        ("entities", {"text": "在北京", "entities": '[{"start": 1, "end": 3, "label": "地"}]'}),
        ("reading", {"context": "天很蓝", "question": "？", "answers": "蓝"}),
        ("reading", {"context": "天很蓝", "question": "？", "answers": '{"text": "蓝", "answer_start": 2}'}),
        ("choice", {"context": "天", "question": "色？", "candidates": '["红", "蓝"]', "answer": "1"}),
        ("choice", {"context": "天", "question": "色？", "candidates": ["红", "蓝"], "answer": 1.0}),
        ("choice", {"context": "天", "question": "色？", "candidates": ["红", "蓝"], "answer": "1.0"}),
        ("c3", {"context": '["天", "地"]', "qas": '[{"question": "？", "choice": ["红", "蓝"], "answer": "红"}]'}),
        ("chid", {"content": '["他#idiom1#。"]', "candidates": '["甲", "乙"]'}),
        ("cluewsc", {"text": "他说她", "target": PRONOUN, "label": "true"}),
    ],
)
def test_cells_of_a_table_hold_what_json_does(task, row):
    (example,) = examples(task, row)
    assert not isinstance(example, BadRowError)
    assert example in (
        EntityExample(7, "在北京", (Entity(1, 3, "地"),)),
        ReadingExample(7, "天很蓝", "？", (Answer("蓝", 2),)),
        ChoiceExample(7, "天", "色？", ("红", "蓝"), 1),
        ChoiceExample(None, "天\n地", "？", ("红", "蓝"), 0),
        ChoiceExample("#idiom1#", "他____。", "", ("甲", "乙"), None),
        TextExample(7, "_他_说[她]", None, "true"),
    )


def test_a_class_that_the_task_writes_with_a_point_stays_so():
    task = load_task("text", labels=("1.0", "2.0"))
    (example,) = read_examples(task, {"text": "甲", "label": "2.0"}, 0, {})
    assert example == TextExample(0, "甲", None, "2.0")


def test_questions_of_a_document_without_ids_are_numbered():
    question = {"question": "天？", "answers": [{"text": "蓝", "answer_start": 2}]}
    row = {"data": [{"paragraphs": [{"context": "天很蓝", "qas": [question, question]}]}]}
    assert [example.id for example in examples("cmrc2018", row)] == [0, 1]


def test_a_document_of_squad_gives_each_question_and_each_fault():
    answers = [{"text": "蓝", "answer_start": 2}]
    questions = [
        {"id": "A", "question": "天？", "answers": answers},
        {"id": "B", "question": "地？", "answers": [{"text": "绿", "answer_start": 0}]},
        {"id": "C", "question": "谁？", "answers": answers},
    ]
    row = {"version": "v1.0", "data": [{"paragraphs": [{"context": "天很蓝", "qas": questions}]}]}
    first, second, third = examples("cmrc2018", row)
    assert first == ReadingExample("A", "天很蓝", "天？", (Answer("蓝", 2),))
    assert isinstance(second, BadRowError)
    assert second.reason == "answer_not_in_context"
    assert third.id == "C"


def test_an_answer_with_a_wrong_start_is_found_at_its_nearest_place():
    row = {"context": "蓝天蓝海", "question": "？", "answers": [{"text": "蓝", "answer_start": 3}]}
    (example,) = examples("reading", row)
    assert example.answers == (Answer("蓝", 2),)


@pytest.mark.parametrize("start", [3.0, "3", 3])
def test_the_place_of_an_answer_may_be_written_as_a_table_writes_it(start):
    row = {"context": "蓝天。蓝海蓝", "question": "？", "answers": [{"text": "蓝", "answer_start": start}]}
    (example,) = examples("reading", row)
    assert example.answers == (Answer("蓝", 3),)


@pytest.mark.parametrize("start", [None, float("nan"), ""])
def test_an_answer_without_a_place_is_found_at_its_first(start):
    row = {"context": "天蓝海蓝", "question": "？", "answers": [{"text": "蓝", "answer_start": start}]}
    (example,) = examples("reading", row)
    assert example.answers == (Answer("蓝", 1),)


@pytest.mark.parametrize("start", [True, "1_0", 1.5, 10**400, [3]])
def test_a_place_that_is_no_whole_number_spoils_its_row_alone(start):
    row = {"context": "蓝天", "question": "？", "answers": [{"text": "蓝", "answer_start": start}]}
    (error,) = examples("reading", row)
    assert isinstance(error, BadRowError)
    assert error.reason == "broken_row"


@pytest.mark.parametrize("places", [{}, {"answer_start": None}])
def test_answers_in_columns_may_have_no_places(places):
    row = {"context": "天蓝", "question": "？", "answers": {"text": ["蓝"]} | places}
    (example,) = examples("reading", row)
    assert example.answers == (Answer("蓝", 1),)


@pytest.mark.parametrize("mentions", [0, "", False, [], {"蓝": 0}, {"蓝": ""}, {"蓝": False}, {"蓝": [0]}])
def test_entities_of_another_form_spoil_their_row(mentions):
    (error,) = examples("cluener", {"text": "天蓝海", "label": {"name": mentions}})
    assert isinstance(error, BadRowError)
    assert error.reason == "broken_row"


def test_entities_of_an_arrow_table_are_those_that_are_there(tmp_path):
    rows = [
        {"text": "在北京", "label": {"address": {"北京": [[1, 2]]}}},
        {"text": "苹果好", "label": {"company": {"苹果": [[0, 1]]}}},
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "train.parquet")
    split = load_split(tmp_path / "train.parquet", load_task("cluener"))
    assert not split.left_out
    found = [example.entities for example in split.examples]
    assert found == [(Entity(1, 3, "address"),), (Entity(0, 2, "company"),)]


def test_an_answer_that_is_nowhere_stays_behind_those_that_are_somewhere():
    answers = [{"text": text, "answer_start": 0} for text in ("海天", "海", "")]
    (example,) = examples("reading", {"context": "蓝天蓝海", "question": "？", "answers": answers})
    assert example.answers == (Answer("海", 3), Answer("海天", -1))


def test_a_text_of_c3_gives_its_questions():
    row = {
        "id": "m1",
        "context": ["男：走吗？", "女：走。"],
        "qas": [
            {"question": "走？", "choice": ["走", "不走"], "answer": "走"},
            {"question": "谁？", "choice": ["男", "女", "都"], "answer": "都"},
        ],
    }
    assert examples("c3", row) == [
        ChoiceExample(None, "男：走吗？\n女：走。", "走？", ("走", "不走"), 0),
        ChoiceExample(None, "男：走吗？\n女：走。", "谁？", ("男", "女", "都"), 2),
    ]


def test_each_blank_of_chid_is_asked_for_by_itself():
    row = {"content": ["他#idiom1#，她#idiom2#。"], "candidates": ["甲", "乙"]}
    first, second = examples("chid", row, {"#idiom1#": 1, "#idiom2#": 0})
    assert first == ChoiceExample("#idiom1#", "他____，她…。", "", ("甲", "乙"), 1)
    assert second == ChoiceExample("#idiom2#", "他…，她____。", "", ("甲", "乙"), 0)


@pytest.mark.parametrize(
    ("task", "row", "reason"),
    [
        ("tnews", {"label": "1"}, "no_text"),
        ("tnews", {"sentence": {"a": 1}, "label": "1"}, "no_text"),
        ("tnews", {"sentence": "甲", "label": ["1"]}, "broken_row"),
        ("stsb", {"sentence1": "甲", "sentence2": "乙", "label": "high"}, "no_number"),
        ("stsb", {"sentence1": "甲", "sentence2": "乙", "label": "nan"}, "no_number"),
        ("cluewsc", {"text": "甲", "target": {}}, "broken_row"),
        (
            "cluewsc",
            {"text": "甲乙", "target": {"span1_text": "乙", "span1_index": 0, "span2_text": "乙", "span2_index": 1}},
            "not_in_text",
        ),
        ("cluener", {"text": "甲乙", "label": {"a": {"乙": [[0, 0]]}}}, "not_in_text"),
        ("cluener", {"text": "甲乙", "label": {"a": {"乙": [[1, 9]]}}}, "not_in_text"),
        ("cluener", {"text": "甲乙", "label": {"a": {"乙": [1]}}}, "broken_row"),
        ("cluener", {"text": "甲乙", "label": "a"}, "broken_row"),
        ("reading", {"context": "甲", "question": "？", "answers": []}, "answer_not_in_context"),
        ("reading", {"context": "甲", "question": "？", "answers": 3}, "broken_row"),
        ("cmrc2018", {"data": [{"paragraphs": [{}]}]}, "broken_row"),
        ("choice", {"context": "甲", "question": "？", "candidates": ["乙"], "answer": 0}, "broken_row"),
        ("choice", {"context": "甲", "question": "？", "candidates": ["乙", "丙"], "answer": 2}, "unknown_label"),
        ("choice", {"context": "甲", "question": "？", "candidates": ["乙", "丙"], "answer": "丁"}, "unknown_label"),
        ("chid", {"content": "没有空", "candidates": ["甲", "乙"], "answer": 0}, "broken_row"),
        ("chid", {"content": [1], "candidates": ["甲", "乙"]}, "broken_row"),
        ("chid", {"content": ["果\ud83d#idiom#"], "candidates": ["甲", "乙"]}, "broken_text"),
        ("c3", {"context": ["果\ud83d"], "qas": []}, "broken_text"),
        ("c3", {"context": ["甲", None], "qas": []}, "no_text"),
        ("tnews", {"sentence": "甲", "label": "果\ud83d"}, "broken_text"),
        ("tnews", {"sentence": "甲", "label": "1", "id": "果\ud83d"}, "broken_text"),
        ("tnews", {"sentence": "甲", "label": b"1"}, "broken_row"),
        ("stsb", {"sentence1": "甲", "sentence2": "乙", "label": 10**400}, "no_number"),
        ("stsb", {"sentence1": "甲", "sentence2": "乙", "label": True}, "no_number"),
        ("stsb", {"sentence1": "甲", "sentence2": "乙", "label": "1_0"}, "no_number"),
        ("cluener", {"text": "甲乙", "label": {" ": {"乙": [[1, 1]]}}}, "broken_row"),
        ("cluener", {"text": "甲乙", "label": {"果\ud83d": {"乙": [[1, 1]]}}}, "broken_text"),
        (
            "cluewsc",
            {"text": "甲乙", "target": {"span1_text": "甲", "span1_index": 0.0, "span2_text": "乙", "span2_index": 1}},
            "broken_row",
        ),
    ],
)
def test_what_is_wrong_with_a_row_is_said(task, row, reason):
    assert fault(task, row).reason == reason
