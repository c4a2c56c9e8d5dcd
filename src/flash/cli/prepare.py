"""``flashquad prepare``: text -> dataset with whole-word references."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EPILOG = "Example:  flashquad prepare news/ wiki.jsonl.zst --tokenizer vocab.txt --output runs/data --max-length 512"


def prepare(
    output: Annotated[Path, typer.Option(help="Folder to make.")],
    tokenizer: Annotated[str, typer.Option(help="Hub id, folder or vocab.txt of the tokenizer.")],
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[INPUT]...",
            help="Files or folders: .txt (documents separated by blank lines), .jsonl (one object a line), also "
            "compressed as .gz, .bz2, .xz, .zst. Without any, the small corpus that comes with the package.",
        ),
    ] = None,
    max_length: Annotated[int, typer.Option(help="Most tokens of a block, [CLS] and [SEP] counted.")] = 512,
    min_block_chars: Annotated[int, typer.Option(help="Leave out blocks of fewer characters.")] = 10,
    json_key: Annotated[str, typer.Option(help="Key of a JSON line that holds the text.")] = "text",
    document_separator: Annotated[
        str, typer.Option(help="Line between two documents of a .txt file; a blank one by default.")
    ] = "",
    shuffle: Annotated[
        bool, typer.Option("--shuffle", help="Put the documents in random order (pretrain holds out the last rows).")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the random order.")] = 2022,
    encoding: Annotated[str, typer.Option(help="Encoding of the input, such as gb18030.")] = "utf-8",
    workers: Annotated[int, typer.Option(help="Processes; 0 is one a core.")] = 0,
    log_interval: Annotated[int, typer.Option(min=1, help="Documents between two log lines.")] = 10_000,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a dataset that is there.")] = False,
) -> None:
    """Turn text into a dataset for whole-word masking (columns text and chinese_ref)."""
    from flash.corpus.documents import ReadingSettings
    from flash.corpus.embedded import embedded_corpus
    from flash.corpus.prepare import PrepareSettings, prepare_dataset

    reading = ReadingSettings(encoding, json_key, document_separator)
    manifest = prepare_dataset(
        inputs or [embedded_corpus()],
        output,
        tokenizer,
        PrepareSettings(max_length, min_block_chars, seed if shuffle else None, reading),
        workers=workers,
        overwrite=overwrite,
        log_interval=log_interval,
    )
    counts = manifest["counts"]
    typer.echo(
        f"{output}: {counts['blocks']:,} blocks, {counts['tokens']:,} tokens, {counts['characters_in_blocks']:,} "
        f"characters from {counts['documents']:,} documents"
    )
