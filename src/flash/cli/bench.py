"""``flashquad bench``: speed and memory of the models against Transformers of equal size, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EPILOG = "Example:  flashquad bench --output build/bench --size tiny --lengths 128,512 --batch-tokens 2048"


def bench(
    output: Annotated[Path, typer.Option(help="Folder of the results; a run with the same folder goes on.")],
    contestants: Annotated[
        str | None,
        typer.Option(
            help="Separated by commas: a family and, behind it, :BACKEND, +full-logits, @bf16 and +compile as wanted. "
            "Families are flash-quad, flash, earlier (as the earlier code computes), modernbert (all layers global), "
            "modernbert-local (as published) and bert.",
            show_default="every family, in fp32 and bf16",
        ),
    ] = None,
    size: Annotated[str, typer.Option(help="tiny, small, base or large: the widths and depths of the presets.")] = (
        "small"
    ),
    lengths: Annotated[str, typer.Option(help="Tokens of a row, separated by commas.")] = "128,512,2048",
    batch_tokens: Annotated[
        int, typer.Option("--batch-tokens", "--tokens", help="Tokens of a batch; a longer row is a batch by itself.")
    ] = 4096,
    modes: Annotated[
        str, typer.Option(help="training or inference, or both with a comma between.")
    ] = "training,inference",
    baseline: Annotated[str, typer.Option(help="Contestant that ratios refer to; it takes part.")] = "modernbert",
    rounds: Annotated[int, typer.Option(help="Times that each point is measured, in turn.")] = 5,
    warmup: Annotated[int, typer.Option(help="Steps of each before the rounds.")] = 2,
    budget: Annotated[float, typer.Option(help="Seconds for all steps of one contestant at one length.")] = 600.0,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="Of PyTorch.", show_default="PyTorch's own choice")] = None,
    memory: Annotated[
        bool, typer.Option("--memory", help="Measure peak memory, each step in a process of its own, and no times.")
    ] = False,
    lengths_from: Annotated[
        str | None,
        typer.Option(
            help="Measure layers that compute padding against such as leave it out: real lengths from a file (a "
            "number a line) or `headlines`; --lengths are the padded widths."
        ),
    ] = None,
    memory_limit: Annotated[
        float | None,
        typer.Option(help="GiB beyond which a step is out of memory.", show_default="nine tenths of what is free"),
    ] = None,
) -> None:
    """Measure training steps and inference of models of equal size in turn; write CSV, JSON and a figure."""
    from flash.benchmarking.benchmark import parameter_counts, read_results, run_benchmark
    from flash.benchmarking.contestants import default_contestants
    from flash.benchmarking.settings import BenchmarkSettings
    from flash.benchmarking.tables import format_results
    from flash.cli.console import quiet_libraries

    quiet_libraries()
    settings = BenchmarkSettings(
        contestants=_names(contestants) if contestants is not None else tuple(default_contestants()),
        size=size,
        lengths=_numbers(lengths),
        batch_tokens=batch_tokens,
        modes=_names(modes),
        baseline=baseline,
        rounds=rounds,
        warmup=warmup,
        budget_seconds=budget,
        device=device,
    )
    for family, counts in parameter_counts(settings).items():
        typer.echo(f"{family}: {counts['parameters']:,} parameters, {counts['difference']:+.2%} of FLASH-Quad")
    for progress in run_benchmark(
        settings,
        output,
        memory=memory,
        lengths_from=lengths_from,
        threads=threads,
        memory_limit_gib=memory_limit,
    ):
        typer.echo(progress, err=True)
    results = read_results(output)
    typer.echo(format_results(results))
    typer.echo(f"results are in {output}")
    failed = [row for row in results.points if row.status == "failed"]
    for row in failed:
        typer.echo(f"failed: {row.contestant}, {row.mode}, {row.length:,} tokens: {row.note}", err=True)
    if failed:
        raise typer.Exit(1)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _numbers(text: str) -> tuple[int, ...]:
    from flash.errors import InputError

    try:
        return tuple(int(number) for number in _names(text))
    except ValueError:
        raise InputError(f"--lengths {text}: write whole numbers with commas between them, such as 128,512") from None
