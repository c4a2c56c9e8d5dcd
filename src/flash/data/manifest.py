"""What a prepared folder says of itself, wherever it lies, and whether a tokenizer is the one it was made with."""

import json
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from transformers import PreTrainedTokenizerBase

from flash.corpus.input_files import printable
from flash.corpus.tokenizer_loading import tokenizer_fingerprint
from flash.errors import InputError

# what a manifest must say of the tokenizer that positions or ids were made with
_TOKENIZER_KEYS = {"name", "sha256", "vocab_size"}


def shown(address: str | Path) -> str:
    """Return a path or an address as text on one line."""
    return str(address) if "://" in str(address) else printable(Path(address))


def filesystem_of(address: str | Path) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the file system that a folder lies on, and its path there.

    A path is not searched for the signs that mean something in addresses (``::``, ``~``).
    """
    if "://" in str(address):
        filesystem, root = fsspec.core.url_to_fs(str(address))
        return filesystem, root.rstrip("/")
    return LocalFileSystem(), str(Path(address).absolute())


def read_manifest(folder: str | Path) -> dict[str, Any] | None:
    """Read the manifest of a prepared folder; None for a folder of the earlier repository, which has none.

    Args:
        folder: A path, or the address of a folder that fsspec can open.

    Raises:
        InputError: It is damaged, does not say which tokenizer the folder was made with, or cannot be reached.
    """
    path = f"{str(folder).rstrip('/')}/manifest.json"
    try:
        filesystem, root = filesystem_of(folder)
        content = filesystem.cat_file(f"{root}/manifest.json")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ImportError, OSError, ValueError) as error:
        # a protocol that is not known, a package of it that is not installed, or its server
        raise InputError(f"{shown(path)} cannot be read ({' '.join(str(error).split())}); check the address") from error
    try:
        manifest = json.loads(content)
    except ValueError as error:
        raise InputError(
            f"{shown(path)} is damaged ({error}); prepare the text again with `flashquad prepare`"
        ) from error
    tokenizer = manifest.get("tokenizer") if isinstance(manifest, dict) else None
    missing = _TOKENIZER_KEYS - set(tokenizer) if isinstance(tokenizer, dict) else _TOKENIZER_KEYS
    if missing:
        raise InputError(
            f"{shown(path)} does not give the tokenizer's {', '.join(sorted(missing))}; prepare the text again with "
            "`flashquad prepare`"
        )
    return manifest


def check_tokenizer(manifest: dict[str, Any], folder: str | Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer other than the one that a folder was made with.

    Raises:
        InputError: It gives other tokens, whatever its name.
    """
    made_with = manifest["tokenizer"]
    if made_with["sha256"] != tokenizer_fingerprint(tokenizer):
        given = tokenizer.name_or_path or "the one given"
        raise InputError(
            f"{shown(folder)} was prepared with the tokenizer {made_with['name']} ({made_with['vocab_size']} tokens), "
            f"not with {given} ({len(tokenizer)} tokens), whose tokens are others. Pass that tokenizer, or prepare the "
            "text again with this one"
        )
