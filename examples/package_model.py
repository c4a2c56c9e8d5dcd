"""Make a small folder of a finished pretraining run: float16 weights, tokenizer, recipe, manifest and curves.

    python examples/package_model.py runs/first runs/second --recipe tiny-zh --dataset data --output tiny-zh

Of several runs each went on from the one before it: the weights are the last one's, the curves are those of all
(`curves.png`, `curves-2.png`, ...).

The configuration keeps `dtype: float32`, so the model loads in float32 unless another is asked for. The model card
is the run's README.md; write over it what a reader should know of the text.
"""

import argparse
import json
import shutil
import sys
from importlib import resources
from pathlib import Path

import torch

from flash.corpus.tokenizer_loading import load_tokenizer
from flash.errors import InputError
from flash.models.loading import load_masked_lm
from flash.models.scale_folding import fold_masked_lm
from flash.training.recipes import load_recipe

LARGEST_BYTES = 16_000_000
READABLE = 0o644


def package(runs: list[Path], recipe: str, dataset: Path, output: Path) -> int:
    """Write the folder of the last of ``runs``, with the curves of all.

    Returns:
        Its size in bytes.

    Raises:
        InputError: A run is not finished, the recipe or the dataset is not there, ``output`` exists, or the folder
            would be above 16 MB.
    """
    load_recipe(recipe)
    if output.exists():
        raise InputError(f"{output} exists; name another folder, or delete it")
    run = runs[-1]
    for needed in (*(each / "curves.png" for each in runs), run / "README.md", dataset / "manifest.json"):
        if not needed.is_file():
            raise InputError(f"{needed} is missing: name a finished run, and the dataset that it was trained on")
    model, tokenizer = load_masked_lm(str(run)), load_tokenizer(str(run))
    weights = sum(p.numel() for p in model.parameters()) * torch.finfo(torch.float16).bits // 8
    if weights > LARGEST_BYTES:
        raise InputError(f"{run}: {weights:,} bytes of weights are more than {LARGEST_BYTES:,}")
    # so that AdamW, which fine-tunes them, moves all weights by a like share of their size
    fold_masked_lm(model)
    model.half().save_pretrained(output)
    tokenizer.save_pretrained(output)
    config = json.loads((output / "config.json").read_text(encoding="utf-8"))
    config["dtype"] = "float32"
    (output / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    shutil.copy(run / "README.md", output)
    for number, each in enumerate(runs, start=1):
        shutil.copy(each / "curves.png", output / (f"curves-{number}.png" if number > 1 else "curves.png"))
    shutil.copy(dataset / "manifest.json", output)
    packaged = resources.files("flash") / "recipes" / f"{recipe}.yaml"
    source = Path(recipe) if Path(recipe).is_file() else packaged
    (output / "recipe.yaml").write_bytes(source.read_bytes())
    for path in output.iterdir():
        path.chmod(READABLE)
    return sum(path.stat().st_size for path in output.iterdir())


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="output folders of `flashquad pretrain`, in their order")
    parser.add_argument("--recipe", required=True, help="recipe of the run, by name or path")
    parser.add_argument("--dataset", type=Path, required=True, help="prepared folder that it was trained on")
    parser.add_argument("--output", type=Path, required=True, help="folder to make")
    arguments = parser.parse_args()
    try:
        size = package(arguments.runs, arguments.recipe, arguments.dataset, arguments.output)
    except InputError as error:
        sys.exit(f"package_model: {error}")
    print(f"{arguments.output}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
