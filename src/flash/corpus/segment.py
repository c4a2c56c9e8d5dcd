"""Text -> words, behind a protocol small enough that any segmenter can stand behind it."""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any, Protocol

import rjieba

from flash.corpus.user_dictionary import UserDictionary
from flash.errors import InputError

_BLANKS_AND_WORDS = re.compile(r"\s+|\S+")
_SHOWN_CHARS = 80


class Segmenter(Protocol):
    """Cuts text into words; the words joined give the text back."""

    name: str
    version: str

    def cut(self, text: str) -> list[str]:
        """Return the words of ``text`` in order, white space and punctuation included."""
        ...


@dataclass(frozen=True, slots=True)
class SegmenterChoice:
    """Which segmenter to take; small and picklable, so that a worker process can be given it.

    Args:
        name: ``rjieba``, ``jieba``, ``whitespace`` (text that is cut already), or ``package.module:callable`` with a
            function from a text to its words.
        user_dictionary: More words, for rjieba and jieba.
    """

    name: str = "rjieba"
    user_dictionary: UserDictionary | None = None


def load_segmenter(choice: SegmenterChoice | None = None) -> Segmenter:
    """Make the segmenter that was chosen.

    Raises:
        InputError: There is none of that name, it is not installed, or it takes no dictionary.
    """
    choice = choice or SegmenterChoice()
    dictionary = choice.user_dictionary
    if choice.name == "rjieba":
        return RjiebaSegmenter(dictionary)
    if choice.name == "jieba":
        return JiebaSegmenter(dictionary)
    if dictionary is not None:
        raise InputError(
            f"the segmenter {choice.name} takes no user dictionary: choose rjieba or jieba, or leave it out"
        )
    if choice.name == "whitespace":
        return WhitespaceSegmenter()
    if ":" in choice.name:
        return CallableSegmenter(choice.name)
    raise InputError(
        f"there is no segmenter {choice.name!r}: name rjieba, jieba, whitespace, or a function as "
        "package.module:function"
    )


def segmenter_description(choice: SegmenterChoice) -> dict[str, Any]:
    """Return what a manifest says about a segmenter."""
    segmenter, dictionary = load_segmenter(choice), choice.user_dictionary
    return {
        "name": segmenter.name,
        "version": segmenter.version,
        "user_dictionary": None if dictionary is None else dictionary.description(),
    }


class RjiebaSegmenter:
    """rjieba in its default mode: dictionary plus hidden Markov model for words the dictionary lacks."""

    name = "rjieba"
    version = version("rjieba")

    def __init__(self, dictionary: UserDictionary | None = None) -> None:
        self._cut: Callable[[str], list[str]] = rjieba.cut
        if dictionary is not None:
            own = rjieba.Jieba()  # the package's own must not change for others in this process
            for entry in dictionary.entries:
                own.add_word(entry.word, entry.frequency, entry.tag)
            self._cut = own.cut

    def cut(self, text: str) -> list[str]:
        """Return rjieba's own cuts of ``text``; raises RuntimeError where they do not give the text back."""
        words = self._cut(text)
        if "".join(words) != text:
            # the references would shift without notice, so this is worth its 2 % of the time
            raise RuntimeError(f"rjieba {self.version} changed the text it was to cut: {text[:_SHOWN_CHARS]!r}")
        return words


class JiebaSegmenter:
    """jieba in its default mode; the same dictionary as rjieba's, a twentieth of its speed."""

    name = "jieba"

    def __init__(self, dictionary: UserDictionary | None = None) -> None:
        try:
            import jieba
        except ImportError as error:
            raise InputError("the segmenter jieba is not installed: pip install jieba, or choose rjieba") from error
        self.version = version("jieba")
        self._tokenizer = jieba.Tokenizer()
        for entry in dictionary.entries if dictionary is not None else ():
            self._tokenizer.add_word(entry.word, entry.frequency, entry.tag)

    def cut(self, text: str) -> list[str]:
        """Return jieba's own cuts of ``text``."""
        return _checked(list(self._tokenizer.cut(text)), text, self.name)


class WhitespaceSegmenter:
    """The cuts that the text has already: its words stand between white space."""

    name = "whitespace"
    version = "1"

    def cut(self, text: str) -> list[str]:
        """Return words and the white space between them."""
        return _BLANKS_AND_WORDS.findall(text)


class CallableSegmenter:
    """A function of the user's, from a text to an iterable of words which joined give the text back.

    Args:
        name: ``package.module:callable``; imported here, in every process that cuts. Its version is that of the
            installed package, else the module's ``__version__``, else the SHA-256 of its file.
    """

    def __init__(self, name: str) -> None:
        module_name, _, attribute = name.partition(":")
        try:
            module = importlib.import_module(module_name)
            function = getattr(module, attribute)
        except Exception as error:  # the module is the user's, and may raise anything
            raise InputError(f"the segmenter {name} cannot be imported: {_told(error)}") from error
        if not callable(function):
            raise InputError(f"the segmenter {name} is no function: name one that takes a text and returns its words")
        self.name = name
        self.version = _version_of(module)
        self._cut: Callable[[str], Iterable[str]] = function

    def cut(self, text: str) -> list[str]:
        """Return the function's cuts of ``text``; raises InputError where it fails, or they do not give it back."""
        try:
            return _checked(list(self._cut(text)), text, self.name)
        except InputError:
            raise
        except Exception as error:  # the function is the user's, and may raise anything
            raise InputError(f"the segmenter {self.name} failed at {text[:_SHOWN_CHARS]!r}: {_told(error)}") from error


def _checked(words: list[str], text: str, name: str) -> list[str]:
    if "".join(words) != text:
        raise InputError(
            f"the segmenter {name} changed the text it was to cut, {text[:_SHOWN_CHARS]!r}: its words joined, white "
            "space included, must give the text back"
        )
    return words


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _version_of(module: Any) -> str:
    top_level = module.__name__.partition(".")[0]
    for distribution in packages_distributions().get(top_level, []):
        try:
            return version(distribution)
        except PackageNotFoundError:  # its files were there without their description
            continue
    if hasattr(module, "__version__"):
        return str(module.__version__)
    # of a file of the user's, so that a function which was changed does not go on with the work of the one before
    file = getattr(module, "__file__", None)
    return "unknown" if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()
