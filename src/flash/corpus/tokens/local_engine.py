"""The stages on this machine: a process a core, each writes what it makes: nothing passes through the parent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flash.corpus.progress import WorkProgress
from flash.corpus.tokens.job import Job, load_job
from flash.corpus.tokens.shards import read_index, read_shard_account, write_shard
from flash.corpus.tokens.stages import build_index, finish, tokenize_task
from flash.corpus.workers import ordered_map, usable_workers, worker_context

_POLL_SECONDS = 0.5


def run_locally(job: Job, workers: int, log_interval: int) -> bool:
    """Do all that is not done yet; return True, because the dataset is in its place then.

    Args:
        job: What there is to do; saved already.
        workers: Most processes; 0 is one a core.
        log_interval: Documents between two log lines, where standard error is no terminal.

    Raises:
        InputError: Nothing usable in the input, or the segmenter is wrong.
        OSError: The output cannot be written.
        ChildProcessError: A worker process died.
    """
    workers = usable_workers(workers, job.input_bytes)
    place = job.work.place
    if job.settings.deduplicate is not None:
        from flash.corpus.tokens.datatrove_engine import find_duplicates  # needs datatrove, which is not always there

        find_duplicates(job, workers)
    counter = worker_context().Value("q", 0)
    with WorkProgress("tokenize", job.input_bytes, log_interval) as progress, _shown(progress, counter):
        for documents in ordered_map(_TokenizeTasks, (place, counter), range(len(job.tasks)), workers):
            progress.add_documents(documents)
    index = read_index(job) or build_index(job)
    with WorkProgress("write shards", index["tokens"], log_interval, unit="tokens") as progress:
        for tokens in ordered_map(_WriteShards, (place,), range(index["shards"]), min(workers, index["shards"])):
            progress.advance(tokens)
    finish(job)
    return True


class _TokenizeTasks:
    """Does tasks of the first stage, in a worker; counts the bytes read where the parent sees it."""

    def __init__(self, work: str, counter: Any) -> None:
        self._job = load_job(work)
        self._counter = counter

    def __call__(self, task: int) -> int:
        """Do one task, unless it is done, and return its number of documents."""
        account = tokenize_task(self._job, task, self._count)
        return int(account["counts"].get("documents", 0))

    def _count(self, byte_count: int) -> None:
        with self._counter.get_lock():
            self._counter.value += byte_count


class _WriteShards:
    """Writes shards, in a worker."""

    def __init__(self, work: str) -> None:
        self._job = load_job(work)
        index = read_index(self._job)
        assert index is not None
        self._index = index

    def __call__(self, shard: int) -> int:
        """Write one shard, unless it is there, and return its number of tokens."""
        account = read_shard_account(self._job, shard) or write_shard(self._job, self._index, shard)
        return int(account["tokens"])


@contextmanager
def _shown(progress: WorkProgress, counter: Any) -> Iterator[None]:
    """Advance ``progress`` by what the workers have counted, now and then."""
    ended = threading.Event()
    seen = 0

    def show() -> None:
        nonlocal seen
        progress.advance(counter.value - seen)
        seen = counter.value

    def poll() -> None:
        while not ended.wait(_POLL_SECONDS):
            show()

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        show()
