"""Good rows are kept, bad ones counted; a wrong file is refused in one line that says what it seems to be."""

import json
import logging

import pytest

from flash.errors import InputError
from flash.tasks.examples import answer_of
from flash.tasks.loading import check_values, classes_of, find_file, load_split, placeholder_of, without_answers
from flash.tasks.task import load_task

from toy_tasks import rows_of, write_rows

TNEWS, PAIR, NER = load_task("tnews"), load_task("afqmc"), load_task("cluener")


def test_bad_rows_among_good_ones_are_counted_and_told(tmp_path, caplog):
    rows = rows_of("classification", 200)
    rows[10]["sentence"] = ""
    rows[11]["sentence"] = "   "
    rows[20]["label"] = "999"
    del rows[30]["label"]
    path = write_rows(tmp_path / "dev.json", rows)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\n{broken\n", 1))
    with caplog.at_level(logging.WARNING):
        split = load_split(path, TNEWS, labels=("101", "102"))
    assert split.left_out == {"empty_text": 2, "unknown_label": 1, "no_label": 1, "broken_line": 1}
    assert len(split.examples) == 196
    assert "5 of 201 rows left out: 1 broken_line, 2 empty_text, 1 no_label, 1 unknown_label" in caplog.text
    assert "dev.json:2: this line is no JSON" in caplog.text
    assert "'999' is none of the 2 classes (101, 102)" in caplog.text

    for line in (12, 13):  # those behind the broken one
        assert f"dev.json:{line}: sentence is empty" in caplog.text


@pytest.mark.parametrize("column", ["label", "sentence"])
def test_a_first_row_that_lacks_a_column_costs_only_itself(column, tmp_path):
    rows = rows_of("classification", 20)
    del rows[0][column]
    split = load_split(write_rows(tmp_path / "train.json", rows), TNEWS)
    assert len(split.examples) == 19
    assert split.left_out == {"no_label" if column == "label" else "no_text": 1}


def test_a_question_without_a_context_costs_only_itself(tmp_path):
    rows = rows_of("reading", 6)
    del rows[0]["context"], rows[4]["context"]
    assert load_split(write_rows(tmp_path / "train.json", rows), load_task("reading")).left_out == {"no_text": 2}


@pytest.mark.parametrize(("kind", "column"), [("classification", "sentence"), ("choice", "candidates")])
def test_half_a_character_costs_its_row(kind, column, tmp_path, caplog):
    rows = rows_of(kind, 6)
    rows[2][column] = ["苹果", "果\ud83d"] if column == "candidates" else "果\ud83d"
    path = tmp_path / "train.json"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    task = load_task("choice") if kind == "choice" else TNEWS
    assert load_split(path, task).left_out == {"broken_text": 1}
    assert f"train.json:3: {column} has half a character (a lone surrogate) at character 1" in caplog.text


@pytest.mark.parametrize("encoding", ["gbk", "utf-16"])
def test_a_file_in_another_encoding_is_refused_by_that(encoding, tmp_path):
    path = write_rows(tmp_path / "train.json", rows_of("classification", 20))
    path.write_text(path.read_text(encoding="utf-8"), encoding=encoding)
    with pytest.raises(InputError, match=r"rows are broken lines, the first one line \d: this line is not UTF-8"):
        load_split(path, TNEWS)


def test_a_class_is_the_same_as_a_number_and_with_white_space(tmp_path):
    rows = rows_of("classification", 40)
    ways = (int, float, lambda label: f" {label}\n", str)
    written = [row | {"label": ways[number % 4](row["label"])} for number, row in enumerate(rows)]
    split = load_split(write_rows(tmp_path / "train.json", written), TNEWS)
    assert [example.label for example in split.examples] == [row["label"] for row in rows]
    assert split.label_names == {"101": "food", "102": "place"}


def test_a_class_of_white_space_is_none(tmp_path):
    rows = rows_of("classification", 20)
    rows[3]["label"] = "  "
    assert load_split(write_rows(tmp_path / "train.json", rows), TNEWS).left_out == {"no_label": 1}


def test_a_file_to_predict_keeps_every_row(tmp_path):
    rows = [{"id": 1, "sentence": ""}, {"id": 2, "sentence": "好"}, {"id": 3, "sentence": "好", "label": "999"}]
    split = load_split(write_rows(tmp_path / "test.json", rows), TNEWS, labels=("101",), need_answers=False)
    assert [example.id for example in split.examples] == [1, 2, 3]
    assert [example.label for example in split.examples] == [None, None, None]


@pytest.mark.parametrize(
    ("task", "row"),
    [
        ("reading", {"context": "天很蓝", "question": "？", "answers": []}),
        ("reading", {"context": "天很蓝", "question": "？", "answers": [{"text": "FAKE", "answer_start": 0}]}),
        ("stsb", {"sentence1": "天", "sentence2": "地", "label": "?"}),
        ("choice", {"context": "天", "question": "？", "candidates": ["甲", "乙"], "answer": 7}),
        ("cluener", {"text": "天", "label": {"planet": {"天": [[0, 0]]}}}),
        ("ocnli", {"sentence1": "天", "sentence2": "地", "label": "-"}),
    ],
)
def test_an_answer_that_is_none_does_not_cost_a_row_to_predict(task, row, tmp_path):
    labels = {"cluener": ("food",), "ocnli": ("neutral",)}.get(task, ())
    path = write_rows(tmp_path / "test.json", [row])
    (example,) = load_split(path, load_task(task), labels=labels, need_answers=False).examples
    assert answer_of(example) is None


def test_of_a_document_only_the_question_with_a_bad_answer_loses_it(tmp_path):
    questions = [
        {"id": "A", "question": "？", "answers": [{"text": "蓝", "answer_start": 2}]},
        {"id": "B", "question": "？", "answers": [{"text": "绿", "answer_start": 2}]},
    ]
    path = write_rows(tmp_path / "test.json", [{"data": [{"paragraphs": [{"context": "天很蓝", "qas": questions}]}]}])
    first, second = load_split(path, load_task("cmrc2018"), need_answers=False).examples
    assert (first.id, first.answers, second.id, second.answers) == ("A", (("蓝", 2),), "B", None)


def test_a_question_that_is_left_out_is_named(tmp_path, caplog):
    wrong = {"id": "B", "question": "？", "answers": [{"text": "绿", "answer_start": 2}]}
    right = wrong | {"id": "A", "answers": [{"text": "蓝", "answer_start": 2}]}
    path = write_rows(tmp_path / "a.json", [{"data": [{"paragraphs": [{"context": "天很蓝", "qas": [right, wrong]}]}]}])
    load_split(path, load_task("cmrc2018"))
    assert "a.json:1: question B: '绿' is not in its context" in caplog.text
    caplog.clear()
    asked = [{"question": "？", "choice": ["甲", "乙"], "answer": answer} for answer in ("甲", "丙")]
    load_split(write_rows(tmp_path / "b.json", [{"id": "1", "context": ["天"], "qas": asked}]), load_task("c3"))
    assert "b.json:1: question 2: the answer '丙' is none of the 2 candidates" in caplog.text


def test_a_blank_with_a_bad_answer_does_not_cost_the_others_of_its_row(tmp_path, caplog):
    texts = ["他#idiom1#，又#idiom2#。", "没有", "他#idiom3#。"]
    path = write_rows(tmp_path / "dev.json", [{"content": texts, "candidates": ["甲", "乙"]}])
    answers = {"#idiom1#": 7, "#idiom2#": 1, "#idiom3#": 0}
    (tmp_path / "dev_answer.json").write_text(json.dumps(answers), encoding="utf-8")
    split = load_split(path, load_task("chid"))
    assert [(example.id, example.answer) for example in split.examples] == [("#idiom2#", 1), ("#idiom3#", 0)]
    assert split.left_out == {"unknown_label": 1, "broken_row": 1}
    assert "dev.json:1: question #idiom1#: the answer 7 is none of the 2 candidates" in caplog.text
    unanswered = load_split(path, load_task("chid"), need_answers=False).examples
    assert [(example.id, example.answer) for example in unanswered] == [
        ("#idiom1#", None),
        ("#idiom2#", 1),
        ("#idiom3#", 0),
    ]


def test_a_label_column_that_is_not_there_is_named(tmp_path):
    rows = [{"sentence": row["sentence"], "topic": row["label"]} for row in rows_of("classification", 5)]
    with pytest.raises(InputError, match=r"there is no column 'label'.*the columns are sentence, topic"):
        load_split(write_rows(tmp_path / "train.json", rows), TNEWS)


def test_a_headline_is_no_question(tmp_path):
    path = write_rows(tmp_path / "train.json", rows_of("classification", 5))
    with pytest.raises(InputError, match="no column 'context', which task cmrc2018 reads"):
        load_split(path, load_task("cmrc2018"))


def test_names_of_classes_come_with_them(tmp_path):
    split = load_split(write_rows(tmp_path / "train.json", rows_of("classification", 20)), TNEWS)
    assert split.label_names == {"101": "food", "102": "place"}
    assert classes_of(split, TNEWS) == ("101", "102")


def test_classes_that_are_numbers_are_in_their_order(tmp_path):
    rows = [{"sentence": f"好{i}", "label": label} for i, label in enumerate((10, 9, "x", 100, 9))]
    split = load_split(write_rows(tmp_path / "train.json", rows), TNEWS)
    assert classes_of(split, TNEWS) == ("9", "10", "100", "x")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_label_or_text_that_is_no_number_is_no_class_and_no_text(value, tmp_path):
    rows = rows_of("classification", 20)
    rows[3]["label"], rows[7]["sentence"] = value, value
    split = load_split(write_rows(tmp_path / "train.json", rows), TNEWS)
    assert split.left_out == {"no_label": 1, "no_text": 1}
    assert classes_of(split, TNEWS) == ("101", "102")


def test_candidates_and_entities_that_are_nothing_cost_their_row(tmp_path):
    rows = rows_of("choice", 6)
    rows[2]["candidates"][0] = float("nan")
    assert load_split(write_rows(tmp_path / "c.json", rows), load_task("choice")).left_out == {"broken_row": 1}
    rows = [{"text": "苹果", "entities": [{"start": 0, "end": 2, "label": label}]} for label in ("food", None)]
    assert load_split(write_rows(tmp_path / "e.json", rows), load_task("entities")).left_out == {"broken_row": 1}


def test_one_value_is_refused(tmp_path):
    rows = [row | {"label": "3"} for row in rows_of("regression", 20)]
    split = load_split(write_rows(tmp_path / "train.json", rows), load_task("stsb"))
    with pytest.raises(InputError, match="all 20 rows have the value 3"):
        check_values(split, load_task("stsb"))


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ((0, 5e300), "multiply or divide them"),
        ((0, -1e38), "multiply or divide them"),
        ((0, 1e-300), "multiply or divide them"),
        ((1.7e9, 1.7e9 + 1500), r"subtract 1.7e\+09 from them"),
    ],
)
def test_values_that_float32_does_not_tell_apart_are_refused(values, what, tmp_path):
    rows = [row | {"label": values[number % 2]} for number, row in enumerate(rows_of("regression", 20))]
    split = load_split(write_rows(tmp_path / "train.json", rows), load_task("stsb"))
    with pytest.raises(InputError, match=what):
        check_values(split, load_task("stsb"))


@pytest.mark.parametrize("values", [(1990, 2026), (0, 1e30), (0, 1e-30), (-1e6, -1e6 + 100)])
def test_values_of_any_usual_unit_are_taken(values, tmp_path):
    rows = [row | {"label": values[number % 2]} for number, row in enumerate(rows_of("regression", 20))]
    check_values(load_split(write_rows(tmp_path / "train.json", rows), load_task("stsb")), load_task("stsb"))


@pytest.mark.parametrize(
    ("kind", "task"),
    [("classification", "tnews"), ("regression", "stsb"), ("choice", "choice"), ("entities", "cluener")],
)
def test_one_answer_in_all_rows_is_a_placeholder(kind, task, tmp_path):
    rows = rows_of(kind, 20)
    path = write_rows(tmp_path / "test.json", rows)
    labels = {"classification": ("101", "102"), "entities": ("food", "place")}.get(kind, ())
    assert placeholder_of(load_split(path, load_task(task), labels=labels, need_answers=False).examples) is None
    name = "answer" if kind == "choice" else "label"
    answer = {"entities": {}, "choice": 0}.get(kind, rows[0].get("label"))
    path = write_rows(path, [row | {name: answer} for row in rows])
    examples = load_split(path, load_task(task), labels=labels, need_answers=False).examples
    assert placeholder_of(examples) == answer_of(examples[0])
    assert {answer_of(example) for example in without_answers(examples)} == {None}
    assert placeholder_of(examples[:1]) is None


def test_one_class_is_refused(tmp_path):
    rows = [row | {"label": "101"} for row in rows_of("classification", 20)]
    split = load_split(write_rows(tmp_path / "train.json", rows), TNEWS)
    with pytest.raises(InputError, match="all 20 rows are of one class, '101'"):
        classes_of(split, TNEWS)


def test_swapped_columns_are_seen_in_the_training_file(tmp_path):
    rows = [
        {"sentence": row["label"], "label": f"{row['sentence']}{i}"}
        for i, row in enumerate(rows_of("classification", 120))
    ]
    split = load_split(write_rows(tmp_path / "train.json", rows), TNEWS)
    with pytest.raises(InputError, match="it seems to hold texts; are the columns swapped"):
        classes_of(split, TNEWS)


@pytest.mark.parametrize("repeats", [1, 5])
def test_swapped_columns_are_seen_where_the_texts_are_few(repeats, tmp_path):
    rows = [row | {"sentence": f"{row['sentence']}{i}"} for i, row in enumerate(rows_of("classification", 20))]
    right = load_split(write_rows(tmp_path / "right.json", rows * repeats), TNEWS)
    assert classes_of(right, TNEWS) == ("101", "102")
    swapped = [{"sentence": row["label"], "label": row["sentence"]} for row in rows]
    split = load_split(write_rows(tmp_path / "train.json", swapped * repeats), TNEWS)
    with pytest.raises(InputError, match=rf"has 20 different values in {20 * repeats} rows.*are the columns swapped"):
        classes_of(split, TNEWS)


def test_swapped_columns_of_few_pairs_are_seen_and_a_column_of_topics_is_not_taken_for_that(tmp_path):
    pair = load_task("pair")
    rows = [{"sentence1": f"天气{i}", "sentence2": f"很好{i}", "label": "01"[i % 2]} for i in range(20)]
    swapped = [row | {"sentence1": row["label"], "label": row["sentence1"]} for row in rows]
    with pytest.raises(InputError, match="are the columns swapped"):
        classes_of(load_split(write_rows(tmp_path / "swapped.json", swapped), pair), pair)
    topics = [row | {"sentence1": "水", "label": str(i % 3)} for i, row in enumerate(rows)]
    assert classes_of(load_split(write_rows(tmp_path / "topics.json", topics), pair), pair) == ("0", "1", "2")


def test_swapped_columns_are_seen_in_the_dev_file(tmp_path):
    rows = [{"sentence": row["label"], "label": row["sentence"]} for row in rows_of("classification", 20)]
    with pytest.raises(InputError, match=r"in 20 of 20 rows label .* is none of the 2 classes.*columns"):
        load_split(write_rows(tmp_path / "dev.json", rows), TNEWS, labels=("101", "102"))


def test_only_articles_with_paragraphs_are_taken_for_those_of_reading(tmp_path):
    def hint(data):
        with pytest.raises(InputError) as refused:
            load_split(write_rows(tmp_path / "train.json", [{"data": data}]), TNEWS)
        return "They are those of cmrc2018" in str(refused.value)

    assert hint([{"paragraphs": []}])
    assert not hint([{"sentence": "甲", "label": "1"}])


def test_a_file_of_another_task_is_recognised(tmp_path):
    path = write_rows(tmp_path / "train.json", rows_of("pair", 5))
    with pytest.raises(InputError, match=r"no column 'sentence'.*sentence1, sentence2.*They are those of afqmc"):
        load_split(path, TNEWS)


def test_a_file_without_a_good_row_is_refused(tmp_path):
    path = write_rows(tmp_path / "train.json", [{"sentence": "好", "label": ""}, {"sentence": "", "label": "1"}])
    with pytest.raises(InputError, match="no row is of use for task tnews"):
        load_split(path, TNEWS)


def test_an_entity_of_an_unknown_kind_costs_its_row(tmp_path):
    rows = rows_of("entities", 10)
    rows[3]["label"] = {"planet": {rows[3]["text"][:1]: [[0, 0]]}}
    split = load_split(write_rows(tmp_path / "dev.json", rows), NER, labels=("food", "place"))
    assert split.left_out == {"unknown_label": 1}


def test_a_split_is_found_whatever_its_form(tmp_path):
    assert find_file(tmp_path, "train") is None
    (tmp_path / "train.csv").touch()
    assert find_file(tmp_path, "train") == tmp_path / "train.csv"
    (tmp_path / "train.json.gz").touch()
    with pytest.raises(InputError, match=r"holds both train\.json\.gz and train\.csv"):
        find_file(tmp_path, "train")


def test_answers_of_chid_are_beside_its_texts(tmp_path):
    path = write_rows(tmp_path / "dev.json", [{"content": ["他#idiom7#。"], "candidates": ["甲", "乙"]}])
    (tmp_path / "dev_answer.json").write_text('{"#idiom7#": 1}', encoding="utf-8")
    (example,) = load_split(path, load_task("chid")).examples
    assert example.answer == 1
    (tmp_path / "dev_answer.json").write_text("[", encoding="utf-8")
    with pytest.raises(InputError, match=r"dev_answer\.json holds no JSON"):
        load_split(path, load_task("chid"))
