import fsspec
import pyarrow as pa
import pytest

from flash.corpus.tokens import stages
from flash.corpus.tokens.prepare import prepare_tokens
from flash.corpus.tokens.settings import TokenSettings
from flash.errors import InputError

from prepared_tokens import digests, write_corpus

SETTINGS = TokenSettings(max_length=64, shuffle_seed=2)


@pytest.fixture
def bucket(tmp_path):
    """An object store of this process, with the corpus in it."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    store.pseudo_dirs[:] = [""]
    for path in sorted(write_corpus(tmp_path / "corpus").iterdir()):
        store.pipe_file(f"/bucket/corpus/{path.name}", path.read_bytes())
    return store


def stored(bucket, folder):
    names = bucket.find(folder)
    return {name.removeprefix(f"{folder}/"): bucket.cat_file(name) for name in names}


def test_an_object_store_holds_the_same_bytes(bucket, vocab_file, tmp_path):
    prepare_tokens([tmp_path / "corpus"], tmp_path / "out", vocab_file, SETTINGS, workers=1, range_bytes=2000)
    manifest = prepare_tokens(
        ["memory://bucket/corpus"], "memory://bucket/out", vocab_file, SETTINGS, workers=1, range_bytes=2000
    )
    assert [entry["path"] for entry in manifest["inputs"]] == [
        "memory:///bucket/corpus/a.txt",
        "memory:///bucket/corpus/b.jsonl",
    ]
    expected = {name: (tmp_path / "out" / name).read_bytes() for name in digests(tmp_path / "out")}
    found = stored(bucket, "/bucket/out")
    assert found.keys() == expected.keys()
    assert all(found[name] == expected[name] for name in expected if name != "manifest.json")
    with fsspec.open("memory://bucket/out/shard-00000-of-00001.arrow") as file:
        assert pa.ipc.open_file(file).read_all().num_rows == manifest["counts"]["rows"]


@pytest.mark.parametrize("name", ["run*", "run[1]", "run?"])
def test_url_that_is_a_pattern_is_no_output(bucket, vocab_file, name):
    with pytest.raises(InputError, match=r"holds one of \* \? \[, which is a pattern to file systems: name another"):
        prepare_tokens(["memory://bucket/corpus"], f"memory://bucket/{name}", vocab_file, SETTINGS, workers=1)


def test_manifest_is_written_last_and_removed_first(bucket, vocab_file, monkeypatch):
    prepare_tokens(["memory://bucket/corpus"], "memory://bucket/out", vocab_file, SETTINGS, workers=1)
    with pytest.raises(InputError, match="memory://bucket/out exists: pass --overwrite"):
        prepare_tokens(["memory://bucket/corpus"], "memory://bucket/out", vocab_file, SETTINGS, workers=1)
    expected = stored(bucket, "/bucket/out")
    put_file = type(bucket).put_file

    def failing(self, source, target, **options):
        if target.endswith("000000.json"):
            raise OSError("the connection was lost")
        return put_file(self, source, target, **options)

    with monkeypatch.context() as patch:
        patch.setattr(type(bucket), "put_file", failing)
        with pytest.raises(OSError, match="connection was lost"):
            prepare_tokens(
                ["memory://bucket/corpus"], "memory://bucket/out", vocab_file, SETTINGS, workers=1, overwrite=True
            )
    assert not bucket.exists("/bucket/out/manifest.json")
    prepare_tokens(["memory://bucket/corpus"], "memory://bucket/out", vocab_file, SETTINGS, workers=1)
    assert stored(bucket, "/bucket/out") == expected


def test_killed_behind_the_manifest_and_run_again_finishes(bucket, vocab_file, monkeypatch):
    def killed(job):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stages, "publish", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare_tokens(["memory://bucket/corpus"], "memory://bucket/out", vocab_file, SETTINGS, workers=1)
    assert bucket.exists("/bucket/out/manifest.json")
    manifest = prepare_tokens(["memory://bucket/corpus"], "memory://bucket/out", vocab_file, SETTINGS, workers=1)
    assert manifest["counts"]["rows"] > 0
    assert not bucket.exists("/bucket/out/_work")


def test_folder_of_something_else_is_not_written_to(bucket, vocab_file):
    bucket.pipe_file("/bucket/out/notes.txt", b"mine")
    with pytest.raises(InputError, match=r"it holds notes\.txt, which is none"):
        prepare_tokens(
            ["memory://bucket/corpus"], "memory://bucket/out", vocab_file, SETTINGS, workers=1, overwrite=True
        )


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("memory://bucket/nowhere", "memory://bucket/nowhere does not exist"),
        ("nosuch://bucket/corpus", r"nosuch://bucket/corpus cannot be reached: .*'\.\[scale\]' in the checkout"),
    ],
)
def test_place_that_cannot_be_read_is_told(bucket, vocab_file, tmp_path, place, message):
    with pytest.raises(InputError, match=message):
        prepare_tokens([place], tmp_path / "out", vocab_file, SETTINGS, workers=1)
