import json

import datasets
import pytest

from flash.corpus.prepare import PrepareSettings
from flash.corpus.reference_files import prepare_with_reference_files
from flash.errors import InputError


def test_files_hold_the_rows_of_the_dataset_line_by_line(vocab_file, tmp_path):
    texts = ["今天的天气\u2028很好，\x85我们去\r公园玩。" * 20, "没有别的什么了，再见。"]
    lines = [json.dumps({"text": text}) for text in texts]
    (tmp_path / "in.jsonl").write_text("\n".join(lines), encoding="utf-8")
    settings = PrepareSettings(max_length=64)
    options = {"reference_folder": tmp_path / "data"}
    prepare_with_reference_files([tmp_path / "in.jsonl"], tmp_path / "out", vocab_file, settings, **options)
    rows = datasets.load_from_disk(str(tmp_path / "out")).to_list()
    assert len(rows) > 4
    assert (tmp_path / "data" / "reftext.txt").read_text(encoding="utf-8").splitlines() == [r["text"] for r in rows]
    refids = (tmp_path / "data" / "refids.txt").read_text().splitlines()
    assert [json.loads(line) for line in refids] == [row["chinese_ref"] for row in rows]
    with pytest.raises(InputError, match=r"refids\.txt exists: pass --overwrite"):
        prepare_with_reference_files([tmp_path / "in.jsonl"], tmp_path / "out", vocab_file, settings, **options)


def test_files_that_lie_among_the_inputs_are_no_input(vocab_file, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "in.jsonl").write_text(json.dumps({"text": "今天的天气很好，我们去公园玩。" * 20}), encoding="utf-8")
    for overwrite in (False, True):
        manifest = prepare_with_reference_files(
            [folder], tmp_path / "out", vocab_file, PrepareSettings(), reference_folder=folder, overwrite=overwrite
        )
        assert (manifest["counts"]["documents"], len(manifest["inputs"]), manifest["rejects"]) == (1, 1, {})


def test_nothing_is_left_of_a_run_that_fails(vocab_file, tmp_path):
    (tmp_path / "in.jsonl").touch()
    options = {"reference_folder": tmp_path / "data"}
    with pytest.raises(InputError, match="no usable text"):
        prepare_with_reference_files(
            [tmp_path / "in.jsonl"], tmp_path / "out", vocab_file, PrepareSettings(), **options
        )
    assert list((tmp_path / "data").iterdir()) == []
    assert not (tmp_path / "out").exists()
