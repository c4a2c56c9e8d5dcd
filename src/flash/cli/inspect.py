"""``flashquad inspect``: a model -> what its layers do, where its attention goes, how it bears other lengths."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EPILOG = "Example:  flashquad inspect build/demo/model --output build/demo/inspection"


def inspect(
    model: Annotated[
        str, typer.Argument(help="Hub id or folder of a FLASH-Quad, FLASH or GAU-alpha model; tiny-zh is packaged.")
    ],
    output: Annotated[Path, typer.Option(help="Folder to make.")],
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[INPUT]...",
            help="Files or folders, as for prepare. Without any, the small corpus that comes with the package.",
        ),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(
            help="Most tokens of a row, [CLS] and [SEP] counted; 32 to 8,192.",
            show_default="the model's max_position_embeddings, at least 32 and at most 512",
        ),
    ] = None,
    rows: Annotated[int, typer.Option(help="Rows of text that the layers are measured on.")] = 64,
    seed: Annotated[int, typer.Option(help="Of the rows, the sentences, their masks and the untrained model.")] = 2022,
    compare_with_untrained: Annotated[
        bool, typer.Option(help="Measure a freshly initialised model of the same configuration too.")
    ] = True,
    tokenizer: Annotated[str | None, typer.Option(help="Another tokenizer: hub id, folder or vocab.txt.")] = None,
    json_key: Annotated[str, typer.Option(help="Key of a JSON line that holds the text.")] = "text",
    encoding: Annotated[str, typer.Option(help="Encoding of the input, such as gb18030.")] = "utf-8",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an inspection that is there.")] = False,
) -> None:
    """Measure what each layer does, where attention goes, and how predictions bear other lengths; draw it."""
    from flash.cli.console import quiet_libraries
    from flash.corpus.documents import ReadingSettings
    from flash.inspection import InspectionSettings, inspect_model
    from flash.inspection.output import check_output, write_inspection
    from flash.inspection.tables import format_tables

    quiet_libraries()
    check_output(output, overwrite=overwrite)
    inspection = inspect_model(
        model,
        inputs or [],
        InspectionSettings(max_length, rows, seed, compare_with_untrained, ReadingSettings(encoding, json_key)),
        tokenizer=tokenizer,
    )
    paths = write_inspection(inspection, output, overwrite=overwrite)
    typer.echo(format_tables(inspection))
    for path in paths:
        typer.echo(f"wrote {path}")
