import random
from collections import Counter

import pytest

from flash.corpus.records import Document
from flash.corpus.shuffle import LineShuffler, decode_document, encode_document


def shuffle(lines, folder, seed=1, **options):
    buckets = folder / "buckets"
    with LineShuffler(buckets, random.Random(seed), **options) as shuffler:
        for line in lines:
            shuffler.add(line)
        shuffled = list(shuffler.drain())
    assert shuffler.count == len(lines)
    assert list(buckets.iterdir()) == []
    buckets.rmdir()
    return shuffled


@pytest.mark.parametrize("bucket_bytes", [1 << 20, 40])
def test_all_lines_come_back_in_another_order(tmp_path, bucket_bytes):
    lines = [b"%d\n" % index for index in range(3000)]
    shuffled = shuffle(lines, tmp_path, bucket_bytes=bucket_bytes)
    assert shuffled != lines
    assert sorted(shuffled) == sorted(lines)


def test_order_depends_on_the_seed_alone(tmp_path):
    lines = [b"%d\n" % index for index in range(100)]
    assert shuffle(lines, tmp_path) == shuffle(lines, tmp_path)
    assert shuffle(lines, tmp_path) != shuffle(lines, tmp_path, seed=2)


def test_every_line_is_equally_likely_to_come_first(tmp_path):
    lines = [b"a\n", b"b\n", b"c\n"]
    firsts = Counter(shuffle(lines, tmp_path, seed=seed)[0] for seed in range(600))
    assert set(firsts) == set(lines)
    assert all(140 < count < 260 for count in firsts.values())  # 200 +- 5 standard deviations


@pytest.mark.parametrize("text", ["今天\n天气", "lone \ud800 surrogate", '"quoted" \\ \u2028', "👨\u200d👩"])
def test_document_survives_as_a_line(text):
    document = Document(text, "some 文件.txt", 3, part=1)
    line = encode_document(document)
    assert line.count(b"\n") == 1
    assert decode_document(line) == document
