"""A tokenizer that lies in an object store, beside the shards that it made."""

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
            filesystem.get(f"{root}/", folder, recursive=True)
        except (ImportError, OSError, ValueError) as error:
            raise InputError(
                f"the tokenizer {address} cannot be read ({' '.join(str(error).split())}); check the address, or name "
                "another with --tokenizer_name"
            ) from error
        tokenizer = load_tokenizer(folder)
    tokenizer.name_or_path = address
    return tokenizer
