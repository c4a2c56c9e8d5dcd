"""What is written of the dev file's answers says what it is taken to say."""

import json

from flash.finetuning import reports
from flash.finetuning.problems import problem_of
from flash.finetuning.reports import write_report
from flash.tasks.examples import TextExample
from flash.tasks.task import load_task


def test_precision_and_recall_of_a_class_are_not_taken_for_each_other(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(reports, "draw_confusion", lambda path, counts, *names: drawn.append(counts.tolist()))
    examples = [TextExample(number, "好", None, label) for number, label in enumerate("1112")]
    write_report(
        tmp_path, problem_of(load_task("tnews"), ("1", "2")), {"1": "food", "2": "place"}, list("1222"), examples
    )
    report = json.loads((tmp_path / "per_class.json").read_text(encoding="utf-8"))
    assert [report["food"][name] for name in ("precision", "recall", "support")] == [1, 1 / 3, 3]
    assert [report["place"][name] for name in ("precision", "recall", "support")] == [1 / 3, 1, 1]
    assert drawn == [[[1, 2], [0, 1]]]  # a row for each right class
