"""What a shard of token rows must look like, and what is said where it does not."""

from pathlib import Path

import pyarrow as pa

from flash.data.manifest import shown
from flash.errors import InputError

_TOKEN_TYPES = (pa.large_list(pa.uint16()), pa.large_list(pa.uint32()))


def check_schema(schema: pa.Schema, source: str | Path) -> None:
    """Refuse columns other than those of docs/data.md.

    Raises:
        InputError: A column is missing or of another type.
    """
    wanted = {"input_ids": _TOKEN_TYPES, "word_starts": (pa.large_binary(),)}
    if "sequence_lengths" in schema.names:
        wanted["sequence_lengths"] = (pa.list_(pa.int32()),)
    for name, types in wanted.items():
        found = schema.field(name).type if name in schema.names else "nothing"
        if found not in types:
            raise damaged(source, f"its column {name} should hold {types[0]}, it holds {found}")


def damaged(source: str | Path, fault: str) -> InputError:
    """Make the error of a shard that is not what was written."""
    return InputError(
        f"{shown(source)} is damaged: {fault}; copy it again from where it was made, or prepare the text again with "
        "`flashquad prepare`"
    )
