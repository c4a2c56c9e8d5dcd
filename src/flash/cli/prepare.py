"""``flashquad prepare``: text -> shards of token ids with word starts, or a dataset with whole-word references."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

EPILOG = "\n\n".join(
    (
        "Example:  flashquad prepare news/ wiki.jsonl.zst --tokenizer vocab.txt --output runs/data --max-length 512",
        "Example:  flashquad prepare s3://bucket/corpus --shuffle --tokenizer vocab.txt --output s3://bucket/tokens "
        "--executor ray",
        "A run that was stopped in any way goes on when the same command is given again (not with --format text).",
    )
)


class Format(StrEnum):
    """What is made."""

    TOKENS = "tokens"
    TEXT = "text"


class Deduplicate(StrEnum):
    """Which documents are the same."""

    EXACT = "exact"
    MINHASH = "minhash"


class Executor(StrEnum):
    """What of datatrove runs the tasks."""

    LOCAL = "local"
    SLURM = "slurm"
    RAY = "ray"


def prepare(
    output: Annotated[str, typer.Option(help="Folder to make: a path, or a URL such as s3://bucket/data.")],
    tokenizer: Annotated[str, typer.Option(help="Hub id, folder or vocab.txt of the tokenizer.")],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[INPUT]...",
            help="Files, folders or URLs: .txt (documents separated by blank lines), .jsonl (one object a line), also "
            "compressed as .gz, .bz2, .xz, .zst, and .parquet. Without any, the small corpus that comes with the "
            "package.",
        ),
    ] = None,
    format: Annotated[
        Format,
        typer.Option(
            help="tokens: ids with word starts, 2.2 bytes a token. text: columns text and chinese_ref, which the "
            "library datasets opens, on a local disk."
        ),
    ] = Format.TOKENS,
    max_length: Annotated[int, typer.Option(help="Most tokens of a block, [CLS] and [SEP] counted.")] = 512,
    min_block_chars: Annotated[int, typer.Option(help="Leave out blocks of fewer characters.")] = 10,
    segmenter: Annotated[
        str, typer.Option(help="What cuts words: rjieba, jieba, whitespace, or a function as package.module:function.")
    ] = "rjieba",
    user_dictionary: Annotated[
        Path | None, typer.Option(help="More words for rjieba or jieba: a word a line, then frequency and tag, if any.")
    ] = None,
    json_key: Annotated[str, typer.Option(help="Key of a JSON line, or column, that holds the text.")] = "text",
    document_separator: Annotated[
        str, typer.Option(help="Line between two documents of a .txt file; a blank one by default.")
    ] = "",
    shuffle: Annotated[
        bool, typer.Option("--shuffle", help="Put the documents in random order (pretrain holds out the last rows).")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the random order.")] = 2022,
    pack: Annotated[bool, typer.Option("--pack", help="Fill each row with as many sequences as fit.")] = False,
    deduplicate: Annotated[
        Deduplicate | None, typer.Option(help="Keep one of the same (exact) or similar (minhash) documents.")
    ] = None,
    encoding: Annotated[str, typer.Option(help="Encoding of the input, such as gb18030.")] = "utf-8",
    workers: Annotated[int, typer.Option(help="Processes, or with --executor tasks at once; 0 is one a core.")] = 0,
    executor: Annotated[
        Executor | None,  # the help is rich's markup, in which [scale] alone would be a style
        typer.Option(help=r"Run the tasks by datatrove (pip install '.\[scale]' in the checkout)."),
    ] = None,
    slurm_partition: Annotated[str, typer.Option(help="Partition for --executor slurm.")] = "",
    slurm_time: Annotated[str, typer.Option(help="Time limit of a Slurm job.")] = "24:00:00",
    log_interval: Annotated[int, typer.Option(min=1, help="Documents between two log lines.")] = 10_000,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a dataset that is there.")] = False,
) -> None:
    """Turn text into a dataset for whole-word masking."""
    from flash.corpus.documents import ReadingSettings
    from flash.corpus.embedded import embedded_corpus
    from flash.corpus.input_files import printable
    from flash.corpus.segment import SegmenterChoice
    from flash.corpus.user_dictionary import read_user_dictionary

    found: list[Path | str] = [*inputs] if inputs else [embedded_corpus()]
    reading = ReadingSettings(encoding, json_key, document_separator)
    choice = SegmenterChoice(segmenter, None if user_dictionary is None else read_user_dictionary(user_dictionary))
    shuffle_seed = seed if shuffle else None
    common: dict[str, Any] = {"workers": workers, "overwrite": overwrite, "log_interval": log_interval}
    if format is Format.TEXT:
        _refuse_what_is_for_tokens(output, pack=pack, deduplicate=deduplicate, executor=executor)
        from flash.corpus.prepare import PrepareSettings, prepare_dataset

        settings = PrepareSettings(max_length, min_block_chars, shuffle_seed, reading)
        manifest = prepare_dataset(found, Path(output), tokenizer, settings, segmenter=choice, **common)
        counts = manifest["counts"]
        what = f"{counts['blocks']:,} blocks"
    else:
        from flash.corpus.tokens.engines import engine_for
        from flash.corpus.tokens.prepare import prepare_tokens
        from flash.corpus.tokens.settings import TokenSettings

        of_tokens = TokenSettings(
            max_length,
            min_block_chars,
            shuffle_seed,
            pack,
            None if deduplicate is None else deduplicate.value,
            choice,
            reading,
        )
        engine = engine_for(
            None if executor is None else executor.value, slurm_partition=slurm_partition, slurm_time=slurm_time
        )
        prepared = prepare_tokens(found, output, tokenizer, of_tokens, engine=engine, **common)
        if prepared is None:
            typer.echo(f"{printable(output)}: handed to Slurm; it is whole when manifest.json is there")
            return
        counts = prepared["counts"]
        what = f"{counts['rows']:,} rows"
    typer.echo(
        f"{printable(output)}: {what}, {counts['tokens']:,} tokens, {counts['characters_in_blocks']:,} characters from "
        f"{counts['documents']:,} documents"
    )


def _refuse_what_is_for_tokens(output: str, **flags: object) -> None:
    from flash.errors import InputError

    if "://" in output:
        raise InputError(
            f"{output}: a folder of text is made on a local disk; leave out --format text to make tokens there, or "
            "name a path"
        )
    for name, value in flags.items():
        if value:
            raise InputError(f"--{name} is for tokens: leave out --format text, or --{name}")
