"""Recipes: one YAML file is one run that can be repeated; and the parser that a recipe and a command line share."""

from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from flash.errors import InputError
from flash.training.arguments import PretrainingArguments, parse_config_settings
from flash.training.flags import parse_flags, settings_of


def recipe_names() -> list[str]:
    """List the recipes that come with the package."""
    folder = resources.files("flash") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir())


def load_recipe(name: str) -> dict[str, Any]:
    """Read a recipe by its name in the package or by its path.

    Raises:
        InputError: No such recipe, no UTF-8, YAML or mapping in it, or a key that is no setting.
    """
    packaged = resources.files("flash") / "recipes" / f"{name}.yaml"
    if name in recipe_names():
        content = packaged.read_bytes()
    elif Path(name).is_file():
        content = Path(name).read_bytes()
    else:
        raise InputError(f"no recipe {name!r}: it is neither a file nor one of {', '.join(recipe_names())}")
    try:
        settings = yaml.safe_load(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(
            f"recipe {name}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error
    except yaml.YAMLError as error:
        raise InputError(f"recipe {name}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        raise InputError(f"recipe {name}: expected lines `key: value`, got {type(settings).__name__}")
    known = {f.name for f in fields(PretrainingArguments)}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise InputError(
            f"recipe {name}: unknown key {unknown[0]!r}; the keys are the long flags of `flashquad pretrain --help-all`"
        )
    if isinstance(settings.get("config"), str):
        settings["config"] = parse_config_settings(settings["config"])
    if not isinstance(settings.get("config", {}), dict | None):
        raise InputError(f"recipe {name}: config must be lines `key: value` of its own, got {settings['config']!r}")
    return settings


def parse_arguments(
    command_line: list[str], recipe: str | None = None, *, command: str = "flashquad pretrain"
) -> PretrainingArguments:
    """Read flags over a recipe's settings over the defaults.

    Args:
        command_line: The flags.
        recipe: Its name in the package, or its path.
        command: What was typed before the flags, for help and messages.

    Raises:
        InputError: An unknown recipe, flag or value.
    """
    settings = load_recipe(recipe) if recipe else {}
    namespace = parse_flags(PretrainingArguments, command_line, command=command, defaults=settings)
    if isinstance(namespace.config, str):
        # single settings on the command line go over the recipe's, they do not replace them all
        base = settings.get("config") if recipe else load_recipe("small")["config"]
        if namespace.init_model is not None:
            base = None  # the recipe's settings are for a new model
        namespace.config = (base or {}) | parse_config_settings(namespace.config)
    elif namespace.init_model is not None:
        namespace.config = None
    return settings_of(PretrainingArguments, namespace)
