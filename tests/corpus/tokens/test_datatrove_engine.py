import gc
import importlib.util
import os
import pickle
import signal
import stat
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from flash.corpus.records import Document
from flash.corpus.segment import SegmenterChoice
from flash.corpus.tokens.engines import engine_for
from flash.corpus.tokens.prepare import prepare_tokens
from flash.corpus.tokens.settings import TokenSettings
from flash.errors import InputError

from prepared_tokens import digests, read_rejects, write_corpus

pytest.importorskip("datatrove", reason="needs pip install '.[scale]'")

SETTINGS = TokenSettings(max_length=64, shuffle_seed=4, pack=True)


@pytest.fixture
def corpus(tmp_path):
    return write_corpus(tmp_path / "corpus")


def prepare(corpus, out, vocab_file, settings=SETTINGS, **options):
    return prepare_tokens([corpus], out, vocab_file, settings, **{"workers": 1, "range_bytes": 2000} | options)


def test_datatrove_gives_the_bytes_of_the_local_engine(corpus, vocab_file, tmp_path):
    prepare(corpus, tmp_path / "own", vocab_file)
    prepare(corpus, tmp_path / "trove", vocab_file, engine=engine_for("local"))
    assert digests(tmp_path / "trove") == digests(tmp_path / "own")
    assert {path.name for path in tmp_path.iterdir()} == {"corpus", "vocab.txt", "own", "trove"}


def test_one_engine_goes_on_with_the_work_of_another(corpus, vocab_file, tmp_path, monkeypatch):
    from flash.corpus.tokens import datatrove_engine

    prepare(corpus, tmp_path / "whole", vocab_file)
    with monkeypatch.context() as patch:
        patch.setattr(datatrove_engine, "build_index", lambda job: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare(corpus, tmp_path / "out", vocab_file, engine=engine_for("local"))
    prepare(corpus, tmp_path / "out", vocab_file)
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_what_was_lost_since_datatrove_did_it_is_done_again(corpus, vocab_file, tmp_path, monkeypatch):
    from flash.corpus.tokens import datatrove_engine

    prepare(corpus, tmp_path / "whole", vocab_file)
    with monkeypatch.context() as patch:
        patch.setattr(datatrove_engine, "finish", lambda job: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare(corpus, tmp_path / "out", vocab_file, engine=engine_for("local"))
    work = tmp_path / "out.work"
    os.truncate(work / "tasks" / "000001.json", 10)
    os.truncate(work / "dataset" / "shard-00000-of-00001.arrow", 10)
    prepare(corpus, tmp_path / "out", vocab_file, engine=engine_for("local"))
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


@pytest.mark.parametrize("kind", ["exact", "minhash"])
def test_of_documents_with_the_same_text_one_is_kept(corpus, vocab_file, tmp_path, kind):
    document = (
        "北京大学的学生在图书馆学习人工智能，天气很好，大家一起去公园玩，然后回家吃饭看电视读书。第二天小明又去上学了。"
    )
    lines = [f'{{"text": "{document}"}}\n'] * 5 + [f'{{"text": "{document}\\n"}}\n']
    (corpus / "c.jsonl").write_text("".join(lines), encoding="utf-8")
    settings = TokenSettings(max_length=64, deduplicate=kind)
    manifest = prepare(corpus, tmp_path / "own", vocab_file, settings)
    counts = manifest["counts"]
    assert counts["characters"] == counts["characters_in_blocks"] + counts["characters_rejected"]
    duplicates = [reject for reject in read_rejects(tmp_path / "own") if reject["reason"] == "duplicate"]
    of_file = [reject for reject in duplicates if reject["file"].endswith("c.jsonl")]
    assert len(of_file) == 5
    assert {reject["characters"] for reject in of_file} == {len(document)}
    assert manifest["options"]["deduplicate"] == kind
    assert "datatrove" in manifest["versions"]
    prepare(corpus, tmp_path / "trove", vocab_file, settings, engine=engine_for("local"))
    assert digests(tmp_path / "trove") == digests(tmp_path / "own")


def test_exact_keeps_what_differs_and_minhash_does_not(vocab_file, tmp_path):
    words = ["北京", "大学", "学生", "图书馆", "学习", "人工智能", "天气", "公园", "回家", "吃饭", "电视", "读书"]
    text = "，".join(words[i * 5 % 12] + words[i * 7 % 11] for i in range(60))
    lines = [f'{{"text": "{text}。"}}\n', f'{{"text": "{text}好。"}}\n', f'{{"text": "{text[::-1]}"}}\n']
    corpus = tmp_path / "c.jsonl"
    corpus.write_text("".join(lines), encoding="utf-8")
    rejected = {}
    for kind in ("exact", "minhash"):
        settings = TokenSettings(max_length=64, deduplicate=kind)
        rejected[kind] = prepare(corpus, tmp_path / kind, vocab_file, settings)["rejects"]
    assert rejected == {"exact": {}, "minhash": {"duplicate": 1}}


def test_words_of_all_documents_come_from_one_segmenter(monkeypatch):
    from flash.corpus.tokens import deduplication

    made = []
    load = deduplication.load_segmenter
    monkeypatch.setattr(deduplication, "load_segmenter", lambda choice: made.append(choice) or load(choice))
    words = pickle.loads(pickle.dumps(deduplication.SegmenterWords(SegmenterChoice())))
    assert [words.word_tokenize(text) for text in ("今天天气", "很好 吗")] == [["今天天气"], ["很", "好", "吗"]]
    assert made == [SegmenterChoice()]


def test_text_of_a_duplicate_is_not_held(monkeypatch):
    from flash.corpus.tokens import deduplication

    class DropAll:
        def __init__(self, **options):
            pass

        def run(self, documents, rank):
            for _ in documents:
                pass
            yield from ()

    class Work:
        place = "work"

        def child(self, name):
            return self

    class Job:
        settings = TokenSettings(deduplicate="exact")
        work = Work()

    def documents():
        for number in range(50):
            yield Document(text, "a.txt", number)
        # of this test alone: others may have left theirs
        held.append(sum(type(found) is Document and found.text is text for found in gc.get_objects()))

    text = "".join(["今天的天气", "很好"])
    held = []
    monkeypatch.setattr(deduplication, "ExactDedupFilter", DropAll)
    rejects = list(deduplication.reject_duplicates(Job(), 0, documents()))
    assert [(reject.reason, reject.line, reject.characters) for reject in rejects[:2]] == [
        ("duplicate", 0, 7),
        ("duplicate", 1, 7),
    ]
    assert len(rejects) == 50
    assert held[0] <= 2


@pytest.mark.parametrize(
    ("missing", "call", "message"),
    [
        ("ray", lambda: engine_for("ray"), r"--executor ray needs ray: pip install '\.\[scale\]' in the checkout"),
        (
            "datatrove",
            lambda: engine_for("local"),
            r"--executor local needs datatrove: pip install '\.\[scale\]' in the checkout",
        ),
        (None, lambda: engine_for("slurm"), "--executor slurm needs --slurm-partition"),
    ],
)
def test_what_is_missing_is_told_with_the_way_out(monkeypatch, missing, call, message):
    from flash.corpus.tokens import engines

    find_spec = importlib.util.find_spec
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == missing else find_spec(name))
    with pytest.raises(InputError, match=message):
        call()


def executable(path, text):
    path.write_text(text, encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.slow
def test_slurm_is_given_jobs_that_give_the_same_bytes(corpus, vocab_file, tmp_path, monkeypatch):
    """A stand-in for Slurm runs each job's script at once, with the variables of an array task."""
    prepare(corpus, tmp_path / "own", vocab_file, range_bytes=12_000)
    commands = tmp_path / "bin"
    commands.mkdir()
    executable(commands / "scontrol", "#!/bin/sh\necho localhost\n")
    executable(commands / "srun", '#!/bin/sh\nshift 3\nexec "$@"\n')
    executable(
        commands / "sbatch",
        "#!/bin/sh\n"
        "for file; do :; done\n"
        f"echo submit >> {tmp_path}/submitted\n"
        'last=$(sed -n "s/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p" "$file")\n'
        'if grep -q launch_pickled_pipeline "$file"; then for rank in $(seq 0 "$last"); do\n'
        f'SLURM_ARRAY_TASK_ID=$rank SLURM_NODELIST=localhost bash "$file" >> {tmp_path}/jobs.log 2>&1 || exit 1\n'
        "done; fi\necho Submitted batch job 7\n",
    )
    monkeypatch.setenv("PATH", f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    engine = engine_for("slurm", slurm_partition="cpu")
    assert prepare(corpus, tmp_path / "out", vocab_file, engine=engine, range_bytes=12_000) is None
    assert digests(tmp_path / "out") == digests(tmp_path / "own"), (tmp_path / "jobs.log").read_text()[-3000:]
    # tokenize, index, shards, finish, and the sum of the statistics of each
    assert (tmp_path / "submitted").read_text().count("submit") == 8


@pytest.mark.slow
def test_ray_with_a_worker_killed_gives_the_same_bytes(corpus, vocab_file, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason="needs pip install '.[scale]'")
    prepare(corpus, tmp_path / "own", vocab_file, range_bytes=8000)
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=80 << 20, log_to_driver=False, _memory=4 << 30)
    killed = []
    ended = threading.Event()

    def kill_a_worker():
        """Kill one worker, with the process it works in, once a task is done and it has another."""
        tasks = tmp_path / "out.work" / "tasks"
        while not ended.wait(0.05):
            if not list(tasks.glob("*.json")):
                continue
            for process in psutil.Process().children(recursive=True):
                try:
                    if process.name().startswith("ray::RankWorker") and process.children():
                        for child in [*process.children(recursive=True), process]:
                            os.kill(child.pid, signal.SIGKILL)
                        killed.append(process.pid)
                        return
                except (psutil.NoSuchProcess, ProcessLookupError):
                    continue

    thread = threading.Thread(target=kill_a_worker)
    thread.start()
    try:
        prepare(corpus, tmp_path / "out", vocab_file, engine=engine_for("ray"), workers=2, range_bytes=8000)
    finally:
        ended.set()
        thread.join()
        ray.shutdown()
        time.sleep(0.1)
    assert len(killed) == 1
    assert digests(tmp_path / "out") == digests(tmp_path / "own")
