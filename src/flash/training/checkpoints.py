"""Find the checkpoint to resume from: the newest whole one, because a killed run may leave a half-written one."""

import json
import logging
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

logger = logging.getLogger(__name__)


def checkpoints_newest_first(output_dir: str | Path) -> list[Path]:
    """List ``checkpoint-N`` folders, highest N first."""
    folders = [
        path
        for path in Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*")
        if path.is_dir() and path.name.split("-")[-1].isdigit()
    ]
    return sorted(folders, key=lambda path: int(path.name.split("-")[-1]), reverse=True)


def why_unusable(checkpoint: Path) -> str | None:
    """Say what is missing or cut short in a Trainer checkpoint; None if it is whole.

    The Trainer writes ``trainer_state.json`` last, safetensors declare their own size and torch's files are zip
    archives with their index at the end, so a write that was cut short shows in one of the three.
    """
    state = checkpoint / "trainer_state.json"
    if not state.exists():
        return "trainer_state.json is missing"
    try:
        json.loads(state.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        return "trainer_state.json is cut short"
    weights = sorted(checkpoint.glob("*.safetensors"))
    index = checkpoint / "model.safetensors.index.json"
    if index.exists():
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
    for name in ("optimizer.pt", "scheduler.pt"):
        path = checkpoint / name
        if path.exists() and not zipfile.is_zipfile(path):
            return f"{name} is cut short"
    return None


def last_whole_checkpoint(output_dir: str | Path) -> Path | None:
    """Return the newest whole checkpoint, saying which newer ones were passed over and why; None without any."""
    for checkpoint in checkpoints_newest_first(output_dir):
        reason = why_unusable(checkpoint)
        if reason is None:
            return checkpoint
        logger.warning("%s is not whole (%s): passed over", checkpoint, reason)
    return None
