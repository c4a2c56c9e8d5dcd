"""The table of tasks, and tasks of one's own."""

import pytest

from flash.errors import InputError
from flash.tasks.task import METRICS, Task, load_task, packaged_tasks


def test_every_task_of_the_issue_is_there():
    assert set(packaged_tasks()) >= {
        *("tnews", "iflytek", "csldcp", "eprstmt", "chnsenticorp", "waimai", "thucnews"),
        *("afqmc", "lcqmc", "bustm", "ocnli", "cmnli", "csl", "cluewsc", "stsb"),
        *("cluener", "cmrc2018", "c3", "chid"),
    }


@pytest.mark.parametrize("task", packaged_tasks().values(), ids=lambda task: task.name)
def test_a_task_survives_its_file_and_names_a_metric_of_its_kind(task):
    assert Task.from_dict(task.to_dict(), source="test") == task
    assert task.metric in METRICS[task.kind]
    assert task.title


def test_a_yaml_file_is_a_task(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("form: text\ntexts: [a, b]\nlabel: c\nlabels: [0, 1]\nmetric: macro_f1\n", encoding="utf-8")
    task = load_task(str(path))
    assert (task.name, task.texts, task.label, task.labels, task.metric) == (
        "mine",
        ("a", "b"),
        "c",
        ("0", "1"),
        "macro_f1",
    )


def test_labels_of_a_yaml_file_are_text(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("form: text\ntexts: a\nlabels: [yes, no, 007]\n", encoding="utf-8")
    assert load_task(str(path)).labels == ("yes", "no", "007")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("form: text\n", "texts is missing"),
        ("form: poem\ntexts: a\n", "no form 'poem'"),
        ("form: text\ntexts: [a, b, c]\n", "one column or two"),
        ("form: squad\ntexts: a\n", "form squad reads two columns of texts, context and question, got a"),
        ("form: dialogue\ntexts: a\n", "form dialogue reads two columns of texts, context and question, got a"),
        ("form: entities\ntexts: [a, b]\n", "form entities reads one column of texts, got a, b"),
        ("form: text\ntexts: a\nmetric: entity_f1\n", "no metric 'entity_f1' for classification"),
        ("form: text\ntexts: a\ncolour: red\n", "unknown key 'colour'"),
        ("form: text\ntexts: a\nmax_length: many\n", "max_length must be a whole number"),
        ("form: text\ntexts: a\nanswers: '{name}_answer.json'\n", r"answers '{name}_answer.json' may hold {split}"),
        ("form: text\ntexts: a\nanswers: '{split'\n", r"answers '{split' may hold {split}"),
        ("- a\n", "expected lines `key: value`"),
        ("a: [\n", "no YAML"),
    ],
)
def test_a_yaml_file_that_says_nonsense_is_refused(text, message, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load_task(str(path))


def test_a_task_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(InputError, match=r"no task 'tnewz'.*tnews, iflytek"):
        load_task("tnewz")
