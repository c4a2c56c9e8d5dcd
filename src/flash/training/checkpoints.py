"""Which checkpoint to resume from: the newest whole one, because a killed run may leave a half-written one."""

import json
import logging
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate.utils import gather_object
from safetensors import SafetensorError, safe_open

from flash.errors import InputError
from flash.models.checkpoint_folders import checkpoints_newest_first

logger = logging.getLogger(__name__)

# where torch's file writer fails it raises a RuntimeError that only its text tells from others
_WRITER_OF_TORCH = ("inline_container", "iostream")


def steps_done(checkpoint: Path) -> int:
    """Return the number of steps that a whole checkpoint was trained."""
    return json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]


def why_unusable(checkpoint: Path) -> str | None:
    """Say what is missing or cut short in a Trainer checkpoint; None if it is whole.

    The Trainer writes ``trainer_state.json`` last, safetensors declare their own size and torch's files are zip
    archives with their index at the end, so a write that was cut short shows in one of the three.
    """
    return _state_fault(checkpoint) or _weights_fault(checkpoint) or _optimizer_fault(checkpoint)


def _state_fault(checkpoint: Path) -> str | None:
    state = checkpoint / "trainer_state.json"
    if not state.exists():
        return "trainer_state.json is missing"
    return None if _is_whole_json(state) else "trainer_state.json is cut short"


def _weights_fault(checkpoint: Path) -> str | None:
    weights = sorted(checkpoint.glob("*.safetensors"))
    index = checkpoint / "model.safetensors.index.json"
    if index.exists():
        if not _is_whole_json(index):
            return f"{index.name} is cut short"
        named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        absent = named - {path.name for path in weights}
        if absent:
            return f"{min(absent)} is missing"
    for path in weights:
        try:
            with safe_open(path, framework="pt"):
                pass
        except SafetensorError:
            return f"{path.name} is cut short"
    if not weights and not list(checkpoint.glob("pytorch_model*")):
        return "the model's weights are missing"
    return None


def _optimizer_fault(checkpoint: Path) -> str | None:
    # without one of these the Trainer would go on, as another run: with a fresh optimizer, schedule or dropout
    rng_states = sorted(path.name for path in checkpoint.glob("rng_state*.pth")) or ["rng_state.pth"]
    for name in ("optimizer.pt", "scheduler.pt", *rng_states):
        path = checkpoint / name
        if not path.exists():
            if _is_sharded(checkpoint):
                continue
            return f"{name} is missing"
        if not zipfile.is_zipfile(path):
            return f"{name} is cut short"
    return None


def _is_sharded(checkpoint: Path) -> bool:
    """Say whether FSDP or DeepSpeed wrote the checkpoint, under names of their own."""
    return any(any(checkpoint.glob(pattern)) for pattern in ("pytorch_model_fsdp*", "optimizer_*", "global_step*"))


def _is_whole_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        return False
    return True


def last_whole_checkpoint(output_dir: str | Path) -> Path | None:
    """Return the newest whole checkpoint, saying which newer ones were passed over and why; None without any."""
    for checkpoint in checkpoints_newest_first(output_dir):
        reason = why_unusable(checkpoint)
        if reason is None:
            return checkpoint
        logger.warning("%s is not whole (%s): passed over", checkpoint, reason)
    return None


def check_same_everywhere(checkpoint: Path | None, output_dir: Path) -> None:
    """Refuse to go on where the processes found different checkpoints; every process must call this.

    Only the first one writes whole checkpoints: on a machine with a disk of its own the others would begin anew, and
    their weights would part from its weights without a word.

    Raises:
        InputError: Some would begin at another step.
    """
    steps = sorted(set(gather_object([0 if checkpoint is None else steps_done(checkpoint)])))
    if len(steps) > 1:
        raise InputError(
            f"the processes find different checkpoints in {output_dir}, after {' and '.join(map(str, steps))} steps: "
            "it must lie on a disk that all machines share"
        )


@contextmanager
def saying_how_to_go_on(folder: Path) -> Iterator[None]:
    """Turn what safetensors and torch raise on a full disk into one line that says what to do.

    Raises:
        OSError: ``folder`` could not be written.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(part in str(error) for part in _WRITER_OF_TORCH):
            raise
        raise OSError(
            f"{folder} could not be written ({str(error).splitlines()[0]}); make room and give the same command again: "
            "it goes on from the last whole checkpoint"
        ) from error
