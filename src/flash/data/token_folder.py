"""A folder of token shards, here or in an object store: its manifest, and whether the shards are those it names."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from transformers import PreTrainedTokenizerBase

from flash.data.manifest import check_tokenizer, filesystem_of, read_manifest, shown
from flash.errors import InputError

FORMAT_VERSION = 2
_HASHED_AT_ONCE_BYTES = 8 << 20
_ENTRY_KEYS = ("file", "rows", "bytes", "sha256")


@dataclass(frozen=True)
class ShardEntry:
    """What the manifest says of a shard."""

    file: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class TokenFolder:
    """A folder that was opened and found whole, by the names and sizes of its files.

    Args:
        address: Path or address, as it was given, on one line.
        filesystem: Where it lies.
        root: Its path there.
        shards: In the order of the rows.
        max_length: Most tokens of a row, [CLS] and [SEP] counted; None if the manifest does not say.
        vocab_size: Number of tokens of the tokenizer.
    """

    address: str
    filesystem: fsspec.AbstractFileSystem
    root: str
    shards: tuple[ShardEntry, ...]
    max_length: int | None
    vocab_size: int

    @property
    def is_local(self) -> bool:
        """Whether the files can be mapped into memory: an address such as file:// asks for a stream even so."""
        return isinstance(self.filesystem, LocalFileSystem) and "://" not in self.address

    def path_of(self, shard: ShardEntry) -> str:
        """Return the path of a shard on the file system of the folder."""
        return f"{self.root}/{shard.file}"

    def verify(self) -> None:
        """Read all shards and compare their SHA-256 with the manifest's.

        Raises:
            InputError: One was changed; both sums are named.
        """
        for shard in self.shards:
            digest = hashlib.sha256()
            with self.filesystem.open(self.path_of(shard), "rb") as file:
                while block := file.read(_HASHED_AT_ONCE_BYTES):
                    digest.update(block)
            if digest.hexdigest() != shard.sha256:
                raise InputError(
                    f"{self.address}/{shard.file} was changed since it was written: its SHA-256 is "
                    f"{digest.hexdigest()}, the manifest says {shard.sha256}; copy it again from where it was made, or "
                    "prepare the text again"
                )


def is_token_folder(folder: str | Path) -> bool:
    """Tell a folder of token shards from one with the columns ``text`` and ``chinese_ref``.

    Raises:
        InputError: Its manifest is damaged, or an address without one.
    """
    manifest = read_manifest(folder)
    if manifest is None and "://" in str(folder):
        raise InputError(
            f"{shown(folder)} has no manifest.json; from an object store only folders of tokens can be read, which "
            "`flashquad prepare` makes"
        )
    return manifest is not None and manifest.get("format") == "tokens"


def open_token_folder(folder: str | Path, tokenizer: PreTrainedTokenizerBase) -> TokenFolder:
    """Read the manifest and compare names and sizes of the shards with it; reads no shard.

    Raises:
        InputError: Made with another tokenizer or a newer version, damaged, without rows, or with a shard missing, of
            another size, named twice, or there though the manifest does not name it.
    """
    manifest = read_manifest(folder)
    assert manifest is not None  # is_token_folder has seen it
    address = shown(folder).rstrip("/")
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        raise InputError(
            f"{address} has format_version {version}, this flashquad reads {FORMAT_VERSION}; prepare the text again, "
            "or use the version that made it"
        )
    check_tokenizer(manifest, folder, tokenizer)
    filesystem, root = filesystem_of(folder)
    shards = _entries(manifest, address)
    _compare_files(filesystem, root, shards, address)
    if not sum(shard.rows for shard in shards):
        raise InputError(f"{address} holds no rows; prepare some text with `flashquad prepare`")
    return TokenFolder(
        address=address,
        filesystem=filesystem,
        root=root,
        shards=shards,
        max_length=_max_length(manifest, address),
        vocab_size=manifest["tokenizer"]["vocab_size"],
    )


def _entries(manifest: dict[str, Any], address: str) -> tuple[ShardEntry, ...]:
    try:
        shards = tuple(_entry(**{name: shard[name] for name in _ENTRY_KEYS}) for shard in manifest["shards"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{address}/manifest.json does not give file, rows, bytes and sha256 of each shard ({error!r}); prepare "
            "the text again with `flashquad prepare`"
        ) from error
    for what in ("file", "sha256"):
        for name, times in Counter(getattr(shard, what) for shard in shards if shard.rows).items():
            if times > 1:
                raise InputError(
                    f"{address}/manifest.json names the shard with the {what} {name} {times} times: its rows would be "
                    "trained on more often than others; leave it in once"
                )
    return shards


def _entry(file: object, rows: object, bytes: object, sha256: object) -> ShardEntry:
    if not (isinstance(file, str) and Path(file).name == file and isinstance(sha256, str)):
        raise ValueError(f"{file!r} with the sum {sha256!r} is no file of the folder")
    if not (isinstance(rows, int) and isinstance(bytes, int) and rows >= 0):
        raise ValueError(f"{file}: {rows!r} rows, {bytes!r} bytes")
    return ShardEntry(file, rows, bytes, sha256)


def _compare_files(
    filesystem: fsspec.AbstractFileSystem, root: str, shards: tuple[ShardEntry, ...], address: str
) -> None:
    sizes = {Path(entry["name"]).name: entry["size"] for entry in filesystem.ls(root, detail=True)}
    for shard in shards:
        if shard.file not in sizes:
            raise InputError(f"{address}/{shard.file} is missing, the manifest names it; copy the folder again")
        if sizes[shard.file] != shard.bytes:
            raise InputError(
                f"{address}/{shard.file} has {sizes[shard.file]:,} bytes, the manifest says {shard.bytes:,} (SHA-256 "
                f"{shard.sha256}): it was cut short or changed; copy it again from where it was made"
            )
    added = sorted(name for name in set(sizes) - {shard.file for shard in shards} if name.endswith(".arrow"))
    if added:
        raise InputError(
            f"{address}/{added[0]} is not named by the manifest: it would not be trained on; take it away, or prepare "
            "the text again"
        )


def _max_length(manifest: dict[str, Any], address: str) -> int | None:
    options = manifest.get("options")
    length = options.get("max_length") if isinstance(options, dict) else None
    if length is not None and not isinstance(length, int):
        raise InputError(f"{address}/manifest.json gives max_length {length!r}, no number; prepare the text again")
    return length
