"""A checkpoint of any architecture with a head for a task."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    AutoConfig,
    AutoModelForMultipleChoice,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import CONFIG_NAME

import flash  # noqa: F401  makes its models known to the Auto classes
from flash.errors import InputError
from flash.finetuning.problems.problem import Problem
from flash.models.base_configuration import BaseConfiguration
from flash.models.encoder import GatedEncoder
from flash.models.loading import without_load_report
from flash.models.scale_folding import fold_scales
from flash.ops.backends import check_backend_name
from flash.packaged import packaged_or_named

# models whose position limit is not one: docs/decisions/0001
_NO_LIMIT = ("flash_quad", "flash", "gau_alpha")
# poolings of configurations that take any text, and of which the model fails at the first batch
_UNCHECKED_POOLINGS = {"eurobert": ("bos", "mean", "late")}


def load_task_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """Load the tokenizer of a checkpoint.

    Raises:
        InputError: There is none, or none that knows where its tokens are in the text.
    """
    _check_folder(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(packaged_or_named(name))
    except Exception as error:  # of damaged files, of any kind: tokenizers raises Exception itself
        raise InputError(f"--model {name}: its tokenizer cannot be loaded: {_first_line(error)}") from error
    if not tokenizer.is_fast:
        raise InputError(f"--model {name}: its tokenizer gives no character offsets; save one with a tokenizer.json")
    if tokenizer.pad_token is None:
        raise InputError(f"--model {name}: its tokenizer has no padding token, which batches need")
    # places of tokens, of entities and answers, are counted from the left
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    return tokenizer


class TaskModel(NamedTuple):
    """A model under a task's head.

    Args:
        new_parameters: Names of those of its parameters that come from no checkpoint.
        head_replaced: Whether the checkpoint has a head for other labels or another kind of task, which was left out.
    """

    model: PreTrainedModel
    new_parameters: frozenset[str]
    head_replaced: bool = False


def load_task_model(
    name: str,
    problem: Problem,
    label_names: dict[str, str],
    *,
    max_length: int,
    from_scratch: bool = False,
    classifier_pooling: str | None = None,
    attention_backend: str | None = None,
) -> TaskModel:
    """Load a checkpoint under a task's head, whose weights are new unless the checkpoint has one for the same labels.

    Args:
        label_names: Readable names of classes; taken where they are different from each other.
        max_length: Most tokens of an input, refused where the model has fewer positions.
        from_scratch: Draw all weights anew.
        classifier_pooling: What a classifier of texts reads; None leaves it to the checkpoint.
        attention_backend: Implementation of the attention, of this package's models; None is ``auto``.

    Raises:
        InputError: The checkpoint cannot be loaded, cannot take ``max_length`` tokens, does not pool that way, or has
            no such backend.
    """
    _check_folder(name)
    source = packaged_or_named(name)
    settings: dict[str, Any] = problem.config_settings()
    if problem.head_labels():
        names = shown_labels(problem.head_labels(), label_names)
        settings |= {"id2label": dict(enumerate(names)), "label2id": {label: i for i, label in enumerate(names)}}
    try:
        before = AutoConfig.from_pretrained(source)
        config = AutoConfig.from_pretrained(source, **settings)
        config.dtype = torch.float32  # steps of fine-tuning are too small for weights in the half precision of a file
        if classifier_pooling is not None:
            _set_pooling(config, classifier_pooling, problem, name)
        if attention_backend is not None:
            _set_backend(config, attention_backend, name)
        if from_scratch:
            model = problem.auto_class.from_config(config)
            _check_positions(model, max_length, name)
            return TaskModel(model, frozenset(key for key, _ in model.named_parameters()))
        with without_load_report():
            model, report = problem.auto_class.from_pretrained(
                source, config=config, ignore_mismatched_sizes=True, output_loading_info=True
            )
    except InputError:
        raise
    except Exception as error:  # of damaged files, of any kind
        raise InputError(f"--model {name} cannot be loaded: {_first_line(error)}") from error
    _check_positions(model, max_length, name)
    prefix = f"{model.base_model_prefix}."
    encoder = [key for key in model.state_dict() if key.startswith(prefix)]
    missing = [key for key in report["missing_keys"] if key.startswith(prefix) and "pooler" not in key]
    if missing:
        raise InputError(
            f"--model {name}: {len(missing)} of {len(encoder)} encoder weights are missing, such as {missing[0]}; "
            "name a folder that save_pretrained or `flashquad pretrain` wrote"
        )
    for key, there, needed in report["mismatched_keys"]:
        if key.startswith(prefix):
            raise InputError(f"--model {name}: {key} has shape {tuple(there)}, its {CONFIG_NAME} says {tuple(needed)}")
    mismatched = {key for key, _, _ in report["mismatched_keys"]}
    new = {*report["missing_keys"], *mismatched}
    head = [key for key in model.state_dict() if not key.startswith(prefix)]
    has_head = bool(head) and not any(key in report["missing_keys"] for key in head)
    other_labels = bool(problem.head_labels()) and before.id2label != config.id2label
    # the one output of a value and that of a choice have the same shape
    other_kind = bool(before.architectures) and type(model).__name__ not in before.architectures
    replaced = has_head and bool(mismatched or other_labels or other_kind)
    if replaced:
        fresh = problem.auto_class.from_config(config)
        encoder_weights = {key: value for key, value in model.state_dict().items() if key.startswith(prefix)}
        fresh.load_state_dict(encoder_weights, strict=False)
        model, new = fresh, new | (fresh.state_dict().keys() - encoder_weights.keys())
    if new and isinstance(model.base_model, GatedEncoder):
        fold_scales(model.base_model)  # the new head reads an output of the size that its first weights are for
    return TaskModel(model, frozenset(new), bool(mismatched) or replaced)


def _check_positions(model: PreTrainedModel, max_length: int, name: str) -> None:
    limit = getattr(model.config, "max_position_embeddings", None)
    if model.config.model_type in _NO_LIMIT or limit is None:
        return
    # RoBERTa and its kin number the tokens of a text from the position behind that of the padding
    of_padding = [
        module.padding_idx
        for key, module in model.named_modules()
        if key.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None
    ]
    limit -= max(of_padding, default=-1) + 1
    if max_length > limit:
        raise InputError(
            f"--max_seq_length {max_length}: {name} has {limit} positions; pass at most that (longer texts are cut)"
        )


def usual_learning_rate(parameters: int) -> float:
    """Give a highest learning rate that models of this size bear, rounded to one digit.

    From 1e-3 for 7 million parameters (docs/decisions/0012) down to 4e-5 for 100 million, as is usual for models of
    that size; never above 1e-3 or below 1e-5.
    """
    rate = 1e-3 * (7e6 / parameters) ** 1.2
    return float(f"{min(max(rate, 1e-5), 1e-3):.0e}")


def _set_pooling(config: PreTrainedConfig, pooling: str, problem: Problem, name: str) -> None:
    if problem.auto_class not in (AutoModelForSequenceClassification, AutoModelForMultipleChoice):
        raise InputError(
            f"--classifier_pooling {pooling}: {problem.task.name} asks about single tokens, so nothing is pooled; "
            "leave it out"
        )
    if not hasattr(config, "classifier_pooling"):
        raise InputError(
            f"--classifier_pooling {pooling}: a {config.model_type} model ({name}) pools in one way only; leave it out"
        )
    there = _UNCHECKED_POOLINGS.get(config.model_type, (pooling,))
    if pooling not in there:
        raise InputError(
            f"--classifier_pooling {pooling}: not for a {config.model_type} model, whose ways are {', '.join(there)}; "
            "pass mean, or leave it out"
        )
    try:
        config.classifier_pooling = pooling
    except StrictDataclassError as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"--classifier_pooling {pooling}: not for a {config.model_type} model: {reason}") from error


def _set_backend(config: PreTrainedConfig, backend: str, name: str) -> None:
    check_backend_name(backend, flag=f"--attention_backend {backend}")
    if not isinstance(config, BaseConfiguration):
        raise InputError(
            f"--attention_backend {backend}: a {config.model_type} model ({name}) has the attention of transformers; "
            "leave it out"
        )
    config.attention_backend = backend  # type: ignore[assignment]


def shown_labels(labels: tuple[str, ...], names: dict[str, str]) -> list[str]:
    """Name the outputs: readably where each class has a name of its own."""
    shown = [names.get(label, label) for label in labels]
    return shown if len(set(shown)) == len(shown) else list(labels)


def _check_folder(name: str) -> None:
    if Path(name).is_file():
        raise InputError(f"--model {name} is a file; name the folder that it is in")
    if not Path(name).exists() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise InputError(f"--model {name}: no such folder")
    if Path(name).is_dir() and not (Path(name) / CONFIG_NAME).is_file():
        raise InputError(f"--model {name}: the folder has no {CONFIG_NAME}; name one that save_pretrained wrote")


def _first_line(error: Exception) -> str:
    """Shorten a message; where it says little without the kind of error, that is said too."""
    if isinstance(error, StrictDataclassError):  # its first line names the field, its second one the fault
        return " ".join(str(error).split())
    line, *_ = (str(error).strip() or type(error).__name__).splitlines()
    return line if isinstance(error, OSError | ValueError | RuntimeError) else f"{type(error).__name__}: {line}"
