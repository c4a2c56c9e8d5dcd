"""A tokenizer by the id of a hub repository, a folder or a plain ``vocab.txt``, checked to be of use."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection
from pathlib import Path

from huggingface_hub import HfApi
from transformers import AutoTokenizer, BertTokenizerFast, PreTrainedTokenizerFast

from flash.corpus.input_files import printable
from flash.errors import InputError
from flash.packaged import packaged_or_named

# Ordinary words: whatever text a vocabulary was made from, it lacks few of these characters.
_ORDINARY_CHINESE = "今天的天气很好，我们去公园玩"
_MAX_UNKNOWN_SHARE = 0.25

# In the order of a new vocabulary.
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_SPECIAL_TOKEN_ATTRIBUTES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
_HUB_TIMEOUT_SECONDS = 10

_logger = logging.getLogger(__name__)


def load_tokenizer(name_or_path: str | Path) -> PreTrainedTokenizerFast:
    """Load a tokenizer and check that a Chinese masked language model can use it.

    Args:
        name_or_path: The id of a hub repository, a folder, the model that comes with the package, or a file such as
            ``vocab.txt`` with one token a line, which is read as BERT's uncased WordPiece.

    Raises:
        InputError: It cannot be found or read, lacks a special token, does not put one [CLS] before and one [SEP]
            after a text, or makes ordinary Chinese into [UNK].
    """
    path = Path(packaged_or_named(str(name_or_path)))
    if path.is_file():
        tokenizer = _load_vocab(path)
    elif path.is_dir():
        tokenizer = _load_folder(path)
    else:
        tokenizer = _load_from_hub(str(name_or_path))
    _check(tokenizer, printable(path))
    return tokenizer


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a tokenizer to a folder.

    Raises:
        OSError: The disk is full, or the folder cannot be written to.
    """
    try:
        tokenizer.save_pretrained(str(folder))
    except OSError:
        raise
    except Exception as error:  # the tokenizers library raises a bare one
        raise OSError(f"{printable(folder)}: the tokenizer cannot be written: {_first_line(error)}") from error


def tokenizer_description(tokenizer: PreTrainedTokenizerFast, name_or_path: str | Path) -> dict[str, str | int]:
    """Return what a manifest says about a tokenizer; the hash tells two vocabularies of one name apart."""
    return {
        "name": printable(Path(name_or_path)),
        "class": type(tokenizer).__name__,
        "vocab_size": len(tokenizer),
        "sha256": tokenizer_fingerprint(tokenizer),
    }


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    """Hash what decides the tokens of a text: not padding, truncation or the way the tokenizer was loaded."""
    description = json.loads(tokenizer.backend_tokenizer.to_str())
    deciding = {name: description[name] for name in ("added_tokens", "normalizer", "pre_tokenizer", "model")}
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


def _load_vocab(path: Path) -> PreTrainedTokenizerFast:
    if path.suffix == ".json":
        raise InputError(f"{printable(path)}: name the folder it is in, or a vocab.txt")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{printable(path)} is no vocabulary in UTF-8, one token a line: {error.reason}") from error
    # at \n alone: some vocabularies have the other line ends of Unicode as tokens
    tokens = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    _require_special_tokens(tokens, printable(path))
    # as a dict, because the argument `vocab_file` of earlier versions is ignored without a word
    return BertTokenizerFast(vocab={token: index for index, token in enumerate(tokens)})


def _load_folder(path: Path) -> PreTrainedTokenizerFast:
    vocab = path / "vocab.txt"
    has_description = (path / "tokenizer.json").is_file()
    if not has_description and not vocab.is_file():
        raise InputError(f"{printable(path)} holds neither tokenizer.json nor vocab.txt: name a tokenizer's folder")
    if not has_description:
        _load_vocab(vocab)  # for its checks; the folder may say more, such as do_lower_case
    try:
        return _from_pretrained(str(path))
    except InputError:
        raise
    except Exception as error:
        # the tokenizers library raises a bare Exception for what it cannot read
        raise InputError(f"{printable(path)} holds no tokenizer that can be loaded: {_first_line(error)}") from error


def _load_from_hub(name: str) -> PreTrainedTokenizerFast:
    try:
        return _from_pretrained(name, local_files_only=True)
    except (OSError, ValueError) as error:  # not in the cache, or no name of a repository at all
        not_cached = error
    try:
        HfApi().model_info(name, timeout=_HUB_TIMEOUT_SECONDS)  # fails at once, where loading tries for a minute
        return _from_pretrained(name)
    except InputError:
        raise
    except Exception as error:
        # of the network library's own, whichever that is in this version of huggingface_hub
        raise InputError(
            f"tokenizer {name!r} is no file or folder here, and not to be had from the Hugging Face hub "
            f"({_first_line(error)}): check the name, or name a local folder or vocab.txt"
        ) from not_cached


def _from_pretrained(source: str, *, local_files_only: bool = False) -> PreTrainedTokenizerFast:
    """Load by the class that the files name; by BERT's, where they name none that transformers knows."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=local_files_only)
        if tokenizer.mask_token is not None:
            return tokenizer
    except ValueError as error:
        # vocab.txt alone, or a model type that is not registered; BERT's class reports what else is wrong
        _logger.debug("%s is loaded as a BERT tokenizer: %s", source, error)
    tokenizer = BertTokenizerFast.from_pretrained(source, local_files_only=local_files_only)
    _require_special_tokens(tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False), source)
    return tokenizer


def _require_special_tokens(vocab: Collection[str], name: str) -> None:
    # BertTokenizerFast adds a special token that the vocabulary lacks, under an id that no trained model has a row for
    missing = [token for token in SPECIAL_TOKENS if token not in vocab]
    if missing:
        raise InputError(f"{name} has no entry {', '.join(missing)}: add it, or take another vocabulary")


def _check(tokenizer: PreTrainedTokenizerFast, name: str) -> None:
    if not tokenizer.is_fast:
        raise InputError(f"tokenizer {name} gives no character offsets: take one with a tokenizer.json")
    missing = [attribute for attribute in _SPECIAL_TOKEN_ATTRIBUTES if getattr(tokenizer, attribute) is None]
    if missing:
        raise InputError(
            f"tokenizer {name} has no {', '.join(missing)}: take one with BERT's five special tokens, which masked "
            "pretraining needs"
        )
    ids = tokenizer(_ORDINARY_CHINESE)["input_ids"]
    text_ids = ids[1:-1]
    if (ids[0], ids[-1]) != (tokenizer.cls_token_id, tokenizer.sep_token_id) or not text_ids:
        raise InputError(
            f"tokenizer {name} does not put {tokenizer.cls_token} before and {tokenizer.sep_token} after a text: "
            "take one in BERT's layout"
        )
    unknown_count = text_ids.count(tokenizer.unk_token_id)
    if unknown_count > _MAX_UNKNOWN_SHARE * len(text_ids):
        raise InputError(
            f"tokenizer {name} makes {unknown_count} of {len(text_ids)} tokens of ordinary Chinese "
            f"({_ORDINARY_CHINESE}) {tokenizer.unk_token}: take a Chinese vocabulary"
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
