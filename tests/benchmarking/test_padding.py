import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flash.benchmarking import padding as padding_module
from flash.benchmarking.padding import DISTRIBUTIONS, draw_lengths, measure_padding, padded_batch
from flash.benchmarking.records import Padding
from flash.benchmarking.result_file import ResultFile
from flash.benchmarking.settings import BenchmarkSettings
from flash.errors import InputError

from helpers import few_examples
from measured import CONDITIONS


@few_examples
@given(st.lists(st.integers(1, 16), min_size=1, max_size=40))
def test_a_padded_batch_has_rows_of_the_lengths_and_labels_at_real_tokens_only(lengths):
    batch = padded_batch(lengths, 16, torch.device("cpu"))
    assert batch["attention_mask"].sum(dim=1).tolist() == lengths
    padding = batch["attention_mask"] == 0
    assert (batch["labels"][padding] == -100).all()
    assert not batch["input_ids"][padding].any()


def test_headlines_are_as_long_as_those_of_tnews():
    lengths = draw_lengths("headlines", 20_000, longest=128)
    assert sum(lengths) / len(lengths) == pytest.approx(24.25, rel=0.02)
    assert (min(lengths), max(lengths)) == (DISTRIBUTIONS["headlines"][0], DISTRIBUTIONS["headlines"][-1])
    assert lengths == draw_lengths("headlines", 20_000, longest=128)


def test_lengths_come_from_a_file_and_are_cut_to_the_width(tmp_path):
    file = tmp_path / "lengths.txt"
    file.write_text("3\n5\n900\n", encoding="utf-8")
    assert set(draw_lengths(str(file), 100, longest=64)) == {3, 5, 64}


def test_a_padded_batch_beyond_the_memory_ends_the_contestants_and_not_the_run(tmp_path, monkeypatch):
    def no_batch(shape, device):
        raise MemoryError

    monkeypatch.setattr(padding_module, "random_batch", no_batch)
    settings = BenchmarkSettings(("flash",), size="tiny", lengths=(8,), batch_tokens=16, modes=("inference",))
    file = ResultFile(tmp_path / "padding.csv", Padding)
    list(measure_padding(settings, CONDITIONS, file, distribution="headlines"))
    assert {(row.contestant, row.status, row.rows) for row in file.read()} == {
        ("modernbert", "oom", 2),
        ("flash", "oom", 2),
    }


def test_only_who_leaves_padding_out_is_timed_without_it(tmp_path, monkeypatch):
    monkeypatch.setattr(padding_module, "make_step", lambda *_, **__: lambda: None)
    names = ("flash", "flash-quad:reference", "flash-quad+compile", "earlier")
    settings = BenchmarkSettings(names, size="tiny", lengths=(8,), batch_tokens=16, modes=("inference",))
    file = ResultFile(tmp_path / "padding.csv", Padding)
    list(measure_padding(settings, CONDITIONS, file, distribution="headlines"))
    rows = file.read()
    assert [row.contestant for row in rows] == ["modernbert", *names]
    assert all(row.padded_seconds for row in rows)
    assert [row.contestant for row in rows if row.packed_seconds] == ["flash"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "neither a file nor one of headlines"),
        (b"", "the file is empty"),
        (b"3\n0\n", "number 2: '0' is no positive number"),
        (b"3\n" + b"9" * 5000, "number 2: .9{40}. is no positive number"),
        (b"3\nten\n", "number 2: 'ten' is no positive number"),
        (b"\xff\xfe\x00", "not a text file"),
    ],
)
def test_a_distribution_that_is_none_is_one_line(tmp_path, content, message):
    file = tmp_path / "lengths.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        draw_lengths(str(file), 3, longest=8)
