import shutil
import socket
from pathlib import Path

import pytest

from flash.corpus.tokenizer_loading import load_tokenizer

from toy_pretraining import (
    REPOSITORY,
    curve,
    earlier_folder,
    earlier_references,
    random_texts,
    run_python,
    toy_flags,
)

pytestmark = pytest.mark.slow

SCRIPT = REPOSITORY / "run_mlm_wwm.py"
# 32 rows for training: 8 a step, so every epoch divides evenly; 7 held out: the ranks' last validation batches do not
ROWS, HELD_OUT = 39, 7
SETTINGS = {
    "max_seq_length": 96,  # enough for every text, so that each is one row
    "validation_split": HELD_OUT / ROWS,
    "gradient_accumulation_steps": 2,
    "max_steps": 10,
    "logging_steps": 2,
    "save_steps": 5,
    "per_device_eval_batch_size": 2,
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def flags(toy_vocabulary, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset") / "data"
    tokenizer = load_tokenizer(toy_vocabulary)
    texts = random_texts(ROWS)
    earlier_folder(folder, texts, [earlier_references(text, tokenizer) for text in texts])

    def flags(output_dir: Path, rows_of_a_batch: int) -> list[str]:
        settings = SETTINGS | {"tokenizer_name": toy_vocabulary, "per_device_train_batch_size": rows_of_a_batch}
        return toy_flags(folder, output_dir, **settings)

    return flags


@pytest.fixture(scope="module")
def run_two_processes(flags):
    def run(output_dir: Path):
        torchrun = ("-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(free_port()))
        ran = run_python(*torchrun, SCRIPT, *flags(output_dir, 2), cwd=output_dir.parent)
        assert ran.returncode == 0, ran.stderr
        return ran

    return run


@pytest.fixture(scope="module")
def two_processes(run_two_processes, tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("two") / "out"
    return run_two_processes(output_dir), output_dir


def test_two_processes_train_and_validate_as_one_with_the_same_global_batch(flags, two_processes, tmp_path):
    alone = run_python(SCRIPT, *flags(tmp_path / "one", 4), cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    _, output_dir = two_processes
    expected, got = curve(tmp_path / "one"), curve(output_dir)
    assert [entry["step"] for entry in expected] == [2, 4, 5, 6, 8, 10, 10]
    for entry, one_process in zip(got, expected, strict=True):
        assert entry == pytest.approx(one_process, rel=1e-4)
    # 10 steps of 8 rows: three epochs, the masks of which must agree as well
    assert f"{ROWS - HELD_OUT} rows were trained on" in (output_dir / "README.md").read_text(encoding="utf-8")


def test_no_process_looks_for_parameters_without_a_gradient(two_processes):
    ran, _ = two_processes
    assert "find_unused_parameters" not in ran.stderr


def test_two_processes_go_on_between_two_logs_as_if_never_stopped(run_two_processes, two_processes, tmp_path):
    _, whole = two_processes
    resumed = tmp_path / "out"
    shutil.copytree(whole / "checkpoint-5", resumed / "checkpoint-5")
    ran = run_two_processes(resumed)
    assert curve(resumed) == curve(whole)
    assert (resumed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert ran.stdout.count("resume from ") == ran.stdout.count("model        ") == 1  # one process speaks
