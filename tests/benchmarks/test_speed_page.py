"""docs/speed.md shows what was measured."""

import re

import pytest

from flash.benchmarking.benchmark import read_results

from speed_page import DOCS, PAGE, describe, fill, result_folders, section


@pytest.fixture(scope="module")
def text():
    return PAGE.read_text(encoding="utf-8")


def test_the_tables_of_the_page_are_what_the_results_give(text):
    assert fill(text) == text


def test_every_measurement_is_shown_and_every_figure_is_there(text):
    assert set(re.findall(r"<!-- results (\w+) -->", text)) == set(result_folders())
    figures = re.findall(r"\]\((figures/[\w.-]+)\)", text)
    assert figures
    assert all((DOCS / figure).is_file() for figure in figures)


def test_a_number_that_was_changed_by_hand_is_written_anew(text):
    changed = re.sub(r"(?m)^\| training .*$", "| training | 0 |", text, count=1)
    assert changed != text
    assert fill(changed) == text


def test_a_gpu_is_described_by_its_own_memory():
    environment = {"device": "a GPU", "device_type": "cuda", "device_memory_gib": 80.0, "cuda": "13.0", "threads": 8}
    versions = {"torch": "2", "transformers": "5", "triton": "3", "python": "3.11", "cores": 8}
    assert describe(environment | versions).startswith("a GPU (80.0 GiB), CUDA 13.0; PyTorch threads: 8; torch 2, ")


def test_the_allocator_s_settings_are_named():
    versions = {"torch": "2", "transformers": "5", "triton": "3", "python": "3.11", "cores": 2}
    environment = {"device": "a CPU", "device_type": "cpu", "threads": 2, "variables": "MALLOC_MMAP_MAX_=0"}
    assert describe(environment | versions).endswith("python 3.11; with `MALLOC_MMAP_MAX_=0`.")


def test_the_commits_that_are_named_are_those_of_the_rows():
    for name, folder in result_folders().items():
        (line,) = (line for line in section(name).splitlines() if "ommit" in line)
        assert all(row.commit in re.split("[ ,;.]+", line) for row in read_results(folder).points)
