"""The stages as datatrove pipelines, under its executor for the processes of a machine, for Ray or for Slurm."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor
from datatrove.executor.base import PipelineExecutor
from datatrove.pipeline.base import PipelineStep

from flash.corpus.folders import LocalFolder
from flash.corpus.records import InputSummary, Record
from flash.corpus.tokens import tokenize
from flash.corpus.tokens.job import Job, load_job
from flash.corpus.tokens.shards import read_index, read_shard_account, write_shard
from flash.corpus.tokens.stages import build_index, finish, read_records
from flash.corpus.workers import usable_workers

_WORKER_GB = 1
_ATTEMPTS = 3

# Name, pipeline and number of tasks.
Stage = tuple[str, list[PipelineStep], int]

# Behind this a task of Ray is taken to hang, as one does whose process was killed within its worker.
_LEAST_BYTES_PER_SECOND = 20_000
_LEAST_SECONDS = 600


class ReadTask(PipelineStep):
    """Reads what a task is to read; nothing, where the task is done."""

    type = "reader"
    name = "documents and rejects"

    def __init__(self, work: str) -> None:
        super().__init__()
        self.work = work

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Record]:
        """Yield the records of task ``rank``."""
        job = load_job(self.work)
        for record in read_records(job, rank, on_read=lambda count: None):
            if isinstance(record, InputSummary):
                self.stat_update("bytes", value=record.byte_count, unit="segment")
            yield record


class TokenizeRecords(PipelineStep):
    """Turns records into runs of rows."""

    type = "writer"
    name = "runs of token ids"

    def __init__(self, work: str) -> None:
        super().__init__()
        self.work = work

    def run(self, data: Iterator[Record], rank: int = 0, world_size: int = 1) -> None:
        """Do task ``rank``, unless it is done: ``data`` is not even begun then."""
        job = load_job(self.work)
        if tokenize.read_account(job.work.child(tokenize.FOLDER), rank) is None:
            account = tokenize.tokenize_records(job, rank, data)
            self.stat_update("tokens", value=account["counts"].get("tokens", 0), unit="task")


class BuildIndex(PipelineStep):
    """Puts together what the first stage made."""

    type = "index"
    name = "runs"

    def __init__(self, work: str) -> None:
        super().__init__()
        self.work = work

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Write the index, unless it is there."""
        job = load_job(self.work)
        if read_index(job) is None:
            build_index(job)


class WriteShards(PipelineStep):
    """Writes shards: how many there are is not known when the tasks are made, so each does every n-th."""

    type = "writer"
    name = "shards"

    def __init__(self, work: str) -> None:
        super().__init__()
        self.work = work

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Write the shards ``rank``, ``rank + world_size`` and so on, unless they are there."""
        job = load_job(self.work)
        index = read_index(job)
        assert index is not None
        for shard in range(rank, index["shards"], world_size):
            account = read_shard_account(job, shard) or write_shard(job, index, shard)
            self.stat_update("tokens", value=account["tokens"], unit="shard")


class Finish(PipelineStep):
    """Writes the manifest and puts the dataset in its place."""

    type = "writer"
    name = "manifest"

    def __init__(self, work: str) -> None:
        super().__init__()
        self.work = work

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Do it."""
        finish(load_job(self.work))


def run_on_processes(job: Job, workers: int, log_interval: int) -> bool:
    """Run a job under datatrove's executor for one machine."""
    workers = usable_workers(workers, job.input_bytes)
    for name, pipeline, tasks in _stages_until_finished(job):
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=min(workers, tasks), logging_dir=_logs(job, name)).run()
    return True


def run_on_ray(job: Job, workers: int, log_interval: int) -> bool:
    """Run a job on the Ray cluster that ``RAY_ADDRESS`` names, or on one of this machine.

    Raises:
        ChildProcessError: A task failed again and again.
    """
    sizes = [entry["bytes"] for entry in job.plan["inputs"]]
    largest = max(sum(sizes[segment.file] for segment in task) for task in job.tasks)
    for name, pipeline, tasks in _stages_until_finished(job):
        executor = RayPipelineExecutor(
            pipeline,
            tasks=tasks,
            workers=workers or -1,
            mem_per_cpu_gb=_WORKER_GB,
            logging_dir=_logs(job, name),
            time=_LEAST_SECONDS + largest // _LEAST_BYTES_PER_SECOND,
        )
        _run_to_the_end(executor, name)
    return True


def submit_to_slurm(job: Job, workers: int, log_interval: int, *, partition: str, time: str) -> bool:
    """Submit a job's stages to Slurm, each to begin when the one before it has ended well; return at once."""
    before: SlurmPipelineExecutor | None = None
    # beside the work, which the last stage removes while Slurm still writes its log
    base = f"{job.work.place.removesuffix('.work')}.logs" if isinstance(job.work, LocalFolder) else None
    in_venv = sys.prefix != sys.base_prefix
    work = job.work.place
    later: list[Stage] = [
        ("index", [BuildIndex(work)], 1),
        ("shards", [WriteShards(work)], len(job.tasks)),
        ("finish", [Finish(work)], 1),
    ]
    for name, pipeline, tasks in [*_first_stages(job), *later]:
        before = SlurmPipelineExecutor(
            pipeline,
            tasks=tasks,
            time=time,
            partition=partition,
            mem_per_cpu_gb=_WORKER_GB,
            workers=workers or -1,
            job_name=f"flashquad-{name}",
            qos="",
            env_command=f"source {Path(sys.prefix) / 'bin' / 'activate'}" if in_venv else "",
            logging_dir=f"{base}/{name}" if base else f"{job.dataset.place}_logs/{name}",
            depends=before,
            skip_completed=False,  # the accounts say what is done; these logs outlive the work
        )
    assert before is not None
    before.run()
    return False


def find_duplicates(job: Job, workers: int) -> None:
    """Do the stages that find duplicates, on the processes of this machine."""
    for name, pipeline, tasks in _finding_stages(job):
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=min(workers, tasks), logging_dir=_logs(job, name)).run()


def _stages_until_finished(job: Job) -> Iterator[Stage]:
    """Yield the stages that are worth handing over, each when the one before is done; do the others here."""
    for name in ("tokenize", "shards"):  # what is done the accounts say; datatrove's marks would hide one that was lost
        job.work.remove(f"logs/{name}/completions")
    yield from _first_stages(job)
    index = read_index(job) or build_index(job)
    yield "shards", [WriteShards(job.work.place)], min(index["shards"], len(job.tasks))
    finish(job)


def _first_stages(job: Job) -> list[Stage]:
    work = job.work.place
    return [*_finding_stages(job), ("tokenize", [ReadTask(work), TokenizeRecords(work)], len(job.tasks))]


def _finding_stages(job: Job) -> list[Stage]:
    if job.settings.deduplicate is None:
        return []
    from flash.corpus.tokens.deduplication import finding_stages

    return finding_stages(job)


def _run_to_the_end(executor: PipelineExecutor, name: str) -> None:
    """Run an executor that gives tasks up without a word, until all are done."""
    for _ in range(_ATTEMPTS):
        executor.run()
        left = executor.get_incomplete_ranks()
        if not left:
            return
    raise ChildProcessError(
        f"{len(left)} tasks of the stage {name!r} failed {_ATTEMPTS} times, the first is {left[0]}: "
        f"{executor.logging_dir.resolve_paths('logs')} says why"
    )


def _logs(job: Job, stage: str) -> str:
    return f"{job.work.place}/logs/{stage}"
