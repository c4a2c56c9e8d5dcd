"""Where a training run keeps its checkpoints: folders ``checkpoint-N`` after N steps."""

from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR


def checkpoints_newest_first(output_dir: str | Path) -> list[Path]:
    """List ``checkpoint-N`` folders, highest N first."""
    folders = [
        path
        for path in Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*")
        if path.is_dir() and path.name.split("-")[-1].isdigit()
    ]
    return sorted(folders, key=lambda path: int(path.name.split("-")[-1]), reverse=True)
