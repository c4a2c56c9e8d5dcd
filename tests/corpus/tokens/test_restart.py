import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from flash.corpus import byte_streams, folders
from flash.corpus.folders import LocalFolder
from flash.corpus.tokens import output, stages
from flash.corpus.tokens.local_engine import run_locally
from flash.corpus.tokens.prepare import prepare_tokens
from flash.corpus.tokens.settings import TokenSettings
from flash.errors import InputError

from prepared_tokens import digests, write_corpus

SETTINGS = TokenSettings(max_length=64, shuffle_seed=4, pack=True)
PROGRAM = """
import sys
from pathlib import Path
from flash.corpus import workers
from flash.corpus.tokens.prepare import prepare_tokens
from flash.corpus.tokens.settings import TokenSettings
if __name__ == "__main__":
    workers._BYTES_PER_WORKER = 1
    settings = TokenSettings(max_length=64, shuffle_seed=4, pack=True)
    prepare_tokens([Path(sys.argv[1])], sys.argv[2], sys.argv[3], settings, workers=2, range_bytes=1000)
"""


@pytest.fixture
def corpus(tmp_path):
    return write_corpus(tmp_path / "corpus")


def prepare(corpus, out, vocab_file, **options):
    return prepare_tokens([corpus], out, vocab_file, SETTINGS, workers=1, range_bytes=1000, **options)


def start(corpus, out, vocab_file, folder):
    program = folder / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, str(program), str(corpus), str(out), str(vocab_file)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@pytest.mark.slow
def test_killed_at_any_moment_and_run_again_gives_the_same_bytes(corpus, vocab_file, tmp_path):
    prepare(corpus, tmp_path / "whole", vocab_file)
    out, work = tmp_path / "out", tmp_path / "out.work"
    generator = random.Random(1)
    killed = 0
    for wanted_tasks in (0, 3, 9, 20):
        process = start(corpus, out, vocab_file, tmp_path)
        while process.poll() is None:
            done = len(list((work / "tasks").glob("*.json"))) if work.exists() else 0
            if done >= wanted_tasks and work.exists():
                time.sleep(generator.random() * 0.2)
                os.killpg(process.pid, signal.SIGKILL)  # with its workers
                killed += process.wait() == -signal.SIGKILL
                break
            time.sleep(0.01)
    assert killed == 4
    process = start(corpus, out, vocab_file, tmp_path)
    assert process.wait(timeout=300) == 0
    assert digests(out) == digests(tmp_path / "whole")
    assert not work.exists()


def broken_after(monkeypatch, writes, error):
    """Let so many files be written, and fail in the middle of the next; return how many there were."""
    written = []
    original = LocalFolder.writing

    @contextmanager
    def writing(self, name):
        with original(self, name) as path:
            yield path
            written.append(name)
            if len(written) > writes:
                with path.open("rb+") as file:
                    file.truncate(path.stat().st_size // 2)
                raise error

    monkeypatch.setattr(LocalFolder, "writing", writing)
    return written


def test_broken_off_at_any_write_and_run_again_gives_the_same_bytes(corpus, vocab_file, tmp_path, monkeypatch):
    written = broken_after(monkeypatch, 10**9, None)
    prepare(corpus, tmp_path / "whole", vocab_file)
    count = len(written)
    expected = digests(tmp_path / "whole")
    assert count > 50
    for writes in [0, 1, 2, 3, *random.Random(2).sample(range(4, count - 4), 4), *range(count - 4, count)]:
        out = tmp_path / f"out{writes}"
        with monkeypatch.context() as patch:
            broken_after(patch, writes, OSError(errno.ENOSPC, "No space left on device"))
            with pytest.raises(OSError, match="No space left"):
                prepare(corpus, out, vocab_file)
            assert not out.exists()
        prepare(corpus, out, vocab_file)
        assert digests(out) == expected
        assert not list(tmp_path.rglob("*.part"))


def test_only_what_is_not_done_is_done_again(corpus, vocab_file, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        broken_after(patch, 40, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(OSError, match="No space left"):
            prepare(corpus, tmp_path / "out", vocab_file)
    tasks = tmp_path / "out.work" / "tasks"
    accounts = sorted(tasks.glob("*.json"))
    assert len(accounts) > 3
    # what is cut short is not taken for done
    with next(iter(tasks.glob("000001-*.arrow"))).open("rb+") as file:
        file.truncate(100)
    done = []
    tokenize = stages.tokenize.tokenize_records
    monkeypatch.setattr(
        stages.tokenize,
        "tokenize_records",
        lambda job, task, records: done.append(task) or tokenize(job, task, records),
    )
    prepare(corpus, tmp_path / "out", vocab_file)
    assert done == [1, *range(len(accounts), max(done) + 1)]


def test_network_that_failed_once_takes_nothing_away(corpus, vocab_file, tmp_path, monkeypatch):
    prepare(corpus, tmp_path / "whole", vocab_file)
    reads = []

    def failing(self, size=-1):
        reads.append(size)
        if len(reads) > 25:
            raise ConnectionResetError("the connection was lost")
        return read(self, size)

    with monkeypatch.context() as patch:
        read = byte_streams._Observed.read
        patch.setattr(byte_streams._Observed, "read", failing)
        with pytest.raises(OSError, match=r"connection was lost\): give the same command again"):
            prepare(corpus, tmp_path / "out", vocab_file)
    prepare(corpus, tmp_path / "out", vocab_file)
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_output_within_the_input_is_no_input(corpus, vocab_file, tmp_path, monkeypatch):
    prepare(corpus, tmp_path / "whole", vocab_file)
    left_behind(corpus, corpus / "out", vocab_file, monkeypatch)
    for overwrite in (False, True):
        prepare(corpus, corpus / "out", vocab_file, overwrite=overwrite)
        assert digests(corpus / "out") == digests(tmp_path / "whole")


def test_lock_of_a_killed_run_within_the_input_is_no_input(corpus, vocab_file, tmp_path, monkeypatch):
    prepare(corpus, tmp_path / "whole", vocab_file)
    left_behind(corpus, corpus / "out", vocab_file, monkeypatch)
    (corpus / ".out.lock").touch()
    prepare(corpus, corpus / "out", vocab_file)
    assert digests(corpus / "out") == digests(tmp_path / "whole")


@pytest.mark.parametrize("overwrite", [False, True])
def test_folder_that_has_the_name_of_the_work_folder_is_not_removed(corpus, vocab_file, tmp_path, overwrite):
    (tmp_path / "out.work").mkdir()
    (tmp_path / "out.work" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"out\.work is not replaced, because it holds thesis\.tex"):
        prepare(corpus, tmp_path / "out", vocab_file, overwrite=overwrite)
    assert (tmp_path / "out.work" / "thesis.tex").read_text() == "years of work"


def test_shard_that_was_cut_short_since_is_written_again(corpus, vocab_file, tmp_path, monkeypatch):
    prepare(corpus, tmp_path / "whole", vocab_file)
    with monkeypatch.context() as patch:
        patch.setattr(stages, "write_manifest", lambda job: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare(corpus, tmp_path / "out", vocab_file)
    os.truncate(tmp_path / "out.work" / "dataset" / "shard-00000-of-00001.arrow", 100)
    prepare(corpus, tmp_path / "out", vocab_file)
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_half_a_shard_of_a_killed_writer_does_not_come_along(corpus, vocab_file, tmp_path, monkeypatch):
    prepare(corpus, tmp_path / "whole", vocab_file)
    out = tmp_path / "out"
    left_behind(corpus, out, vocab_file, monkeypatch)
    (tmp_path / "out.work" / "dataset" / "shard-00000-of-00001.arrow.4711.part").write_bytes(b"half")
    prepare(corpus, out, vocab_file)
    assert digests(out) == digests(tmp_path / "whole")


def test_killed_while_the_result_is_put_in_its_place_and_run_again_finishes(corpus, vocab_file, tmp_path, monkeypatch):
    prepare(corpus, tmp_path / "whole", vocab_file)
    expected = digests(tmp_path / "whole")
    for method, number in [("rename", 0), ("rename", 1), ("rename", 2)]:
        out = tmp_path / f"{method}{number}"
        shutil.copytree(tmp_path / "whole", out)
        calls = []
        original = getattr(Path, method)

        def failing(self, *arguments, original=original, calls=calls, number=number):
            if "work" in str(self) + str(arguments):
                calls.append(self)
                if len(calls) > number:
                    raise KeyboardInterrupt
            return original(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(Path, method, failing)
            if number < 2:
                with pytest.raises(KeyboardInterrupt):
                    prepare(corpus, out, vocab_file, overwrite=True)
            else:
                prepare(corpus, out, vocab_file, overwrite=True)
        if number < 2:
            prepare(corpus, out, vocab_file, overwrite=True)
        assert digests(out) == expected
        assert not out.with_name(out.name + ".work").exists()


def test_second_run_into_one_folder_is_refused_and_a_dead_one_is_not_in_the_way(corpus, vocab_file, tmp_path):
    program = (
        "import sys, time; from flash.corpus.tokens.output import claimed\n"
        "with claimed(sys.argv[1]):\n    print('claimed', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "claimed\n"
    with pytest.raises(InputError, match=r"out is being written by another process: wait for it"):
        prepare(corpus, tmp_path / "out", vocab_file)
    holder.kill()
    holder.communicate()
    prepare(corpus, tmp_path / "out", vocab_file)


def test_second_run_to_a_url_is_refused(corpus, vocab_file):
    with (
        output.claimed("memory://bucket/out/"),
        pytest.raises(InputError, match="memory://bucket/out is being written by another process"),
        output.claimed("memory://bucket/out"),
    ):
        pass


def left_behind(corpus, out, vocab_file, monkeypatch):
    with monkeypatch.context() as patch:
        broken_after(patch, 30, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(OSError, match="No space left"):
            prepare(corpus, out, vocab_file)


def test_work_of_another_tokenizer_is_refused_with_both_names(corpus, vocab_file, tmp_path, monkeypatch):
    left_behind(corpus, tmp_path / "out", vocab_file, monkeypatch)
    other = tmp_path / "other.txt"
    other.write_text(vocab_file.read_text(encoding="utf-8") + "龘\n", encoding="utf-8")
    with pytest.raises(
        InputError, match=r"with the tokenizer .*vocab\.txt \(\w+\), not .*other\.txt \(\w+\): .*--over"
    ):
        prepare(corpus, tmp_path / "out", other)
    prepare(corpus, tmp_path / "out", other, overwrite=True)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["tokenizer"]["name"] == str(other)


def test_work_of_other_settings_or_input_is_refused(corpus, vocab_file, tmp_path, monkeypatch):
    left_behind(corpus, tmp_path / "out", vocab_file, monkeypatch)
    with pytest.raises(InputError, match="with other settings"):
        prepare_tokens([corpus], tmp_path / "out", vocab_file, TokenSettings(128), workers=1, range_bytes=1000)
    with (corpus / "a.txt").open("a") as file:
        file.write("more")
    with pytest.raises(InputError, match=r"out\.work holds the work of a run with other inputs"):
        prepare(corpus, tmp_path / "out", vocab_file)


def test_input_that_changed_its_size_since_ends_the_run(corpus, vocab_file, tmp_path):
    def late(job, workers, log_interval):
        os.truncate(corpus / "b.jsonl", 5000)
        return run_locally(job, workers, log_interval)

    with pytest.raises(InputError, match=r"b\.jsonl has 5,000 bytes, it had \d\d,\d+ when the work was planned"):
        prepare(corpus, tmp_path / "out", vocab_file, engine=late)
    assert not (tmp_path / "out").exists()


def test_input_that_a_worker_does_not_see_is_not_taken_for_unreadable(corpus, vocab_file, tmp_path):
    prepare(corpus, tmp_path / "whole", vocab_file)

    def elsewhere(job, workers, log_interval):
        corpus.rename(tmp_path / "not mounted")
        return run_locally(job, workers, log_interval)

    with pytest.raises(FileNotFoundError, match=r"a\.txt"):
        prepare(corpus, tmp_path / "out", vocab_file, engine=elsewhere)
    (tmp_path / "not mounted").rename(corpus)
    prepare(corpus, tmp_path / "out", vocab_file)
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_killed_while_other_work_is_removed_no_rest_of_it_is_taken_up(corpus, vocab_file, tmp_path, monkeypatch):
    prepare(corpus, tmp_path / "whole", vocab_file)
    left_behind(corpus, tmp_path / "out", vocab_file, monkeypatch)

    def killed(path):
        if path.name == "out.work":
            shutil.rmtree(path / "dataset")
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(folders.shutil, "rmtree", lambda path, rmtree=shutil.rmtree: killed(path) or rmtree(path))
        with pytest.raises(KeyboardInterrupt):
            prepare_tokens([corpus], tmp_path / "out", vocab_file, TokenSettings(128), workers=1, overwrite=True)
    prepare(corpus, tmp_path / "out", vocab_file)
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_file_touched_by_a_clock_in_the_past_or_future_is_another_input(corpus, vocab_file, tmp_path, monkeypatch):
    left_behind(corpus, tmp_path / "out", vocab_file, monkeypatch)
    for moment in (0, 10**11):
        os.utime(corpus / "a.txt", (moment, moment))
        with pytest.raises(InputError, match="with other inputs"):
            prepare(corpus, tmp_path / "out", vocab_file)


def test_locale_and_time_zone_change_nothing(corpus, vocab_file, tmp_path):
    prepare(corpus, tmp_path / "here", vocab_file)
    program = PROGRAM.replace("workers=2", "workers=1")
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    subprocess.run(
        [sys.executable, tmp_path / "program.py", corpus, tmp_path / "there", vocab_file],
        env=os.environ | {"LC_ALL": "C", "TZ": "Pacific/Kiritimati", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        check=True,
        capture_output=True,
    )
    assert digests(tmp_path / "there") == digests(tmp_path / "here")


def test_work_of_another_locale_is_gone_on_with(corpus, vocab_file, tmp_path, monkeypatch):
    (corpus / "a.txt").rename(corpus / "天气 一.txt")
    prepare(corpus, tmp_path / "whole", vocab_file)
    left_behind(corpus, tmp_path / "out", vocab_file, monkeypatch)
    (tmp_path / "program.py").write_text(PROGRAM.replace("workers=2", "workers=1"), encoding="utf-8")
    subprocess.run(
        [sys.executable, tmp_path / "program.py", corpus, tmp_path / "out", vocab_file],
        env=os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        check=True,
        capture_output=True,
    )
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_lock_is_free_afterwards(corpus, vocab_file, tmp_path):
    prepare(corpus, tmp_path / "out", vocab_file)
    with FileLock(tmp_path / ".out.lock").acquire(timeout=0):
        pass
