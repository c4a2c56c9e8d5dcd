"""``flashquad finetune``: checkpoint and task -> model folder, scores, predictions, figures."""

from pathlib import Path
from typing import Annotated

import typer

from flash.cli.flags import flags_of, typed_command

EPILOG = "\n\n".join(
    (
        "Example:  flashquad finetune --task tnews --data_dir clue/tnews --model ./wwm_flash_small "
        "--output_dir tnews --learning_rates 1e-4 3e-4 --seeds 3 --bf16",
        "Tasks: tnews, iflytek, csldcp, eprstmt, chnsenticorp, waimai, thucnews, afqmc, lcqmc, bustm, ocnli, cmnli, "
        "csl, cluewsc, stsb, cluener, cmrc2018, c3, chid; for files of your own text, pair, value, pair-value, "
        "entities, reading, choice with --text_columns and --label_column, or a YAML file.",
        "Any flag of transformers' TrainingArguments is taken too (--help-all lists them). A study that was stopped "
        "goes on when the same command is given again.",
    )
)


def finetune(
    context: typer.Context,
    task: Annotated[str | None, typer.Option(help="Name of a task, or a YAML file that describes one.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Checkpoint to start from: a folder or hub id, of any architecture.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data_dir", help="Folder with train, dev and perhaps test (.json, .csv, ...).")
    ] = None,
    train_file: Annotated[Path | None, typer.Option("--train_file", help="File to train on.")] = None,
    dev_file: Annotated[Path | None, typer.Option("--dev_file", help="File that chooses the best checkpoint.")] = None,
    test_file: Annotated[Path | None, typer.Option("--test_file", help="File to predict.")] = None,
    output_dir: Annotated[
        Path | None, typer.Option("--output_dir", help="Folder of the study. Default: ./flashquad-finetuned.")
    ] = None,
    text_columns: Annotated[
        str | None, typer.Option("--text_columns", help="Columns of the texts: text, or sentence1,sentence2.")
    ] = None,
    label_column: Annotated[str | None, typer.Option("--label_column", help="Column of what is to be found.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Runs with different seeds: mean and spread are told.")] = None,
    from_scratch: Annotated[bool, typer.Option("--from_scratch", help="Start from new weights, to compare.")] = False,
    help_all: Annotated[bool, typer.Option("--help-all", help="List every flag there is.")] = False,
) -> None:
    """Fine-tune a checkpoint on a task, and score it."""
    options = {
        "--task": task,
        "--model": model,
        "--data_dir": data_dir,
        "--train_file": train_file,
        "--dev_file": dev_file,
        "--test_file": test_file,
        "--output_dir": output_dir,
        "--text_columns": text_columns,
        "--label_column": label_column,
        "--seeds": seeds,
        "--from_scratch": from_scratch,
        "--help": help_all,
    }
    from flash.finetuning.arguments import FinetuningArguments
    from flash.training.flags import parse_flags, settings_of

    namespace = parse_flags(
        FinetuningArguments, [*flags_of(options), *context.args], command="flashquad finetune", defaults={}
    )
    args = settings_of(FinetuningArguments, namespace)

    from flash.cli.console import quiet_libraries
    from flash.finetuning.finetune import finetune as run
    from flash.finetuning.finetune import study_summary

    quiet_libraries()
    print(study_summary(run(args, command=typed_command())))
