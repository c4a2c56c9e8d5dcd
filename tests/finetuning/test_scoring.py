"""A fine-tuned folder on other files: what it cannot answer for is said in one line."""

import pytest

from flash.errors import InputError
from flash.finetuning.finetune import finetune
from flash.finetuning.scoring import Finetuned

from toy_tasks import checkpoint, rows_of, task_folder, toy_finetuning, write_rows


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reader")
    data = task_folder(folder / "data", "reading", train=8, dev=4)
    rows = rows_of("reading", 3)
    write_rows(data / "test.json", [*rows, rows[0] | {"question": "哪里？"}])
    settings = {"task": "cmrc2018", "max_steps": 1, "baselines": False}
    args = toy_finetuning("reading", data, checkpoint(folder / "start"), folder / "out", **settings)
    return finetune(args, command="").folder


def test_two_questions_of_one_id_have_predictions_and_no_submission(reader):
    assert not (reader / "cmrc2018_predict.json").exists()
    assert len((reader / "test_predictions.jsonl").read_text(encoding="utf-8").splitlines()) == 4
    with pytest.raises(InputError, match=r"test.json: 2 questions have the id Q0.*mend the file"):
        Finetuned(reader).predict_file(reader.parent / "data/test.json", reader, submission=True)
