"""``flashquad predict``: fine-tuned folder and texts -> predictions."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flash.cli.standard_input import lines_of_standard_input

EPILOG = "\n\n".join(
    (
        'Example:  flashquad predict --model tnews "股市今天大涨" "国足又输了"',
        "A file to a submission for CLUE:  flashquad predict --model tnews --input clue/tnews/test.json --submission "
        "--output .",
    )
)


def predict(
    model: Annotated[Path, typer.Option(help="Folder that `flashquad finetune` wrote.")],
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts; a tab divides two. Without any: lines of standard input.")
    ] = None,
    input_file: Annotated[Path | None, typer.Option("--input", help="File of the model's task to predict.")] = None,
    output: Annotated[Path, typer.Option(help="File for the predictions of --input, or a folder.")] = Path(),
    submission: Annotated[bool, typer.Option("--submission", help="Write the form that CLUE takes.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows of a batch.")] = 64,
    bf16: Annotated[bool, typer.Option("--bf16", help="Compute in bfloat16.")] = False,
    attention_backend: Annotated[
        str | None,
        typer.Option(help="auto, reference, blocked, fused or materialized. Default: auto."),
    ] = None,
) -> None:
    """Predict with a fine-tuned model."""
    from flash.cli.console import quiet_libraries
    from flash.errors import InputError
    from flash.finetuning.scoring import Finetuned

    quiet_libraries()
    if input_file is not None:
        if texts:
            raise InputError(f"both --input {input_file} and texts were given; leave one out")
        finetuned = Finetuned(model, batch_size, bf16, attention_backend)
        print(finetuned.predict_file(input_file, output, submission=submission))
        return
    if submission:
        raise InputError("--submission is made of a file; name it with --input")
    if output != Path():
        raise InputError(f"--output {output} is for the predictions of a file; name it with --input")
    given = texts or list(lines_of_standard_input())
    if not given:
        raise InputError("no text to predict; pass texts, --input FILE, or lines on standard input")
    predictions = Finetuned(model, batch_size, bf16, attention_backend).predict_texts(given)
    for text, (prediction, confidence) in zip(given, predictions, strict=True):
        print(f"{text}\t{_shown(prediction, text)}" + ("" if confidence is None else f"\t{confidence:.3f}"))


def _shown(prediction: Any, text: str) -> str:
    if isinstance(prediction, float):
        return f"{prediction:.3f}"
    if isinstance(prediction, str):
        return prediction
    return " ".join(f"{text[entity.start : entity.end]}/{entity.label}" for entity in prediction) or "-"
