"""Token folders read back with nothing but Arrow and numpy, and a small corpus to make them from."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa

STORY = "今天的天气很好，我们去公园玩。小明说：“你好！”然后大家一起回家吃饭，晚上看电视、读书；第二天又去上学了。"


def write_corpus(folder: Path) -> Path:
    """Two text files and one of JSON lines, 62 documents of one to six blocks of 64 tokens."""
    folder.mkdir()
    (folder / "a.txt").write_text(f"{STORY}\n{STORY}\n\n{STORY}Hello world 2023!\n", encoding="utf-8")
    texts = [f"{i} {STORY}" * (i % 5) + STORY[: 12 + i % 40] for i in range(60)]
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
    (folder / "b.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def without_manifest(folder: Path) -> dict[str, str]:
    return {name: digest for name, digest in digests(folder).items() if name != "manifest.json"}


def read_rows(folder: Path) -> list[dict]:
    """All rows: ``input_ids`` and ``word_starts`` as lists, ``sequence_lengths`` where there are some."""
    rows = []
    for path in sorted(folder.glob("shard-*.arrow")):
        with pa.memory_map(str(path)) as source:
            rows += pa.ipc.open_file(source).read_all().to_pylist()
    for row in rows:
        packed = np.frombuffer(row["word_starts"], dtype=np.uint8)
        row["word_starts"] = np.unpackbits(packed, bitorder="little", count=len(row["input_ids"])).tolist()
        assert len(packed) == -(-len(row["input_ids"]) // 8)
    return rows


def read_rejects(folder: Path) -> list[dict]:
    path = folder / "rejects.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
