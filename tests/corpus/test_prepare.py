import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import datasets
import pytest

from flash.corpus import workers
from flash.corpus.arrow import DatasetWriter
from flash.corpus.clean import clean_text
from flash.corpus.documents import ReadingSettings
from flash.corpus.embedded import embedded_corpus
from flash.corpus.prepare import PrepareSettings, prepare_dataset
from flash.corpus.segment import RjiebaSegmenter
from flash.corpus.tokenizer_loading import load_tokenizer
from flash.errors import InputError

STORY = "今天的天气很好，我们去公园玩。小明说：“你好！”然后大家一起回家吃饭，晚上看电视、读书；第二天又去上学了。"


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.txt").write_text(f"{STORY}\n{STORY}\n\n{STORY}Hello world 2023!\n", encoding="utf-8")
    rows = [{"text": f"{i} {STORY}" * (i % 5 + 1)} for i in range(40)]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "b.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def rows_of(folder):
    return datasets.load_from_disk(str(folder)).to_list()


def test_rows_carry_the_segmenters_words_of_all_the_text(corpus, vocab_file, tmp_path):
    manifest = prepare_dataset([corpus], tmp_path / "out", vocab_file, PrepareSettings(max_length=64))
    rows = rows_of(tmp_path / "out")
    texts = [f"{STORY} {STORY}", f"{STORY}Hello world 2023!"]
    texts += [clean_text(f"{i} {STORY}" * (i % 5 + 1)) for i in range(40)]
    assert "".join(row["text"] for row in rows) == "".join(texts)
    tokenizer = load_tokenizer(vocab_file)
    for row in rows:
        encoding = tokenizer(row["text"], return_offsets_mapping=True)
        assert len(encoding["input_ids"]) <= 64
        word_begins, position = set(), 0
        for word in RjiebaSegmenter().cut(row["text"]):
            word_begins.add(position)
            position += len(word)
        begins = [start for start, _ in encoding["offset_mapping"]]
        expected = [i for i in range(1, len(begins) - 1) if begins[i] not in word_begins]
        assert row["chinese_ref"] == expected
    assert manifest["counts"]["tokens"] == sum(len(tokenizer(row["text"])["input_ids"]) - 2 for row in rows)


def test_manifest_accounts_for_everything(corpus, vocab_file, tmp_path):
    (corpus / "c.txt").write_text("短\n\n好吧\n\n", encoding="utf-8")
    manifest = prepare_dataset([corpus], tmp_path / "out", vocab_file)
    assert json.loads((tmp_path / "out" / "manifest.json").read_text()) == manifest
    counts = manifest["counts"]
    rows = rows_of(tmp_path / "out")
    assert counts["documents"] == 44
    assert counts["blocks"] == len(rows)
    assert counts["characters_in_blocks"] == sum(len(row["text"]) for row in rows)
    assert counts["characters_rejected"] == 3
    assert counts["characters"] == counts["characters_in_blocks"] + 3
    assert counts["continuation_tokens"] == sum(len(row["chinese_ref"]) for row in rows)
    assert manifest["rejects"] == {"short_block": 2}
    assert manifest["chinese_ref"] == "all continuation tokens"
    assert manifest["segmenter"]["name"] == "rjieba"
    assert manifest["options"]["max_length"] == 512
    assert [summary["document_count"] for summary in manifest["inputs"]] == [2, 40, 2]
    for summary in manifest["inputs"]:
        assert hashlib.sha256(Path(summary["path"]).read_bytes()).hexdigest() == summary["sha256"]
    rejects = [json.loads(line) for line in (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()]
    assert [(reject["line"], reject["characters"]) for reject in rejects] == [(1, 1), (3, 2)]


def test_result_does_not_depend_on_the_number_of_workers(corpus, vocab_file, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "_BYTES_PER_WORKER", 1)
    monkeypatch.setattr("flash.corpus.batches._BATCH_CHARS", 500)
    (corpus / "bad.txt").write_bytes(b"\xff\n" + "短".encode() + b"\n\n\xfe\n")
    for count in (1, 2):
        prepare_dataset([corpus], tmp_path / str(count), vocab_file, workers=count)
    assert digests(tmp_path / "1") == digests(tmp_path / "2")


def test_shuffled_documents_are_all_there_in_another_order_that_the_seed_decides(corpus, vocab_file, tmp_path):
    (corpus / "bad.txt").write_bytes(b"\xff\n")
    for name, seed in (("plain", None), ("1", 1), ("again", 1), ("2", 2)):
        manifest = prepare_dataset([corpus], tmp_path / name, vocab_file, PrepareSettings(shuffle_seed=seed))
        assert manifest["rejects"] == {"invalid_utf8": 1}
        assert len(manifest["inputs"]) == 3
    texts = {name: [row["text"] for row in rows_of(tmp_path / name)] for name in ("plain", "1", "2")}
    assert texts["plain"] != texts["1"] != texts["2"]
    assert sorted(texts["plain"]) == sorted(texts["1"]) == sorted(texts["2"])
    assert digests(tmp_path / "1") == digests(tmp_path / "again")
    assert not list(tmp_path.glob("*.scratch"))


def test_result_does_not_depend_on_the_time_or_the_place(corpus, vocab_file, tmp_path):
    for name in ("1", "2"):
        prepare_dataset([corpus], tmp_path / name, vocab_file)
    assert digests(tmp_path / "1") == digests(tmp_path / "2")


def test_good_data_around_bad_data_is_kept(vocab_file, tmp_path, caplog):
    folder = tmp_path / "hostile"
    folder.mkdir()
    good = STORY.encode()
    contents = {
        "bom.txt": b"\xef\xbb\xbf" + good,
        "crlf.txt": STORY.replace("。", "。\r\n").encode(),
        "cr.txt": STORY.replace("。", "。\r").encode(),
        "empty.txt": b"",
        "gbk.txt": STORY.encode("gbk"),
        "invalid.txt": good + b"\n\xff\xff\n" + good,
        "nul.txt": STORY.replace("公", "公\x00").encode(),
        "white.txt": b" \n\t\n",
        "名 字\n行.txt": good,
        "rows.jsonl": b'{"text": 1}\n{"txet": ""}\n{"text"\n' + json.dumps({"text": STORY}).encode(),
        "surrogate.jsonl": json.dumps({"text": "\ud800" + STORY}).encode(),
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    manifest = prepare_dataset([folder], tmp_path / "out", vocab_file)
    assert manifest["rejects"] == {
        "broken_json": 1,
        "empty_file": 2,
        "invalid_utf8": 1,
        "looks_like_gbk": 1,
        "missing_key": 1,
        "not_a_string": 1,
    }
    texts = [row["text"] for row in rows_of(tmp_path / "out")]
    assert [text.replace(" ", "") for text in texts] == [STORY] * 3 + [STORY * 2] + [STORY] * 4
    assert all("\n" not in message for message in caplog.messages)
    assert any("gbk.txt: looks like GBK: pass --encoding gb18030" in message for message in caplog.messages)


def test_file_that_may_not_be_read_is_left_out(corpus, vocab_file, tmp_path, monkeypatch):
    open_path = Path.open

    def refuse(path, *arguments, **options):
        if path.name == "a.txt":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return open_path(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    manifest = prepare_dataset([corpus], tmp_path / "out", vocab_file)
    assert manifest["rejects"] == {"unreadable_file": 1}
    assert manifest["counts"]["documents"] == 40


@pytest.mark.parametrize("data", [b"", b" \n\n", b"\xff\xfe", "好".encode()])
def test_input_without_any_usable_text_is_an_error(data, vocab_file, tmp_path):
    (tmp_path / "bad.txt").write_bytes(data)
    with pytest.raises(InputError, match=r"no usable text in .*bad\.txt: 1 "):
        prepare_dataset([tmp_path / "bad.txt"], tmp_path / "out", vocab_file)
    assert not list(tmp_path.glob("out*"))


def test_existing_dataset_is_replaced_only_when_told(corpus, vocab_file, tmp_path):
    prepare_dataset([corpus / "a.txt"], tmp_path / "out", vocab_file)
    before = digests(tmp_path / "out")
    with pytest.raises(InputError, match="out exists: pass --overwrite"):
        prepare_dataset([corpus], tmp_path / "out", vocab_file)
    assert digests(tmp_path / "out") == before
    prepare_dataset([corpus], tmp_path / "out", vocab_file, overwrite=True)
    assert len(rows_of(tmp_path / "out")) > 2


def test_wrong_settings_are_refused():
    with pytest.raises(InputError, match="max_length must be at least 16 tokens, got 8"):
        PrepareSettings(max_length=8)
    with pytest.raises(InputError, match="min_block_chars must be at least 1, got 0"):
        PrepareSettings(min_block_chars=0)
    with pytest.raises(InputError, match="utf-16"):
        PrepareSettings(reading=ReadingSettings(encoding="utf-16"))


def test_full_disk_leaves_nothing_behind(corpus, vocab_file, tmp_path, monkeypatch):
    def full(writer, batch):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(DatasetWriter, "write", full)
    with pytest.raises(OSError, match="No space left"):
        prepare_dataset([corpus], tmp_path / "out", vocab_file)
    assert not list(tmp_path.glob("out*"))


@pytest.fixture
def small_disk(tmp_path):
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(mount)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("a small file system can be mounted by root only")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def test_disk_that_becomes_full_leaves_nothing_behind(vocab_file, tmp_path, small_disk):
    (tmp_path / "big.txt").write_text(f"{STORY}\n\n" * 20_000, encoding="utf-8")
    with pytest.raises(OSError, match="No space left") as caught:
        prepare_dataset([tmp_path / "big.txt"], small_disk / "out", vocab_file, workers=1)
    assert not isinstance(caught.value, ChildProcessError)
    assert list(small_disk.iterdir()) == []


def test_killed_run_leaves_no_output_and_the_next_gives_the_same(vocab_file, tmp_path):
    corpus = tmp_path / "big.txt"
    corpus.write_text(f"{STORY}\n\n" * 25_000, encoding="utf-8")
    program = (
        "import sys; from pathlib import Path; from flash.corpus.prepare import prepare_dataset\n"
        "prepare_dataset([Path(sys.argv[1])], Path(sys.argv[2]), sys.argv[3], workers=1)"
    )
    output = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", program, corpus, output, vocab_file])
    partial_data = tmp_path / "out.partial" / "data-00000.arrow"
    while not (partial_data.exists() and partial_data.stat().st_size > 100_000):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not output.exists()
    assert partial_data.exists()
    prepare_dataset([corpus], output, vocab_file, workers=1)
    prepare_dataset([corpus], tmp_path / "undisturbed", vocab_file, workers=1)
    assert digests(output) == digests(tmp_path / "undisturbed")
    assert not partial_data.exists()


def test_what_a_killed_run_left_within_the_input_is_no_input(corpus, vocab_file, tmp_path):
    prepare_dataset([corpus], tmp_path / "whole", vocab_file, workers=1)
    for name in (".out.lock", "out.partial/rejects.jsonl", "out.scratch/buckets/00"):
        (corpus / name).parent.mkdir(parents=True, exist_ok=True)
        (corpus / name).write_text('{"reason": "broken_json"}\n')
    prepare_dataset([corpus], corpus / "out", vocab_file, workers=1)
    assert digests(corpus / "out") == digests(tmp_path / "whole")


@pytest.mark.parametrize("text", ["字" * 1_000_005, "word " * 300_000])
def test_document_continued_in_another_record_is_kept_whole(text, vocab_file, tmp_path):
    (tmp_path / "long.txt").write_text(text, encoding="utf-8")
    manifest = prepare_dataset([tmp_path / "long.txt"], tmp_path / "out", vocab_file, workers=1)
    assert manifest["counts"]["continued_documents"] == 1
    assert manifest["rejects"] == {}
    assert "".join(row["text"] for row in rows_of(tmp_path / "out")) == clean_text(text)


def test_manifest_names_the_embedded_corpus_without_its_place(vocab_file, tmp_path):
    manifest = prepare_dataset([embedded_corpus()], tmp_path / "out", vocab_file, workers=1)
    assert {str(Path(summary["path"]).parent) for summary in manifest["inputs"]} == {"everyday_zh"}


@pytest.mark.slow
def test_line_of_100_megabytes_takes_little_memory(vocab_file, tmp_path):
    path = tmp_path / "line.txt"
    with path.open("w", encoding="utf-8") as file:
        for _ in range(100):
            file.write(STORY * (1_000_000 // len(STORY.encode())))
    program = (
        "import resource, sys; from pathlib import Path; from flash.corpus.prepare import prepare_dataset\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "prepare_dataset([Path(sys.argv[1])], Path(sys.argv[2]), sys.argv[3], workers=1)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    command = [sys.executable, "-c", program, path, tmp_path / "out", vocab_file]
    grown_mib = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["counts"]["documents"] == 1
    assert manifest["counts"]["continued_documents"] == 1
    assert manifest["counts"]["characters_in_blocks"] == len(path.read_text(encoding="utf-8"))
    assert grown_mib < 300


def test_sample_with_every_fault_is_read(shared_data, tmp_path):
    vocab = shared_data / "vocab" / "roformer_char_vocab.txt"
    manifest = prepare_dataset([shared_data / "raw_txt_sample" / "hostile"], tmp_path / "out", vocab)
    assert manifest["rejects"] == {"empty_file": 2, "invalid_utf8": 4, "looks_like_gbk": 1}
    assert manifest["counts"]["characters"] > 300_000
