"""``flashquad pretrain``: recipe and flags -> model folder."""

from pathlib import Path
from typing import Annotated

import typer

from flash.cli.flags import flags_of, typed_command

# a paragraph a line: the terminal's width decides where they break
EPILOG = "\n\n".join(
    (
        "Example:  flashquad pretrain --train_dir ./clue_small_wwm_data --output_dir ./wwm_flash_small --bf16",
        "Any flag of transformers' TrainingArguments is taken too: --learning_rate, --max_steps, --warmup_steps, "
        "--per_device_train_batch_size, --gradient_accumulation_steps, --logging_steps, --save_steps, --seed, --bf16, "
        "--fp16, --dataloader_num_workers, --report_to, ... (--help-all lists them). Their names are those of the "
        "earlier repository's script.",
        "A run that was stopped goes on from its last whole checkpoint when the same command is given again. On "
        "several GPUs: torchrun --nproc_per_node 8 run_mlm_wwm.py --recipe small with the same flags.",
    )
)


def pretrain(
    context: typer.Context,
    recipe: Annotated[
        str, typer.Option(help="Recipe of the package (small, tiny-zh, demo, earlier) or a YAML file.")
    ] = "small",
    train_dir: Annotated[
        str | None,  # no path: that would take a slash out of s3://
        typer.Option(
            "--train_dir",
            help="Dataset folder made by `flashquad prepare`, or the address of one. Default: ./clue_small_wwm_data.",
        ),
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option("--output_dir", help="Folder of the run. Default: ./flashquad-output.")
    ] = None,
    validation_dir: Annotated[
        str | None,
        typer.Option("--validation_dir", help="Dataset folder to validate on. Default: the last 1 % of train_dir."),
    ] = None,
    model_name: Annotated[
        str | None,
        typer.Option("--model_name", help="Architecture of a new model: flashquad or flash. Default: flashquad."),
    ] = None,
    init_model: Annotated[
        str | None,
        typer.Option("--init_model", help="Folder or hub id of a model to go on from, in place of a new one."),
    ] = None,
    tokenizer_name: Annotated[
        str | None,
        typer.Option(
            "--tokenizer_name",
            help="Hub id, folder or vocab.txt. Default: what the dataset was prepared with.",
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(help="Model settings over the recipe's: preset=base,token_shift=0"),
    ] = None,
    overwrite_output_dir: Annotated[
        bool, typer.Option("--overwrite_output_dir", help="Start anew in a folder that holds a run.")
    ] = False,
    help_all: Annotated[bool, typer.Option("--help-all", help="List every flag there is.")] = False,
) -> None:
    """Pretrain a FLASH-Quad or FLASH masked language model with whole-word masking."""
    from flash.training.recipes import parse_arguments

    options = {
        "--train_dir": train_dir,
        "--output_dir": output_dir,
        "--validation_dir": validation_dir,
        "--model_name": model_name,
        "--init_model": init_model,
        "--tokenizer_name": tokenizer_name,
        "--config": config,
        "--overwrite_output_dir": overwrite_output_dir,
        "--help": help_all,
    }
    args = parse_arguments([*flags_of(options), *context.args], recipe)

    from flash.cli.console import quiet_libraries
    from flash.training.pretrain import pretrain as run
    from flash.training.pretrain import result_summary

    quiet_libraries()
    print(result_summary(run(args, command=typed_command())))
