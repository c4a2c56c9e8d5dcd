"""What a finished run leaves for its readers: the curves as a picture and the model card."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from flash.models.base_configuration import own_settings

ARCHITECTURE_NAMES = {"flash_quad": "FLASH-Quad", "flash": "FLASH", "gau_alpha": "GAU-alpha"}


def draw_curves(log_history: list[dict[str, Any]], path: Path) -> None:
    """Draw loss and masked-token accuracy against steps, training and validation, into a PNG."""
    # the object interface, not pyplot: no global state and no display
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    for axes, name, label in zip(
        panels, ("loss", "mlm_acc"), ("loss (nats per masked token)", "masked-token accuracy"), strict=True
    ):
        for key, title, style in ((name, "training", "-"), (f"eval_{name}", "validation", "o-")):
            points = [(entry["step"], entry[key]) for entry in log_history if key in entry]
            if points:
                axes.plot(*zip(*points, strict=True), style, label=title, markersize=3, linewidth=1.3)
        axes.set_xlabel("step")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        if axes.has_data():
            # matplotlib's own choice too, but where it is named a busy machine gives no warning of its slowness
            axes.legend(loc="best", frameon=False)
    figure.savefig(path, dpi=120)


def write_model_card(
    folder: Path,
    *,
    model: PreTrainedModel,
    command: str,
    manifest: dict | None,
    log_history: list[dict[str, Any]],
    validation: Mapping[str, float],
    steps: int,
    model_step: int,
    tokens_seen: int,
    train_rows: int,
    validation_rows: int,
) -> None:
    """Write README.md: how the model was made, from what data, how it learned, and how to use it.

    Args:
        validation: Figures of the model; empty where it was not validated.
        model_step: Step that the model's weights are of; with --load_best_model_at_end not always the last.
    """
    config = model.config
    parameters = sum(parameter.numel() for parameter in model.parameters())
    last = _last(log_history, "mlm_acc")  # not logged where nothing was scored
    results = []
    if last:
        results.append(
            f"| training (last {_interval(log_history)} steps) | {last['loss']:.4f} | {last['mlm_acc']:.4f} | |"
        )
    if "eval_mlm_acc" in validation:
        results.append(
            f"| validation ({validation_rows:,} rows held out) | {validation['eval_loss']:.4f} "
            f"| {validation['eval_mlm_acc']:.4f} | {validation['eval_perplexity']:.1f} |"
        )
    data = (
        f"The folder has no manifest. {train_rows:,} rows were trained on."
        if manifest is None
        else f"{train_rows:,} rows were trained on. Its manifest:\n\n"
        f"```json\n{json.dumps(_short_manifest(manifest), ensure_ascii=False, indent=2)}\n```"
    )
    defaults = type(config)()
    changed = {
        name: getattr(config, name)
        for name in own_settings(type(config))
        if getattr(config, name) != getattr(defaults, name)
    }
    best = "" if model_step == steps else f" The weights are those of step {model_step:,}, the best in validation."
    nl = "\n"
    card = f"""---
language: zh
library_name: transformers
pipeline_tag: fill-mask
tags: [{type(config).model_type.replace("_", "-")}, gated-attention-unit, whole-word-masking]
---

# {folder.resolve().name}

A {ARCHITECTURE_NAMES[type(config).model_type]} masked language model ({parameters:,} parameters), trained with
flashquad by whole-word masking. The architecture: [arXiv 2202.10447](https://arxiv.org/abs/2202.10447).

```python
import flash  # the package flashquad
from transformers import pipeline

fill_mask = pipeline("fill-mask", model=".")
fill_mask("今天的天[MASK]很好")
```

## How it was trained

```bash
{command}
```

{steps:,} steps, {tokens_seen:,} tokens.{best} Settings of `{type(config).__name__}` other than its
defaults:

```json
{json.dumps(changed, ensure_ascii=False, indent=2)}
```

## Results

| | loss (nats per masked token) | masked-token accuracy | perplexity |
| --- | --- | --- | --- |
{nl.join(results)}

![loss and masked-token accuracy](curves.png)

## Data

{data}
"""
    (folder / "README.md").write_text(card, encoding="utf-8")


def _last(log_history: list[dict[str, Any]], key: str) -> dict[str, Any] | None:
    return next((entry for entry in reversed(log_history) if key in entry), None)


def _interval(log_history: list[dict[str, Any]]) -> int:
    steps = [entry["step"] for entry in log_history if "loss" in entry]
    return steps[-1] - (steps[-2] if len(steps) > 1 else 0)


def _short_manifest(manifest: dict) -> dict:
    """Leave out what follows in the lists of input files and shards where they are long."""
    shortened = {
        name: [*manifest[name][:20], f"... and {len(manifest[name]) - 20} more"]
        for name in ("inputs", "shards")
        if len(manifest.get(name, [])) > 20
    }
    return manifest | shortened
