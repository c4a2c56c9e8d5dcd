"""What a pretraining run is told: the flags of the earlier command line and those of transformers' Trainer."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import TrainingArguments

from flash.errors import InputError

logger = logging.getLogger(__name__)

# embeddings, gains and biases want a higher learning rate than matrices do: docs/decisions/0007
MUON_SHARE = 0.25
HIGHEST_SEED = 2**32 - 1  # of NumPy


@dataclass
class PretrainingArguments(TrainingArguments):
    """Settings of masked-language-model pretraining; every field of ``TrainingArguments`` is one too."""

    model_name: str = field(default="flashquad", metadata={"help": "Architecture of a new model: flashquad or flash."})
    init_model: str | None = field(
        default=None,
        metadata={"help": "Folder or hub id of a model to go on from, in place of a new one."},
    )
    config: dict | str | None = field(
        default=None,
        metadata={
            "help": "Settings of a new model over the defaults of FLASHQuadConfig (or FLASHConfig): "
            "'key=value,key=value' (in a recipe: a mapping); preset=tiny|small|base|large puts the recommended ones "
            "of a size below them. Default: the settings of the recipe `small`."
        },
    )
    tokenizer_name: str | None = field(
        default=None,
        metadata={"help": "Hub id, folder or vocab.txt of the tokenizer. Default: the one saved beside the dataset."},
    )
    train_dir: str = field(
        default="./clue_small_wwm_data",
        metadata={
            "help": "Dataset folder: of tokens, or with the columns text and chinese_ref. A folder of tokens may lie "
            "in an object store (s3://...), from where it is streamed."
        },
    )
    validation_dir: str | None = field(
        default=None, metadata={"help": "Dataset folder to validate on, in place of a part of train_dir."}
    )
    validation_split: float = field(
        default=0.01,
        metadata={"help": "Share of the rows (the last ones, at most 2000) held out for validation; 0: none."},
    )
    max_seq_length: int = field(
        default=512,
        metadata={"help": "Most tokens in a row, [CLS] and [SEP] counted; longer rows are cut in several."},
    )
    mlm_probability: float = field(default=0.15, metadata={"help": "Share of the words to hide."})
    mask_ngrams: int = field(
        default=1, metadata={"help": "Hide spans of up to so many words; 1: words independently of each other."}
    )
    mask_on_device: bool = field(
        default=False,
        metadata={"help": "Mask on the GPU, not in the loader's workers; the same words are hidden."},
    )
    scored_positions: int | None = field(
        default=None,
        metadata={
            "help": "Score so many positions of each batch, the hidden ones first: with --pad_to_max_length all shapes "
            "are fixed, as --torch_compile likes them; an error where more are hidden. Default: as many as are hidden."
        },
    )
    pad_to_max_length: bool = field(
        default=False,
        metadata={"help": "Pad every batch to max_seq_length, not to its longest row."},
    )
    preprocessing_num_workers: int = field(default=1, metadata={"help": "Processes that tokenize a folder of text."})
    verify_data: bool = field(
        default=False,
        metadata={"help": "Compare the SHA-256 of each shard of tokens with its manifest before training."},
    )
    stream_buffer_rows: int = field(
        default=16384,
        metadata={"help": "Rows that each worker of a loader shuffles streamed rows over."},
    )
    overwrite_cache: bool = field(default=False, metadata={"help": "Tokenize a folder of text again."})
    overwrite_output_dir: bool = field(
        default=False,
        metadata={"help": "Start anew in an output_dir that holds a run; its checkpoints are deleted."},
    )
    logging_dir: str | None = field(
        default=None, metadata={"help": "Folder of the TensorBoard logs. Default: output_dir/logs."}
    )
    evaluation_strategy: str | None = field(default=None, metadata={"help": "Earlier name of --eval_strategy."})

    # over the defaults of TrainingArguments
    output_dir: str = field(default="./flashquad-output", metadata={"help": "Folder of the run."})
    # None first, because HfArgumentParser takes the second type for the flag's
    report_to: None | str | list[str] = field(  # noqa: RUF036
        default="tensorboard",
        metadata={"help": "Where to log: tensorboard, wandb, trackio, ... or none."},
    )
    adam_epsilon: float = field(default=1e-6, metadata={"help": "Epsilon of AdamW."})
    muon: bool = field(
        default=False,
        metadata={"help": "Step the matrices of the layers with torch.optim.Muon, the rest with AdamW."},
    )
    muon_learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of Muon. Default: a quarter of --learning_rate, AdamW's."}
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "Not used: the collator needs every column."})
    ddp_find_unused_parameters: bool | None = field(
        default=False,
        metadata={"help": "Look for parameters without a gradient in each step; every one has one."},
    )

    def __post_init__(self) -> None:
        """Map the earlier names, check what transformers does not, then do what it does."""
        if self.evaluation_strategy is not None:
            self.eval_strategy = self.evaluation_strategy
            self.evaluation_strategy = None
        if self.model_name not in ("flashquad", "flash"):
            raise InputError(
                f"--model_name {self.model_name}: there is flashquad (FLASH-Quad, where --model_name is left out) and "
                "flash (FLASH, linear in the length)"
            )
        if self.max_seq_length < 3:
            raise InputError(
                f"--max_seq_length must be at least 3, got {self.max_seq_length}: [CLS], one token and [SEP]"
            )
        if not 0 < self.mlm_probability < 1:
            raise InputError(f"--mlm_probability must lie between 0 and 1, got {self.mlm_probability}")
        if self.mask_ngrams < 1:
            raise InputError(f"--mask_ngrams must be at least 1, got {self.mask_ngrams}; 1 hides single words")
        if self.scored_positions is not None and self.scored_positions < 1:
            raise InputError(f"--scored_positions must be at least 1, got {self.scored_positions}")
        if self.stream_buffer_rows < 1:
            raise InputError(f"--stream_buffer_rows must be at least 1, got {self.stream_buffer_rows}")
        if not 0 <= self.validation_split <= 0.5:
            raise InputError(f"--validation_split must lie between 0 and 0.5, got {self.validation_split}")
        if not self.do_eval and not self.do_predict:
            self.do_train = True  # a bare command means to train, as --do_train says
        self._check_values_of_the_trainer()
        self.remove_unused_columns = False
        has_validation = self.validation_dir is not None or self.validation_split > 0
        if not self.do_train and (self.init_model is None or not has_validation):
            raise InputError(
                "--do_eval without --do_train scores a model on held-out rows: name the model with --init_model, and "
                "the rows with --validation_dir or --validation_split"
            )
        evaluates = {
            "--do_eval": self.do_eval,
            "--eval_on_start": self.eval_on_start,
            f"--eval_strategy {self.eval_strategy}": self.eval_strategy != "no",
        }
        if not has_validation and any(evaluates.values()):
            flag = next(flag for flag, is_given in evaluates.items() if is_given)
            raise InputError(
                f"{flag} needs rows that are held out, and --validation_split 0 leaves none: name some with "
                "--validation_dir, or leave one of the two out"
            )
        if self.eval_strategy == "no" and has_validation and self.do_train:
            self.eval_strategy = self.save_strategy
            self.eval_steps = self.eval_steps or self.save_steps  # type: ignore[has-type]
        if not torch.accelerator.is_available():
            self.use_cpu = True  # without it TrainingArguments refuses bf16
        if self.fp16 and self.use_cpu:  # type: ignore[has-type]
            logger.warning("--fp16 has no effect on a CPU: the run is in float32; a CPU can do --bf16")
            self.fp16 = False
        without_warm_up = ("constant", "reduce_lr_on_plateau")
        if 0 < self.max_steps <= self.warmup_steps and self.lr_scheduler_type not in without_warm_up:
            logger.warning(
                "--warmup_steps %g: a run of %d steps never reaches --learning_rate %g; pass fewer, or a share of all "
                "steps such as 0.06",
                self.warmup_steps,
                self.max_steps,
                self.learning_rate,
            )
        if self.logging_dir is None:
            self.logging_dir = f"{self.output_dir.rstrip('/')}/logs"
        super().__post_init__()
        if self.n_gpu > 1:
            # the stock Trainer would take nn.DataParallel: slower than a process a GPU, and its losses are vectors
            logger.warning(
                "only one of %d GPUs is used; torchrun --nproc_per_node %d run_mlm_wwm.py ... uses all",
                self.n_gpu,
                self.n_gpu,
            )
            self._n_gpu = 1

    def _check_values_of_the_trainer(self) -> None:
        """Refuse what ``TrainingArguments`` takes but this training cannot keep its promises with."""
        if self.save_only_model:
            raise InputError(
                "--save_only_model: a run without its optimizer cannot be gone on with; leave it out "
                "(--save_total_limit bounds the disk space)"
            )
        if self.muon and (self.fsdp or self.deepspeed):
            raise InputError(
                "--muon needs whole matrices on each GPU, which --fsdp and --deepspeed take apart; leave out --muon or "
                "train with torchrun alone"
            )
        if self.muon_learning_rate is None:
            self.muon_learning_rate = MUON_SHARE * self.learning_rate
        elif not self.muon:
            raise InputError(
                f"--muon_learning_rate {self.muon_learning_rate} without --muon would do nothing; add --muon or leave "
                "it out"
            )
        elif self.muon_learning_rate < 0:
            raise InputError(
                f"--muon_learning_rate must be at least 0, got {self.muon_learning_rate}; pass one such as 5e-3"
            )
        if self.label_smoothing_factor != 0:
            raise InputError(
                f"--label_smoothing_factor {self.label_smoothing_factor}: the loss that is logged would not be the one "
                "that is trained on; leave it out"
            )
        if not 0 <= self.seed <= HIGHEST_SEED:
            raise InputError(
                f"--seed must lie between 0 and {HIGHEST_SEED:,}, got {self.seed}; take another, such as 2022"
            )
        if self.per_device_train_batch_size < 1:
            raise InputError(
                f"--per_device_train_batch_size must be at least 1, got {self.per_device_train_batch_size}; where "
                "memory is short, pass 1 and a larger --gradient_accumulation_steps"
            )
        if self.learning_rate < 0:
            raise InputError(f"--learning_rate must be at least 0, got {self.learning_rate}; pass one such as 1e-4")

    def config_settings(self) -> dict[str, Any] | None:
        """Return the settings of a new model, or None where none were given."""
        return parse_config_settings(self.config) if isinstance(self.config, str) else self.config

    def default_tokenizer(self) -> str:
        """Name the tokenizer that was asked for, or the one that ``train_dir`` was prepared with.

        Raises:
            InputError: Neither is known.
        """
        if self.tokenizer_name is not None:
            return self.tokenizer_name
        if self.init_model is not None:
            return self.init_model
        if "://" in self.train_dir:
            return f"{self.train_dir.rstrip('/')}/tokenizer"
        if not Path(self.train_dir).is_dir():
            raise InputError(
                f"--train_dir {self.train_dir}: no such folder; make one with `flashquad prepare` or `python "
                "run_chinese_ref.py`"
            )
        beside = Path(self.train_dir) / "tokenizer"
        if not beside.is_dir():
            raise InputError(
                f"--tokenizer_name is needed: {self.train_dir} has no folder `tokenizer`, which `flashquad prepare` "
                "leaves there"
            )
        return str(beside)


def parse_config_settings(text: str) -> dict[str, Any]:
    """Read ``key=value,key=value``; values are read as YAML (2, 0.5, true, fan_in).

    Raises:
        InputError: A part without ``=`` or with a value that is no YAML.
    """
    settings = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals:
            raise InputError(
                f"--config: {part!r} is not key=value; write e.g. --config hidden_size=256,num_hidden_layers=8"
            )
        try:
            settings[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(
                f"--config: the value of {part!r} is not valid YAML; write e.g. --config hidden_size=256,dropout=0.1"
            ) from error
    return settings
