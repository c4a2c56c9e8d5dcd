"""Pretraining: a recipe in, a model folder out."""

import json
import logging
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import datasets
import torch
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase, set_seed
from transformers.integrations import TensorBoardCallback
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import PrinterCallback, ProgressCallback, TrainerState

from flash.data.collator import WholeWordMaskCollator
from flash.data.manifest import read_manifest
from flash.data.pretraining_dataset import (
    PretrainingDataset,
    load_prepared_folder,
    split_tail,
    tokenize_dataset,
)
from flash.data.rows import NumberedRows
from flash.data.token_dataset import TokenDataset
from flash.data.token_folder import is_token_folder, open_token_folder
from flash.data.tokenizer_at import load_tokenizer_at
from flash.data.vocabulary_check import check_vocabulary
from flash.errors import InputError
from flash.models.base_configuration import own_settings
from flash.models.checkpoint_folders import checkpoints_newest_first
from flash.models.execution import warn_of_missing_kernels
from flash.training.arguments import PretrainingArguments
from flash.training.checkpoints import (
    check_same_everywhere,
    last_whole_checkpoint,
    saying_how_to_go_on,
    steps_done,
    why_unusable,
)
from flash.training.folder_lock import LOCK, only_process_in
from flash.training.initial_model import load_initial_model, new_model
from flash.training.progress import TokenProgressCallback
from flash.training.report import draw_curves, write_model_card
from flash.training.reporters import make_reporting_callbacks
from flash.training.trainer import MaskedLMTrainer, MaskEpochCallback

# Settings of a configuration that say how a model is run; the Trainer itself switches off use_cache. What a classifier
# reads is nothing to pretraining: a run that began before presets named it goes on.
HOW_NOT_WHAT = ("use_cache", "gradient_checkpointing", "classifier_pooling")

logger = logging.getLogger(__name__)


@dataclass
class PretrainingResult:
    """Where a run left its files, and its last validation figures."""

    model_dir: Path
    curves: Path
    logging_dir: Path
    metrics: dict[str, float]


def pretrain(args: PretrainingArguments, *, command: str) -> PretrainingResult:
    """Train a masked language model, or go on with a run that was stopped, and write the model folder.

    Args:
        args: Settings of the run.
        command: The command line, for the model card.

    Raises:
        InputError: A folder, tokenizer, checkpoint or setting that cannot be used; nothing is written then.
    """
    if not args.do_train or args.process_index > 0:
        return _pretrain(args, command=command)
    with only_process_in(Path(args.output_dir)):
        return _pretrain(args, command=command)


def _pretrain(args: PretrainingArguments, *, command: str) -> PretrainingResult:
    reporters = list(args.report_to or [])
    reporting_callbacks = make_reporting_callbacks([name for name in reporters if name != "tensorboard"])
    args.report_to = []  # the Trainer would make the callbacks a second time
    set_seed(args.seed)
    # before the tokenizer, which is the initial model's where no other is named
    initial_model = None if args.init_model is None else load_initial_model(args, args.init_model)
    tokenizer_name = args.default_tokenizer()
    tokenizer = load_tokenizer_at(tokenizer_name)
    checkpoint = _find_checkpoint(args)
    check_same_everywhere(checkpoint, Path(args.output_dir))
    if initial_model is None:
        model = new_model(args, tokenizer, tokenizer_name)
    else:
        model = initial_model
        check_vocabulary(tokenizer, tokenizer_name, model_name=str(args.init_model), vocab_size=model.config.vocab_size)
    warn_of_missing_kernels(model.config, args.device)
    if checkpoint is not None:
        _check_same_settings(checkpoint, model)
        _check_same_optimizer(checkpoint, muon=args.muon)
    with args.main_process_first(desc="tokenize"):  # the other ranks find its cache
        train_rows, validation_rows = _load_rows(args, tokenizer)
    collator = WholeWordMaskCollator(
        tokenizer,
        mask_probability=args.mlm_probability,
        mask_ngrams=args.mask_ngrams,
        seed=args.seed,
        pad_to=args.max_seq_length if args.pad_to_max_length else None,
        pad_to_multiple_of=8 if args.fp16 or args.bf16 else 1,
        mask_later=args.mask_on_device,
    )
    logging_dir = Path(args.logging_dir or args.output_dir)
    trainer = MaskedLMTrainer(
        model=model,
        args=args,
        train_dataset=train_rows,
        eval_dataset=validation_rows,
        processing_class=tokenizer,
        data_collator=collator,
        masker=collator.masker if args.mask_on_device else None,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    if train_rows is not None:
        trainer.add_callback(MaskEpochCallback(train_rows))
    trainer.add_callback(TokenProgressCallback(show_bar=sys.stderr.isatty() and not args.disable_tqdm))
    for callback in reporting_callbacks:
        trainer.add_callback(callback)
    if "tensorboard" in reporters and trainer.is_world_process_zero():
        tensorboard = TensorBoardCallback(_tensorboard_writer(logging_dir, args, checkpoint))
        tensorboard.logging_dir = str(logging_dir)  # it opens the folder anew for what is logged after training
        trainer.add_callback(tensorboard)

    if train_rows is not None:
        # only now, when nothing can be found wrong with the arguments any more
        if trainer.is_world_process_zero():
            if checkpoint is not None:
                print(f"resume from {checkpoint}")
            elif args.overwrite_output_dir:
                for folder in checkpoints_newest_first(args.output_dir):
                    shutil.rmtree(folder)
        # asked before training, in which --save_total_limit may delete the checkpoint
        done = 0 if checkpoint is None else steps_done(checkpoint)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if checkpoint is not None and trainer.state.global_step == done and trainer.is_world_process_zero():
            print(f"nothing to train: {done} steps are done")
    metrics = _final_metrics(trainer) if validation_rows is not None else {}
    result = PretrainingResult(
        model_dir=Path(args.output_dir),
        curves=Path(args.output_dir) / "curves.png",
        logging_dir=logging_dir,
        metrics=metrics,
    )
    if train_rows is not None:
        with saying_how_to_go_on(result.model_dir):
            trainer.save_model()
        if trainer.is_world_process_zero():
            trainer.state.save_to_json(str(result.model_dir / "trainer_state.json"))
            draw_curves(trainer.state.log_history, result.curves)
            write_model_card(
                result.model_dir,
                model=model,
                command=command,
                manifest=read_manifest(args.train_dir),
                log_history=trainer.state.log_history,
                validation=metrics,
                steps=trainer.state.global_step,
                model_step=_step_of_the_model(trainer),
                tokens_seen=trainer.tokens_seen,
                train_rows=len(train_rows),
                validation_rows=0 if validation_rows is None else len(validation_rows),
            )
    return result


def _final_metrics(trainer: MaskedLMTrainer) -> dict[str, float]:
    """Return the figures of the model as it is now, evaluated if that was not done."""
    step = _step_of_the_model(trainer)
    for entry in reversed(trainer.state.log_history):
        if "eval_loss" in entry and entry["step"] == step:
            return entry
    return trainer.evaluate()


def _step_of_the_model(trainer: MaskedLMTrainer) -> int:
    """Return the step that the weights are of, once training is over: the last, or the best if that was loaded."""
    state = trainer.state
    was_loaded = trainer.args.load_best_model_at_end and state.best_model_checkpoint is not None
    return state.best_global_step if was_loaded and state.best_global_step is not None else state.global_step


def _tensorboard_writer(
    logging_dir: Path, args: PretrainingArguments, checkpoint: Path | None
) -> "torch.utils.tensorboard.SummaryWriter":
    from torch.utils.tensorboard import SummaryWriter

    # what a killed or replaced run logged from here on is logged again: without the purge its curve would double back
    first_step = None
    if args.do_train:
        first_step = 0 if checkpoint is None else steps_done(checkpoint) + 1
    return SummaryWriter(log_dir=str(logging_dir), purge_step=first_step)


def _find_checkpoint(args: PretrainingArguments) -> Path | None:
    """Decide whether the run starts or goes on, and refuse a folder that holds something else."""
    output_dir = Path(args.output_dir)
    if args.resume_from_checkpoint:
        named = Path(args.resume_from_checkpoint)
        fault = why_unusable(named) if named.is_dir() else "no such folder"
        if fault is not None:
            raise InputError(f"--resume_from_checkpoint {named}: {fault}; leave it out to take the last whole one")
        return named
    if not args.do_train or not output_dir.exists() or args.overwrite_output_dir:
        return None
    checkpoint = last_whole_checkpoint(output_dir)
    if checkpoint is not None:
        return checkpoint
    # a run that was killed before its first whole checkpoint leaves these two
    checkpoints, logs = checkpoints_newest_first(output_dir), Path(args.logging_dir or output_dir).resolve()
    others = sorted(
        path.name
        for path in output_dir.iterdir()
        if path not in checkpoints and path.name != LOCK and not logs.is_relative_to(path.resolve())
    )
    if others:
        raise InputError(
            f"{output_dir} exists and holds {others[0]} but no whole checkpoint; name another --output_dir, or pass "
            "--overwrite_output_dir to train into it from the start"
        )
    return None


def _check_same_settings(checkpoint: Path, model: PreTrainedModel) -> None:
    """Refuse other model settings than the checkpoint's: weights that do not fit would be left as they are."""
    saved = AutoConfig.from_pretrained(checkpoint)
    settings = [name for name in own_settings(type(model.config)) if name not in HOW_NOT_WHAT]
    for name in ["model_type", *settings]:
        # an architecture has settings that another one lacks; model_type comes first and tells them apart
        before, now = getattr(saved, name, None), getattr(model.config, name)
        if before != now:
            raise InputError(
                f"{checkpoint} was trained with {name}={before}, this run asks for {name}={now}; give the settings and "
                "the tokenizer of that run again, or another --output_dir"
            )


def _check_same_optimizer(checkpoint: Path, *, muon: bool) -> None:
    """Refuse a checkpoint that another optimizer wrote: its state would not fit."""
    state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
    before = state.stateful_callbacks.get(MaskedLMTrainer.STATE_KEY, {}).get("muon", False)
    if before != muon:
        raise InputError(
            f"{checkpoint} was trained {'with' if before else 'without'} --muon; give the flags of that run again, or "
            "another --output_dir"
        )


def _load_rows(
    args: PretrainingArguments, tokenizer: PreTrainedTokenizerBase
) -> tuple[NumberedRows | None, NumberedRows | None]:
    """Open what the run needs: rows to train on only where it trains."""
    if args.validation_dir is not None:
        validation = _as_dataset(_open_rows(args.validation_dir, args, tokenizer))
        return _as_dataset(_open_rows(args.train_dir, args, tokenizer)) if args.do_train else None, validation
    rows = _open_rows(args.train_dir, args, tokenizer)
    if args.validation_split == 0:
        return _as_dataset(rows), None
    train, validation = split_tail(rows, args.validation_split)
    return _as_dataset(train) if args.do_train else None, _as_dataset(validation)


def _open_rows(
    address: str, args: PretrainingArguments, tokenizer: PreTrainedTokenizerBase
) -> datasets.Dataset | TokenDataset:
    """Open a folder of tokens, or tokenize one of text."""
    if is_token_folder(address):
        folder = open_token_folder(address, tokenizer)
        if args.verify_data:
            folder.verify()
        return TokenDataset(folder, max_length=args.max_seq_length)
    return tokenize_dataset(
        load_prepared_folder(address),
        folder=address,
        tokenizer=tokenizer,
        max_length=args.max_seq_length,
        workers=args.preprocessing_num_workers,
        overwrite_cache=args.overwrite_cache,
    )


def _as_dataset(rows: datasets.Dataset | TokenDataset) -> NumberedRows:
    return rows if isinstance(rows, TokenDataset) else PretrainingDataset(rows)


def result_summary(result: PretrainingResult) -> str:
    """Tell a person where everything is."""
    lines = []
    if result.curves.exists():  # not where a model was only scored
        lines += [f"model        {result.model_dir}", f"curves       {result.curves}"]
    if result.logging_dir.exists():
        lines.append(f"TensorBoard  tensorboard --logdir {shlex.quote(str(result.logging_dir))}")
    if "eval_mlm_acc" in result.metrics:  # not where none of the rows' tokens was scored
        figures = {name: result.metrics[f"eval_{name}"] for name in ("loss", "mlm_acc", "perplexity")}
        lines.append(f"validation   {json.dumps({k: round(v, 4) for k, v in figures.items()})}")
    return "\n".join(lines)
