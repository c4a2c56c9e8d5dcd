"""The optimizer behind ``--optim``, which may need a package that is not there."""

from typing import Any

from torch import nn
from transformers import Trainer
from transformers.training_args import OptimizerNames

from flash.errors import InputError


def stock_optimizer(trainer: Trainer, model: nn.Module) -> tuple[Any, dict[str, Any]]:
    """Return the class of optimizer that ``--optim`` names, and what it is made with.

    Raises:
        InputError: It cannot be had, most often because its package is not installed.
    """
    try:
        return trainer.get_optimizer_cls_and_kwargs(trainer.args, model)
    except (ImportError, ValueError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(f"--optim {OptimizerNames(trainer.args.optim).value}: {reason}; or leave it out") from error
