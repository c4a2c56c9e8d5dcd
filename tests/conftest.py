"""Set up what every test shares; its presence also puts this folder on the import path (``helpers`` and others)."""

import os
from pathlib import Path

import pytest

# a test that reaches for the network must fail at once, and bars would hide the message of a failure
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
# tensors this small gain nothing from threads, and threads that wait for one another starve a busy machine
os.environ.setdefault("OMP_NUM_THREADS", "1")


def _has_gpu() -> bool:
    import torch  # reads the variables above when it is imported

    return torch.cuda.is_available()


# Triton's interpreter runs the kernels where no GPU does; it must be asked for before anything imports triton
if not _has_gpu():
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture
def shared_data() -> Path:
    """Folder of sample corpora and task files."""
    beside_repository = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("FLASHQUAD_SHARED_DATA", beside_repository))
    if not folder.is_dir():
        pytest.skip(f"the sample corpora are not at {folder}: name their folder in FLASHQUAD_SHARED_DATA")
    return folder


@pytest.fixture
def without_shape_checks():
    """Switch jaxtyping off: to its checks, the symbolic length of a traced graph is no int."""
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def toy_vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ``vocab.txt`` for the sentences of ``toy_pretraining``."""
    from toy_pretraining import write_vocabulary  # imports transformers, which the tests of the mathematics do without

    return write_vocabulary(tmp_path_factory.mktemp("vocabulary") / "vocab.txt")


@pytest.fixture(scope="session")
def toy_dataset(toy_vocabulary: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder of 24 documents; not to be changed."""
    from toy_pretraining import prepared_folder, random_texts

    return prepared_folder(tmp_path_factory.mktemp("dataset") / "data", toy_vocabulary, texts=random_texts(24))


@pytest.fixture(scope="session")
def toy_run(toy_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of ``toy_arguments``; not to be changed."""
    from flash.training.pretrain import pretrain

    from toy_pretraining import toy_arguments

    output_dir = tmp_path_factory.mktemp("run") / "model"
    pretrain(toy_arguments(toy_dataset, output_dir), command="flashquad pretrain --recipe toy")
    return output_dir


@pytest.fixture
def train(toy_dataset, tmp_path):
    """Train a toy model into a folder of the test; returns what the run gave, and the folder."""
    from flash.training.pretrain import pretrain

    from toy_pretraining import COMMAND, toy_arguments

    def run(output="out", *, train_dir=toy_dataset, **changes):
        output_dir = tmp_path / output
        return pretrain(toy_arguments(train_dir, output_dir, **changes), command=COMMAND), output_dir

    return run
