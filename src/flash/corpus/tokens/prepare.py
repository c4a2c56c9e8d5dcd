"""Text -> a token folder: the plan made or found again, the stages run, the result in its place."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from flash.corpus.input_files import find_input_files, printable
from flash.corpus.remote import is_remote
from flash.corpus.segment import load_segmenter
from flash.corpus.tokenizer_loading import load_tokenizer, save_tokenizer, tokenizer_description
from flash.corpus.tokens.engines import Engine, require_scale
from flash.corpus.tokens.finish import MANIFEST
from flash.corpus.tokens.job import PLAN, Job, check_same_plan, load_job, read_plan
from flash.corpus.tokens.local_engine import run_locally
from flash.corpus.tokens.output import (
    check_free,
    check_own_work,
    claimed,
    clear_remote,
    is_finished,
    places_of,
    published,
    work_folder,
)
from flash.corpus.tokens.plan import plan_tasks, range_bytes_for
from flash.corpus.tokens.settings import TokenSettings
from flash.corpus.tokens.stages import finish
from flash.corpus.workers import check_workers

_logger = logging.getLogger(__name__)


def prepare_tokens(
    inputs: Sequence[Path | str],
    output: Path | str,
    tokenizer: str | Path,
    settings: TokenSettings | None = None,
    *,
    workers: int = 0,
    overwrite: bool = False,
    log_interval: int = 10_000,
    engine: Engine = run_locally,
    range_bytes: int | None = None,
) -> dict[str, Any] | None:
    """Make the token folder ``output`` from text and return its manifest; docs/data.md says what is in it.

    None is returned where the work was only handed over, to Slurm.

    It depends on the content and order of the files and on the settings alone. What is not finished lies in a work
    folder, ``output`` with ``.work`` behind its name or, behind a URL, ``_work`` in it: after a failure, whatever it
    was, the same call goes on with that.

    Args:
        inputs: Files and folders, paths or URLs that fsspec knows, see `find_input_files`.
        output: The folder to make, a path or such a URL. A local one appears whole at the end; of one behind a URL
            the manifest is written last.
        tokenizer: What `load_tokenizer` takes.
        settings: What decides the content.
        workers: Most processes; 0 is one a core.
        overwrite: Replace a dataset that is there, and the unfinished work of another run.
        log_interval: Documents between two log lines, where standard error is no terminal.
        engine: What runs the tasks, see `engine_for`.
        range_bytes: How much a task reads; decided by the size of the input unless given. The rows do not depend on
            it; the manifest tells the parts that large files were read in.

    Raises:
        InputError: Nothing usable in the input, an argument or the tokenizer is wrong, the work folder holds the work
            of another run, or another process writes the output.
        OSError: The output cannot be written.
        ChildProcessError: A worker process died.
    """
    settings = settings or TokenSettings()
    check_workers(workers)
    load_segmenter(settings.segmenter)  # what is wrong with it is said now
    if settings.deduplicate is not None:
        require_scale(f"--deduplicate {settings.deduplicate}", ["datatrove"])
    files, skipped = find_input_files(inputs, passed_over=[*places_of(output), tokenizer])
    with claimed(output):
        loaded = load_tokenizer(tokenizer)
        total_bytes = sum(file.size_bytes() for file in files)
        job = Job(
            work=work_folder(output),
            settings=settings,
            tokenizer=describe_tokenizer(loaded, tokenizer),
            tokenizer_json=loaded.backend_tokenizer.to_str(),
            files=files,
            tasks=plan_tasks(files, settings.reading, range_bytes or range_bytes_for(total_bytes)),
            skipped=skipped,
        )
        take_up(job, output, loaded, overwrite=overwrite)
        job = load_job(job.work.place)  # as the workers see it
        try:
            if is_finished(job.work):
                finish(job)
            elif not engine(job, workers, log_interval):
                return None
        except BaseException:
            if job.work.names():
                name = printable(job.work.place)
                _logger.warning("what is done is kept in %s: the same command goes on with it", name)
            raise
        finally:
            load_job.cache_clear()
    manifest: dict[str, Any] = published(output).read_json(MANIFEST)
    return manifest


def describe_tokenizer(loaded: PreTrainedTokenizerFast, name: str | Path) -> dict[str, Any]:
    """Return what the manifest says about the tokenizer."""
    special_ids = {role: getattr(loaded, f"{role}_token_id") for role in ("pad", "unk", "cls", "sep", "mask")}
    return tokenizer_description(loaded, name) | {"special_ids": special_ids}


def take_up(job: Job, output: Path | str, loaded: PreTrainedTokenizerFast, *, overwrite: bool) -> None:
    """Make the work folder ready: go on with what is there, if it is of this job, or begin it.

    Raises:
        InputError: There is something at the output, or in the work folder, that is not to be replaced.
    """
    found = read_plan(job.work)
    if found is not None and found == job.plan:
        # behind a URL a manifest is this job's own: that of another is removed before the plan is written
        if not is_remote(output) and not is_finished(job.work):
            check_free(output, overwrite=overwrite)
        _logger.info("going on with the work in %s", printable(job.work.place))
        return
    check_free(output, overwrite=overwrite)
    if found is not None and not overwrite:
        check_same_plan(job, found)
    check_own_work(job.work)
    if job.work.names():
        _logger.warning("removing %s, left by a run that did not finish", printable(job.work.place))
        job.work.remove(PLAN)  # first: killed here, no run takes what is left for whole
        job.work.remove()
    if is_remote(output):
        clear_remote(output)
    with tempfile.TemporaryDirectory(prefix="flashquad-") as folder:
        save_tokenizer(loaded, Path(folder))
        for path in sorted(Path(folder).iterdir()):
            with job.dataset.child("tokenizer").writing(path.name) as target:
                shutil.copyfile(path, target)
    job.save()
