"""``flashquad evaluate``: fine-tuned folder and labelled file -> scores."""

import json
from pathlib import Path
from typing import Annotated

import typer

EPILOG = "Example:  flashquad evaluate --model tnews --file clue/tnews/dev.json"


def evaluate(
    model: Annotated[Path, typer.Option(help="Folder that `flashquad finetune` wrote.")],
    file: Annotated[Path, typer.Option(help="Labelled file of the model's task.")],
    batch_size: Annotated[int, typer.Option(min=1, help="Rows of a batch.")] = 64,
    bf16: Annotated[bool, typer.Option("--bf16", help="Compute in bfloat16.")] = False,
    attention_backend: Annotated[
        str | None,
        typer.Option(help="auto, reference, blocked, fused or materialized. Default: auto."),
    ] = None,
) -> None:
    """Score a fine-tuned model on a file; one JSON object on standard output."""
    from flash.cli.console import quiet_libraries
    from flash.finetuning.scoring import Finetuned

    quiet_libraries()
    print(json.dumps(Finetuned(model, batch_size, bf16, attention_backend).evaluate(file), ensure_ascii=False))
