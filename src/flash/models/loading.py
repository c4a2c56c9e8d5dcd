"""A masked language model from a folder or a hub id, whole or refused in one line."""

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedModel
from transformers.utils import CONFIG_NAME
from transformers.utils import logging as transformers_logging

from flash.errors import InputError
from flash.models.checkpoint_folders import checkpoints_newest_first
from flash.packaged import PACKAGED_MODEL, packaged_or_named

# RuntimeError, EOFError and UnpicklingError: a damaged pytorch_model.bin; StrictDataclassError: a value in config.json
_LOADING_ERRORS = (
    OSError,
    ValueError,
    RuntimeError,
    EOFError,
    SafetensorError,
    StrictDataclassError,
    pickle.PickleError,
)


def load_masked_lm(name: str, *, flag: str | None = None) -> PreTrainedModel:
    """Load a masked language model of any architecture, in evaluation mode.

    Args:
        name: Hub id, folder, or the model that comes with the package.
        flag: The flag that named the model, to begin the message of an error with.

    Raises:
        InputError: No name, no such model, damaged files, or weights that do not fit ``config.json``.
    """
    begin = f"{flag + ': ' if flag else ''}"
    if not name.strip():
        raise InputError(f"{begin}the name of the model is empty; give a folder, a hub id or {PACKAGED_MODEL}")
    refusal = f"{begin}cannot load a masked language model from {name}"
    source = packaged_or_named(name)
    folder = Path(source)
    if folder.is_dir() and not (folder / CONFIG_NAME).is_file():
        raise InputError(f"{refusal}: {_why_no_model(folder)}")
    try:
        # mismatched sizes are let through to be named below: the error that transformers raises only mentions them
        with without_load_report():
            model, report = AutoModelForMaskedLM.from_pretrained(
                source, output_loading_info=True, ignore_mismatched_sizes=True
            )
    except _LOADING_ERRORS as error:
        raise InputError(f"{refusal}: {_reason(error, folder)}") from error
    missing = sorted(report["missing_keys"])
    misfits = sorted([*missing, *(key for key, *_ in report["mismatched_keys"])])
    if missing:
        # read again: the config of the model has been made that of one with a head for masked tokens
        saved_from = (AutoConfig.from_pretrained(source).architectures or [""])[0]
        if saved_from and "MaskedLM" not in saved_from and "PreTraining" not in saved_from:
            raise InputError(
                f"{refusal}: it holds a {saved_from}, whose weights lack {missing[0]}; name the folder of a model "
                "that fills masks"
            )
    if misfits:
        raise InputError(
            f"{refusal}: its weights do not fit its {CONFIG_NAME} ({len(misfits)} are missing or of another shape, "
            f"such as {misfits[0]}); name a folder whose {CONFIG_NAME} was saved with the weights"
        )
    return model.eval()


@contextmanager
def without_load_report() -> Iterator[None]:
    """Leave out transformers' table of new and unused weights: they are expected, or named by an error."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


def _why_no_model(folder: Path) -> str:
    checkpoints = [path for path in checkpoints_newest_first(folder) if (path / CONFIG_NAME).is_file()]
    if checkpoints:
        return f"the run there is not finished; name its newest checkpoint, {checkpoints[0]}"
    return f"the folder has no {CONFIG_NAME}; name one that `flashquad pretrain` or save_pretrained wrote"


def _reason(error: Exception, folder: Path) -> str:
    # transformers explains at length; the first sentence says what is wrong
    reason = " ".join(str(error).split()).split(". ")[0] or type(error).__name__
    if not folder.exists():
        return f"there is no such folder here, and the Hugging Face hub gave none ({reason})"
    if isinstance(error, InputError | StrictDataclassError):
        return f"{reason}; correct its {CONFIG_NAME}"
    return f"{reason}; its files are damaged or not of a masked language model: save or fetch them again"
