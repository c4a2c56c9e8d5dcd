"""A tokenizer that lies in an object store, beside the shards that it made."""

from pathlib import PurePosixPath
from tempfile import TemporaryDirectory

from transformers import PreTrainedTokenizerFast

from flash.corpus.tokenizer_loading import load_tokenizer
from flash.data.manifest import filesystem_of
from flash.errors import InputError


def load_tokenizer_at(address: str) -> PreTrainedTokenizerFast:
    """Load a tokenizer by the address of its folder, or by whatever else ``load_tokenizer`` takes.

    Raises:
        InputError: There is none, or none that can be used.
    """
    if "://" not in address:
        return load_tokenizer(address)
    with TemporaryDirectory() as folder:
        try:
            filesystem, root = filesystem_of(address)
            for entry in filesystem.ls(root, detail=True):  # `get` would take * ? [ in the name for a pattern
                if entry["type"] == "file":
                    filesystem.get_file(entry["name"], f"{folder}/{PurePosixPath(entry['name']).name}")
        except (ImportError, OSError, ValueError) as error:
            raise InputError(
                f"the tokenizer {address} cannot be read ({' '.join(str(error).split())}); check the address, or name "
                "another with --tokenizer_name"
            ) from error
        try:
            tokenizer = load_tokenizer(folder)
        except InputError as error:
            raise InputError(str(error).replace(folder, address)) from error
    tokenizer.name_or_path = address
    return tokenizer
