import json
import logging

from flash.corpus.records import Reject
from flash.corpus.rejects import RejectLog, RejectTally


def test_first_few_of_a_reason_are_told_and_all_are_counted_and_kept(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    path = tmp_path / "rejects.jsonl"
    with RejectLog(path) as log:
        for line in range(1, 6):
            log.add(Reject("broken_json", "a.jsonl", line, "坏: write it well"))
        log.add(Reject("empty_file", "b.txt", None, "it holds no text"))
        log.summarize()
    assert caplog.messages == [
        "a.jsonl:1: 坏: write it well (broken_json)",
        "a.jsonl:2: 坏: write it well (broken_json)",
        "a.jsonl:3: 坏: write it well (broken_json)",
        "b.txt: it holds no text (empty_file)",
        "left out: 5 broken_json, 1 empty_file",
    ]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["line"] for row in rows] == [1, 2, 3, 4, 5, None]
    assert rows[0]["reason"] == "broken_json"


def test_what_is_no_fault_is_only_counted(caplog):
    log = RejectLog()
    log.add(Reject("short_block", "a.txt", 1, "short", characters=3))
    assert caplog.messages == []
    assert str(log.tally) == "1 short_block"


def test_no_reject_makes_no_file_and_no_word(tmp_path, caplog):
    with RejectLog(tmp_path / "rejects.jsonl") as log:
        log.summarize()
    assert list(tmp_path.iterdir()) == []
    assert caplog.messages == []


def test_tally_of_another_process_is_added(caplog):
    tally = RejectTally()
    for line in range(100):
        tally.add(Reject("invalid_utf8", "a.txt", line, "bad"))
    assert len(tally.first) == 3
    log = RejectLog()
    log.add(Reject("invalid_utf8", "b.txt", 1, "bad"))
    log.merge(tally)
    assert log.tally.counts == {"invalid_utf8": 101}
    assert len(caplog.messages) == 3
