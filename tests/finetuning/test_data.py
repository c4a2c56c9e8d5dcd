"""What is said of a task's files before training, and the weights that follow from them."""

import logging

import pytest

from flash.errors import InputError
from flash.finetuning.data import check_vocabulary, describe, load_data
from flash.tasks.examples import TextExample
from flash.tasks.statistics import find_repeats

from toy_pretraining import SENTENCES, toy_tokenizer
from toy_tasks import rows_of, task_folder, toy_finetuning, write_rows


def arguments(tmp_path, kind="classification", **changes):
    return toy_finetuning(kind, tmp_path / "data", tmp_path / "model", tmp_path / "out", **changes)


@pytest.fixture
def data_folder(tmp_path):
    return task_folder(tmp_path / "data", "classification", train=40, dev=20)


def described(args, tmp_path):
    data = load_data(args)
    tokenizer = toy_tokenizer(tmp_path)
    max_length = data.problem.task.max_length
    encoded = {
        name: data.problem.encode(split.examples, tokenizer, max_length)
        for name, split in (("train", data.train), ("dev", data.dev))
    }
    return describe(data, encoded, max_length)


def test_lengths_classes_and_repeats_are_told(data_folder, tmp_path, caplog):
    rows = rows_of("classification", 10, seed=3)
    rows[1] = rows[0] | {"label": "102" if rows[0]["label"] == "101" else "101"}
    long = [{"sentence": SENTENCES[0] * 4, "label": "101", "label_desc": "food"}] * 2
    write_rows(data_folder / "train.json", rows + long)
    write_rows(data_folder / "dev.json", rows[:4])
    with caplog.at_level(logging.INFO):
        facts = described(arguments(tmp_path), tmp_path)
    assert facts["train"]["rows"] == 12
    assert facts["train"]["cut"] == 2
    assert sum(facts["classes"].values()) == 12
    assert facts["repeats"]["with_contradictory_labels"] == 1
    assert facts["repeats"]["dev_in_train"] == 4
    assert facts["repeats"]["within_train"] >= 2
    for message in (
        "17 % of the texts are cut at 32 tokens",
        "4 of 4 dev texts are in the training file too",
        "1 texts occur with more than one label",
        "train: 2 classes, from ",
    ):
        assert message in caplog.text


def test_answers_out_of_reach_are_warned_of_in_every_file(tmp_path, caplog):
    context = "".join(SENTENCES[:4])
    row = {"id": "q", "context": context, "question": "？", "answers": [{"text": context, "answer_start": 0}]}
    for name in ("train", "dev"):
        write_rows(tmp_path / f"data/{name}.json", [row])
    with caplog.at_level(logging.WARNING):
        described(arguments(tmp_path, "reading"), tmp_path)
    for message in ("train: 1 answers fit no window in whole and are not learned", "dev: 1 answers fit no window"):
        assert message in caplog.text


def test_entities_within_others_are_told(tmp_path, caplog):
    row = {"text": "今天的天气", "label": {"a": {"今天的天": [[0, 3]]}, "b": {"天": [[1, 1], [3, 3]]}}}
    for name in ("train", "dev"):
        write_rows(tmp_path / f"data/{name}.json", [row])
    with caplog.at_level(logging.WARNING):
        facts = described(arguments(tmp_path, "entities"), tmp_path)
    assert "train: 2 entities overlap a longer one: each character has one tag, so only the longest is" in caplog.text
    assert "dev: 2 entities overlap a longer one" in caplog.text
    assert facts["dev"]["overlapping_entities"] == 2


def test_a_class_of_the_task_that_is_nowhere_is_warned_of(tmp_path, caplog):
    task_folder(tmp_path / "data", "pair", train=30, dev=10)
    rows = [row | {"label": ("0", "1")[i % 2]} for i, row in enumerate(rows_of("pair", 30))]
    write_rows(tmp_path / "data/train.json", rows)
    (tmp_path / "mine.yaml").write_text(
        "form: text\ntexts: [sentence1, sentence2]\nlabels: [0, 1, 2]\n", encoding="utf-8"
    )
    with caplog.at_level(logging.WARNING):
        described(arguments(tmp_path, "pair", task=str(tmp_path / "mine.yaml")), tmp_path)
    assert "no row of class 2; it cannot be learned" in caplog.text


def test_classes_that_differ_in_case_alone_are_warned_of(data_folder, tmp_path, caplog):
    rows = rows_of("classification", 30)
    for number, row in enumerate(rows):
        row["label"] = ("good", "Good", "bad")[number % 3]
    write_rows(data_folder / "train.json", rows)
    write_rows(data_folder / "dev.json", rows[:10])
    described(arguments(tmp_path), tmp_path)
    assert "train: 'Good' and 'good' are classes of their own" in caplog.text


@pytest.mark.parametrize(("kind", "answer"), [("classification", {"label": "101"}), ("choice", {"answer": 0})])
def test_a_dev_file_with_one_answer_in_all_rows_is_warned_of(kind, answer, tmp_path, caplog):
    task_folder(tmp_path / "data", kind)
    load_data(arguments(tmp_path, kind))
    assert "placeholder" not in caplog.text
    write_rows(tmp_path / "data/dev.json", [row | answer for row in rows_of(kind, 9)])
    load_data(arguments(tmp_path, kind))
    ((name, value),) = answer.items()
    assert f"dev.json: {name} is {value!r} in all 9 rows: is it a placeholder?" in caplog.text


def test_a_test_row_without_a_text_is_predicted_and_not_scored(data_folder, tmp_path, caplog):
    rows = rows_of("classification", 12, seed=4)
    rows[3]["sentence"] = " "
    write_rows(data_folder / "test.json", rows)
    data = load_data(arguments(tmp_path))
    assert len(data.test.examples) == 12
    assert data.scored_rows == [0, 1, 2, *range(4, 12)]
    assert len(data.scored_test) == 11
    assert "test.json: 1 of 12 rows have an empty text; they are predicted, not scored" in caplog.text


def test_a_name_of_two_classes_is_that_of_none(data_folder, tmp_path, caplog):
    for name in ("train", "dev"):
        write_rows(data_folder / f"{name}.json", [row | {"label_desc": "x"} for row in rows_of("classification", 20)])
    assert load_data(arguments(tmp_path)).label_names == {}
    assert "'x' is the name of several classes" in caplog.text


@pytest.mark.parametrize("missing", [1, 12])
def test_a_test_file_that_is_answered_in_part_is_warned_of(missing, data_folder, tmp_path, caplog):
    rows = rows_of("classification", 12, seed=4)
    for row in rows[:missing]:
        row["label"] = "999"
    write_rows(data_folder / "test.json", rows)
    assert not load_data(arguments(tmp_path)).scored_rows
    assert ("1 of 12 rows have no label that is known; the file is predicted, not scored" in caplog.text) == (
        missing == 1
    )


def vocabulary_of(args, tmp_path, texts, embeddings=1000):
    write_rows(tmp_path / "data/train.json", [{"sentence": text, "label": i % 2} for i, text in enumerate(texts)])
    data, tokenizer = load_data(args), toy_tokenizer(tmp_path)
    return check_vocabulary("M", data.problem.encode(data.train.examples, tokenizer, 32), tokenizer, embeddings)


def test_unknown_tokens_are_told_and_a_tokenizer_that_knows_few_is_refused(data_folder, tmp_path, caplog):
    args = arguments(tmp_path)
    write_rows(data_folder / "dev.json", [{"sentence": "好", "label": i} for i in range(2)])
    (data_folder / "test.json").unlink()
    assert vocabulary_of(args, tmp_path, SENTENCES[:4]) == 0
    assert "unknown" not in caplog.text
    share = vocabulary_of(args, tmp_path, [f"{sentence}龘靐" for sentence in SENTENCES[:4]])
    assert 0.05 < share < 0.2
    assert f"train: {100 * share:.0f} % of the tokens are unknown to the tokenizer" in caplog.text
    with pytest.raises(InputError, match="--model M: its tokenizer does not know 100% of the tokens"):
        vocabulary_of(args, tmp_path, ["龘龘", "龘", "龘靐", "靐"])
    with pytest.raises(InputError, match=r"its tokenizer has token \d+, the model knows 9; name a folder"):
        vocabulary_of(args, tmp_path, SENTENCES[:4], embeddings=9)


def test_balanced_weights_make_the_classes_weigh_alike(data_folder, tmp_path):
    rows = rows_of("classification", 60)
    kept = [row for row in rows if row["label"] == "101"][:5] + [row for row in rows if row["label"] == "102"][:15]
    write_rows(data_folder / "train.json", kept)
    data = load_data(arguments(tmp_path, class_weights="balanced"))
    assert data.problem.class_weights == pytest.approx([20 / (2 * 5), 20 / (2 * 15)])


def test_balanced_weights_need_classes(tmp_path):
    task_folder(tmp_path / "data", "regression")
    with pytest.raises(InputError, match="task stsb has none"):
        load_data(arguments(tmp_path, "regression", class_weights="balanced"))


def test_a_part_of_the_training_file_is_drawn_by_the_seed(data_folder, tmp_path):
    parts = [load_data(arguments(tmp_path, max_train_rows=10, seed=seed)).train.examples for seed in (1, 1, 2)]
    assert parts[0] == parts[1] != parts[2]
    assert len(parts[0]) == 10


def test_a_part_of_the_training_file_has_the_classes_of_the_whole(data_folder, tmp_path, caplog):
    rare = [row | {"label": "103", "label_desc": "rare"} for row in rows_of("classification", 2, seed=7)]
    write_rows(data_folder / "train.json", rows_of("classification", 60) + rare)
    write_rows(data_folder / "dev.json", rows_of("classification", 10, seed=1) + rare)
    data = load_data(arguments(tmp_path, max_train_rows=5))
    assert "103" not in {example.label for example in data.train.examples}
    assert data.problem.labels == ("101", "102", "103")
    assert len(data.dev.examples) == 12
    assert not data.dev.left_out


def test_rows_that_are_drawn_of_one_class_are_refused(data_folder, tmp_path):
    rows = [row | {"label": "101"} for row in rows_of("classification", 300)]
    write_rows(data_folder / "train.json", [*rows, rows[0] | {"label": "102"}])
    with pytest.raises(InputError, match=r"the 2 rows drawn of .*train.json are of one class"):
        load_data(arguments(tmp_path, max_train_rows=2))


@pytest.mark.parametrize("name", ["train", "dev"])
def test_a_file_that_is_missing_is_named(name, data_folder, tmp_path):
    (data_folder / f"{name}.json").unlink()
    with pytest.raises(InputError, match=rf"--{name}_file is needed: .*data has no {name}\.json"):
        load_data(arguments(tmp_path))


def test_columns_of_ones_own_are_read(tmp_path):
    rows = [{"review": row["sentence"], "stars": row["label"]} for row in rows_of("classification", 20)]
    for name in ("train", "dev"):
        write_rows(tmp_path / f"data/{name}.jsonl", rows if name == "train" else rows[:9])
    changes = {"task": "text", "text_columns": "review", "label_column": "stars"}
    data = load_data(arguments(tmp_path, **changes))
    assert data.problem.labels == ("101", "102")
    assert len(data.dev.examples) == 9


def test_repeats_are_counted_by_row_and_contradictions_by_text_and_white_space_makes_no_other_text():
    labelled = [("今 天", "a"), ("明天", "a"), ("今天", "b"), ("今天", "b"), ("明 天", "a")]
    train = [TextExample(number, text, None, label) for number, (text, label) in enumerate(labelled)]
    found = find_repeats(train, [TextExample(number, text, None, "b") for number, text in enumerate(("今天", "好"))])
    assert (found.within, found.contradictory, found.shared, found.first_shared) == (3, 1, 1, "今天")
