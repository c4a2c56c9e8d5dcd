import logging

import pytest

from flash.corpus.progress import WorkProgress
from flash.errors import InputError


def test_every_so_many_documents_a_line_is_logged_where_there_is_no_terminal(caplog):
    caplog.set_level(logging.INFO)
    with WorkProgress("prepare", 2_000_000, log_interval=100) as progress:
        for _ in range(5):
            progress.advance(250_000)
            progress.add_documents(50)
    assert [message.split(",")[0] for message in caplog.messages] == [
        "prepare: 100 documents",
        "prepare: 200 documents",
    ]
    assert ["25 % of the bytes" in message for message in caplog.messages] == [True, False]
    assert ["50 % of the bytes" in message for message in caplog.messages] == [False, True]
    assert all(message.endswith(" s left") for message in caplog.messages)


def test_no_line_comes_every_zero_documents():
    with pytest.raises(InputError, match="log_interval must be at least 1, got 0"):
        WorkProgress("prepare", 10, log_interval=0)
