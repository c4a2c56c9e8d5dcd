import itertools
import json
import os
import shutil
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flash.corpus.documents import ReadingSettings
from flash.corpus.prepare import PrepareSettings, prepare_dataset
from flash.corpus.segment import SegmenterChoice
from flash.corpus.split import BlockSplitter
from flash.corpus.tokenizer_loading import load_tokenizer, save_tokenizer
from flash.corpus.tokens import runs, shards
from flash.corpus.tokens.job import load_job
from flash.corpus.tokens.local_engine import run_locally
from flash.corpus.tokens.prepare import prepare_tokens
from flash.corpus.tokens.settings import TokenSettings
from flash.data.token_dataset import TokenDataset
from flash.data.token_folder import open_token_folder
from flash.errors import InputError

from prepared_tokens import STORY, digests, read_rejects, read_rows, without_manifest, write_corpus

SHORT = TokenSettings(max_length=64)
SETTINGS_OF = {prepare_tokens: SHORT, prepare_dataset: PrepareSettings(max_length=64)}


@pytest.fixture
def corpus(tmp_path):
    return write_corpus(tmp_path / "corpus")


def test_rows_are_those_of_the_dataset_folder(corpus, vocab_file, tmp_path):
    prepare_dataset([corpus], tmp_path / "text", vocab_file, PrepareSettings(max_length=64), workers=1)
    manifest = prepare_tokens([corpus], tmp_path / "tokens", vocab_file, SHORT, workers=1)
    tokenizer = load_tokenizer(vocab_file)
    expected = datasets.load_from_disk(str(tmp_path / "text")).to_list()
    rows = read_rows(tmp_path / "tokens")
    assert len(rows) == len(expected) == manifest["counts"]["rows"]
    for row, text_row in zip(rows, expected, strict=True):
        assert row["input_ids"] == tokenizer(text_row["text"])["input_ids"]
        continues = [position for position, begins in enumerate(row["word_starts"]) if not begins]
        assert continues == text_row["chinese_ref"]


def test_shards_can_be_mapped_and_have_the_columns_of_the_format(corpus, vocab_file, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_BATCH_ROWS", 7)
    manifest = prepare_tokens([corpus], tmp_path / "out", vocab_file, SHORT, workers=1)
    (shard,) = manifest["shards"]
    assert shard["file"] == "shard-00000-of-00001.arrow"
    with pa.memory_map(str(tmp_path / "out" / shard["file"])) as source:
        before = pa.total_allocated_bytes()
        reader = pa.ipc.open_file(source)
        batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]
        assert pa.total_allocated_bytes() == before
    assert reader.schema == pa.schema([("input_ids", pa.large_list(pa.uint16())), ("word_starts", pa.large_binary())])
    assert all(batch.num_rows == 7 for batch in batches[:-1])
    assert sum(batch.num_rows for batch in batches) == shard["rows"]
    assert (tmp_path / "out" / "tokenizer" / "tokenizer.json").is_file()


def test_large_vocabulary_has_ids_of_32_bits(corpus, vocab_file, tmp_path):
    more = "".join(f"token{i}\n" for i in range(1 << 16))
    vocab_file.write_text(more + vocab_file.read_text(encoding="utf-8"), encoding="utf-8")
    prepare_tokens([corpus], tmp_path / "out", vocab_file, SHORT, workers=1)
    with pa.memory_map(str(tmp_path / "out" / "shard-00000-of-00001.arrow")) as source:
        assert pa.ipc.open_file(source).schema.field("input_ids").type == pa.large_list(pa.uint32())
    assert max(read_rows(tmp_path / "out")[0]["input_ids"]) >= 1 << 16


def test_manifest_accounts_for_everything(corpus, vocab_file, tmp_path):
    (corpus / "c.txt").write_text("短\n\n好吧\n\n", encoding="utf-8")
    manifest = prepare_tokens([corpus], tmp_path / "out", vocab_file, SHORT, workers=1)
    assert manifest == json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["format_version"], manifest["format"]) == (2, "tokens")
    counts, rows = manifest["counts"], read_rows(tmp_path / "out")
    assert counts["documents"] == 64
    assert counts["characters"] == counts["characters_in_blocks"] + counts["characters_rejected"]
    assert counts["characters_rejected"] == 3
    assert counts["tokens"] == sum(len(row["input_ids"]) for row in rows) == manifest["shards"][0]["tokens"]
    assert counts["words"] == sum(sum(row["word_starts"]) - 2 for row in rows)
    assert manifest["rejects"] == {"short_block": 2}
    assert sum(reject["characters"] for reject in read_rejects(tmp_path / "out")) == 3
    tokenizer = load_tokenizer(vocab_file)
    assert manifest["tokenizer"]["special_ids"]["mask"] == tokenizer.mask_token_id
    for described, path in zip(manifest["inputs"], sorted(corpus.iterdir()), strict=True):
        assert (described["path"], described["bytes"]) == (str(path), path.stat().st_size)
    for shard in manifest["shards"]:
        assert digests(tmp_path / "out")[shard["file"]] == shard["sha256"]
        assert (tmp_path / "out" / shard["file"]).stat().st_size == shard["bytes"]
    assert not (tmp_path / "out.work").exists()


@pytest.mark.parametrize("make", [prepare_tokens, prepare_dataset])
def test_tokenizer_within_the_input_is_no_input(corpus, vocab_file, tmp_path, make):
    save_tokenizer(load_tokenizer(vocab_file), corpus / "tokenizer")
    shutil.copy(vocab_file, corpus)
    for tokenizer in (corpus / "tokenizer", corpus / "vocab.txt"):
        shutil.copy(vocab_file, corpus / "tokenizer")
        manifest = make([corpus], tmp_path / f"out {tokenizer.name}", tokenizer, SETTINGS_OF[make], workers=1)
        assert tokenizer not in [Path(entry["path"]) for entry in manifest["inputs"]]
        assert tokenizer / "vocab.txt" not in [Path(entry["path"]) for entry in manifest["inputs"]]


@pytest.mark.parametrize("make", [prepare_tokens, prepare_dataset])
def test_characters_that_get_lost_are_noticed(corpus, vocab_file, tmp_path, monkeypatch, make):
    split = BlockSplitter.split
    monkeypatch.setattr(BlockSplitter, "split", lambda self, text, spans: list(split(self, text, spans))[:3])
    with pytest.raises(AssertionError, match="characters"):
        make([corpus], tmp_path / "out", vocab_file, workers=1, settings=SETTINGS_OF[make])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("shuffle_seed", [None, 5])
@pytest.mark.parametrize("pack", [False, True])
def test_bytes_do_not_depend_on_how_the_work_is_shared_out(
    corpus, vocab_file, tmp_path, monkeypatch, shuffle_seed, pack
):
    (corpus / "c.jsonl").write_text('{"text": 1}\n{"text"\n' * 30, encoding="utf-8")
    monkeypatch.setattr(shards, "_SHARD_TOKENS", 1000)
    settings = TokenSettings(max_length=64, shuffle_seed=shuffle_seed, pack=pack)
    manifest = prepare_tokens([corpus], tmp_path / "whole", vocab_file, settings, workers=1)
    expected = without_manifest(tmp_path / "whole")
    assert len(expected) > 5
    assert sum(shard["tokens"] for shard in manifest["shards"]) == manifest["counts"]["tokens"]
    monkeypatch.setattr(runs, "_RUN_ROWS", 10)
    monkeypatch.setattr(runs, "BATCH_ROWS", 3)
    for range_bytes in (700, 5000):
        out = tmp_path / str(range_bytes)
        prepare_tokens([corpus], out, vocab_file, settings, workers=1, range_bytes=range_bytes)
        assert without_manifest(out) == expected


def test_bytes_do_not_depend_on_the_number_of_workers(corpus, vocab_file, tmp_path, monkeypatch):
    from flash.corpus import workers

    monkeypatch.setattr(workers, "_BYTES_PER_WORKER", 1)
    settings = TokenSettings(max_length=64, shuffle_seed=1, pack=True)
    for count in (1, 2):
        out = tmp_path / str(count)
        prepare_tokens([corpus], out, vocab_file, settings, workers=count, range_bytes=3000)
    assert digests(tmp_path / "1") == digests(tmp_path / "2")


def test_shuffled_documents_are_all_there_in_another_order_and_stay_together(vocab_file, tmp_path):
    texts = ["".join(f"{document} {sentence} {STORY}" for sentence in range(4)) for document in range(50)]
    (tmp_path / "a.txt").write_text("\n\n".join(texts), encoding="utf-8")
    orders = {}
    for seed in (None, 1, 2):
        settings = TokenSettings(max_length=64, shuffle_seed=seed)
        prepare_tokens([tmp_path / "a.txt"], tmp_path / str(seed), vocab_file, settings, workers=1)
        orders[seed] = [tuple(row["input_ids"]) for row in read_rows(tmp_path / str(seed))]
    assert sorted(orders[1]) == sorted(orders[2]) == sorted(orders[None])
    assert len({tuple(order) for order in orders.values()}) == 3
    following = dict(itertools.pairwise(orders[None]))
    assert len(following) == len(orders[None]) - 1  # no row is there twice
    kept = sum(following.get(first) == second for first, second in itertools.pairwise(orders[1]))
    assert len(orders[None]) - len(texts) <= kept < len(orders[None]) - len(texts) + 10


def test_packed_rows_hold_the_sequences_and_say_how_long_they_are(corpus, vocab_file, tmp_path):
    prepare_tokens([corpus], tmp_path / "single", vocab_file, SHORT, workers=1)
    packed = TokenSettings(max_length=64, pack=True)
    manifest = prepare_tokens([corpus], tmp_path / "packed", vocab_file, packed, workers=1)
    single = [(row["input_ids"], row["word_starts"]) for row in read_rows(tmp_path / "single")]
    rows = read_rows(tmp_path / "packed")
    assert len(rows) < len(single)
    assert manifest["counts"]["rows"] == len(rows)
    assert manifest["counts"]["sequences"] == len(single)
    unpacked = []
    for row in rows:
        assert len(row["input_ids"]) == sum(row["sequence_lengths"]) <= 64
        begin = 0
        for length in row["sequence_lengths"]:
            unpacked.append((row["input_ids"][begin : begin + length], row["word_starts"][begin : begin + length]))
            begin += length
    assert sorted(unpacked) == sorted(single)


def test_rejects_tell_the_place_of_their_line(corpus, vocab_file, tmp_path):
    bad = corpus / "坏 文件\n.jsonl"
    good = json.dumps({"text": STORY}, ensure_ascii=False).encode()
    bad.write_bytes(b"\n".join([good, b"{", good, b'{"text": "\xff"}', b'{"content": 1}', good] * 20))
    manifest = prepare_tokens([corpus], tmp_path / "out", vocab_file, SHORT, workers=1, range_bytes=500)
    assert manifest["rejects"] == {"broken_json": 20, "invalid_utf8": 20, "missing_key": 20}
    rejects = read_rejects(tmp_path / "out")
    data = bad.read_bytes()
    lines = data.split(b"\n")
    assert len(rejects) == 60
    for reject in rejects:
        line = lines[reject["line"] - 1]
        assert data[reject["offset"] : reject["offset"] + len(line)] == line
        assert line != good
        assert Path(reject["file"].encode().decode("unicode_escape").encode("latin1").decode()) == bad
    described = next(entry for entry in manifest["inputs"] if "\\n" in entry["path"])
    assert described["documents"] == 60
    assert sum(part["bytes"] for part in described["ranges"]) == described["bytes"] == len(data)


def test_rejects_of_parquet_tell_the_row_alone(vocab_file, tmp_path):
    pq.write_table(pa.table({"text": [STORY, "短", None]}), tmp_path / "a.parquet")
    prepare_tokens([tmp_path / "a.parquet"], tmp_path / "out", vocab_file, SHORT, workers=1)
    found = [(reject["reason"], reject["line"], reject["offset"]) for reject in read_rejects(tmp_path / "out")]
    assert found == [("short_block", 2, None), ("not_a_string", 3, None)]


def test_blank_file_read_in_parts_is_told_once(corpus, vocab_file, tmp_path):
    (corpus / "blank.txt").write_bytes(b"\n" * 2000)
    manifest = prepare_tokens([corpus], tmp_path / "out", vocab_file, SHORT, workers=1, range_bytes=500)
    assert manifest["rejects"] == {"empty_file": 1}
    (reject,) = read_rejects(tmp_path / "out")
    assert (reject["file"], reject["line"], reject["offset"]) == (str(corpus / "blank.txt"), None, None)


def test_long_document_goes_on_in_order_when_shuffled(vocab_file, tmp_path):
    (tmp_path / "a.txt").write_text(f"{STORY}" * 60, encoding="utf-8")
    reading = ReadingSettings(max_document_chars=300)
    rows = {}
    for seed in (None, 3):
        settings = TokenSettings(max_length=64, shuffle_seed=seed, reading=reading)
        manifest = prepare_tokens([tmp_path / "a.txt"], tmp_path / str(seed), vocab_file, settings, workers=1)
        rows[seed] = read_rows(tmp_path / str(seed))
    assert manifest["counts"]["continued_documents"] == 1
    assert rows[None] == rows[3]


def test_nothing_usable_is_an_error_that_leaves_nothing(vocab_file, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text"\n', encoding="utf-8")
    with pytest.raises(InputError, match="no usable text in the 1 input files: 1 broken_json"):
        prepare_tokens([tmp_path / "a.jsonl"], tmp_path / "out", vocab_file, workers=1)
    assert {path.name for path in tmp_path.iterdir()} == {"a.jsonl", "vocab.txt"}


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", "今天的天气很好，我们一起去公园玩吧！\n".encode("gb18030"), "pass --encoding gb18030"),
        ("a.jsonl", '{"content": "今天的天气很好"}\n'.encode(), "name the key that holds the text with --json-key"),
        ("a.txt", "很好\n".encode(), "fewer than the 10 of a block"),
    ],
)
def test_where_nothing_is_usable_each_reason_is_told(vocab_file, tmp_path, caplog, name, content, expected):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="no usable text in the 1 input files: 1 "):
        prepare_tokens([tmp_path / name], tmp_path / "out", vocab_file, workers=1)
    (told,) = caplog.messages
    assert name in told
    assert expected in told


def test_existing_folder_is_replaced_only_when_asked(corpus, vocab_file, tmp_path):
    out = tmp_path / "out"
    prepare_dataset([corpus], out, vocab_file, PrepareSettings(max_length=64), workers=1)
    with pytest.raises(InputError, match="exists: pass --overwrite"):
        prepare_tokens([corpus], out, vocab_file, SHORT, workers=1)
    prepare_tokens([corpus], out, vocab_file, SHORT, workers=1, overwrite=True)
    assert sorted(path.name for path in out.iterdir()) == ["manifest.json", "shard-00000-of-00001.arrow", "tokenizer"]
    (out / "notes.txt").touch()
    with pytest.raises(InputError, match=r"notes\.txt, which is none of this command's files"):
        prepare_tokens([corpus], out, vocab_file, SHORT, workers=1, overwrite=True)


def test_input_is_never_replaced_by_the_output(corpus, vocab_file, tmp_path):
    with pytest.raises(InputError, match=r"a\.txt is not replaced, because it is no folder"):
        prepare_tokens([corpus], corpus / "a.txt", vocab_file, SHORT, workers=1, overwrite=True)
    assert (corpus / "a.txt").is_file()


def test_root_is_no_output(corpus, vocab_file):
    with pytest.raises(InputError, match="/ is no folder that can be made"):
        prepare_tokens([corpus], "/", vocab_file, SHORT, workers=1)


def test_name_of_the_output_need_not_be_utf8(corpus, vocab_file, tmp_path):
    prepare_tokens([corpus], tmp_path / "out", vocab_file, SHORT, workers=1)
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    prepare_tokens([corpus], odd, vocab_file, SHORT, workers=1)
    assert digests(odd) == digests(tmp_path / "out")
    tokenizer = load_tokenizer(vocab_file)
    rows = [TokenDataset(open_token_folder(folder, tokenizer), max_length=64)[0] for folder in (tmp_path / "out", odd)]
    assert rows[0].input_ids.tolist() == rows[1].input_ids.tolist()


def test_relative_paths_are_those_of_where_the_command_was_given(corpus, vocab_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare_tokens(["corpus"], "here", vocab_file, SHORT, workers=1)

    def elsewhere(job, workers, log_interval):
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        return run_locally(load_job(job.work.place), workers, log_interval)

    manifest = prepare_tokens(["corpus"], tmp_path / "there", vocab_file, SHORT, workers=1, engine=elsewhere)
    assert [entry["path"] for entry in manifest["inputs"]] == ["corpus/a.txt", "corpus/b.jsonl"]
    assert digests(tmp_path / "there") == digests(tmp_path / "here")


def test_segmenter_decides_the_word_starts_and_is_named(corpus, vocab_file, tmp_path):
    settings = TokenSettings(max_length=64, segmenter=SegmenterChoice("whitespace"))
    manifest = prepare_tokens([corpus], tmp_path / "out", vocab_file, settings, workers=1)
    assert manifest["segmenter"] == {"name": "whitespace", "version": "1", "user_dictionary": None}
    assert sum(read_rows(tmp_path / "out")[0]["word_starts"]) == 3  # of the special tokens and of the one word


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_length": 3}, "at least 16 tokens, got 3"),
        ({"min_block_chars": 0}, "at least 1, got 0"),
        ({"deduplicate": "some"}, "exact or minhash, got 'some'"),
        ({"reading": ReadingSettings("x")}, "unknown encoding 'x'"),
    ],
)
def test_wrong_setting_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        TokenSettings(**settings)


def test_sample_with_every_fault_is_read(shared_data, tmp_path):
    vocab = shared_data / "vocab" / "roformer_char_vocab.txt"
    hostile = shared_data / "raw_txt_sample" / "hostile"
    manifest = prepare_tokens([hostile], tmp_path / "out", vocab, workers=1, range_bytes=20_000)
    assert manifest["rejects"] == {"empty_file": 2, "invalid_utf8": 4, "looks_like_gbk": 1}
    assert manifest["counts"]["characters"] > 300_000
