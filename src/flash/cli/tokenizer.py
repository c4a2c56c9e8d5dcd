"""``flashquad tokenizer``: text -> character-level WordPiece vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EPILOG = "Example:  flashquad tokenizer news/ wiki.jsonl.zst --output runs/vocab --vocab-size 12000"


def tokenizer(
    output: Annotated[str, typer.Option(help="Folder to make, on a local disk.")],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[INPUT]...",
            help="Files, folders or URLs, as for prepare. Without any, the small corpus that comes with the package.",
        ),
    ] = None,
    vocab_size: Annotated[int, typer.Option(help="Most entries, special tokens counted.")] = 12_000,
    min_frequency: Annotated[int, typer.Option(help="Leave out rarer characters and word pieces.")] = 2,
    cased: Annotated[bool, typer.Option("--cased", help="Keep capitals and accents apart.")] = False,
    json_key: Annotated[str, typer.Option(help="Key of a JSON line that holds the text.")] = "text",
    encoding: Annotated[str, typer.Option(help="Encoding of the input, such as gb18030.")] = "utf-8",
    log_interval: Annotated[int, typer.Option(min=1, help="Documents between two log lines.")] = 10_000,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a tokenizer that is there.")] = False,
) -> None:
    """Train a vocabulary in BERT's layout: single Chinese characters, word pieces for other scripts."""
    from flash.corpus.documents import ReadingSettings
    from flash.corpus.embedded import embedded_corpus
    from flash.corpus.tokenizer_training import TokenizerSettings, train_tokenizer
    from flash.errors import InputError

    if "://" in output:
        raise InputError(f"--output {output}: a tokenizer is made on a local disk: name a path, and copy the folder")

    found: list[Path | str] = [*inputs] if inputs else [embedded_corpus()]
    manifest = train_tokenizer(
        found,
        Path(output),
        TokenizerSettings(vocab_size, min_frequency, cased, ReadingSettings(encoding, json_key)),
        overwrite=overwrite,
        log_interval=log_interval,
    )
    share = manifest["characters_in_vocabulary"] / manifest["characters"]
    typer.echo(
        f"{output}: {manifest['vocab_size']:,} entries that cover {share:.3%} of {manifest['characters']:,} characters"
    )
