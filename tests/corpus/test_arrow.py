import hashlib

import datasets
import numpy as np
import pyarrow as pa

from flash.corpus.arrow import DatasetWriter, to_record_batch
from flash.corpus.records import Block


def blocks(count, begin=0):
    return [Block(f"第{i}块\U00020000", np.arange(i % 5, dtype=np.int32), 4) for i in range(begin, begin + count)]


def write(folder, batches, **options):
    with DatasetWriter(folder, **options) as writer:
        for batch in batches:
            writer.write(to_record_batch(batch))
        return writer.finish()


def test_folder_opens_in_datasets_with_every_row(tmp_path):
    write(tmp_path / "out", [blocks(3), [], blocks(2, begin=3)])
    loaded = datasets.load_from_disk(str(tmp_path / "out"))
    assert loaded.features == datasets.Features(
        {"text": datasets.Value("string"), "chinese_ref": datasets.List(datasets.Value("int32"))}
    )
    assert loaded.to_list() == [{"text": block.text, "chinese_ref": block.chinese_ref.tolist()} for block in blocks(5)]


def test_full_shard_is_followed_by_another(tmp_path):
    shards = write(tmp_path / "out", [blocks(10, begin=10 * i) for i in range(4)], shard_bytes=1)
    assert [shard["file"] for shard in shards] == [f"data-{i:05d}-of-00004.arrow" for i in range(4)]
    assert [shard["rows"] for shard in shards] == [10] * 4
    for shard in shards:
        data = (tmp_path / "out" / shard["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == shard["sha256"]
    assert datasets.load_from_disk(str(tmp_path / "out"))["text"][:] == [block.text for block in blocks(40)]


def test_same_rows_give_the_same_bytes_and_other_rows_another_fingerprint(tmp_path):
    for name, batch in (("a", blocks(3)), ("b", blocks(3)), ("c", blocks(3, begin=1))):
        write(tmp_path / name, [batch])
    files = {name: sorted((tmp_path / name).iterdir()) for name in "abc"}
    assert [p.read_bytes() for p in files["a"]] == [p.read_bytes() for p in files["b"]]
    prints = [datasets.load_from_disk(str(tmp_path / name))._fingerprint for name in "abc"]
    assert prints[0] == prints[1] != prints[2]


def test_file_is_closed_when_the_work_is_broken_off(tmp_path):
    with DatasetWriter(tmp_path / "out") as writer:
        writer.write(to_record_batch(blocks(1)))
    assert isinstance(writer._sink, pa.NativeFile)
    assert writer._sink.closed
