"""Text -> a character-level Chinese WordPiece vocabulary in BERT's layout, as a tokenizer folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import BertTokenizerFast

from flash.corpus.arrow import write_json
from flash.corpus.clean import clean_text
from flash.corpus.documents import ReadingSettings
from flash.corpus.input_files import find_input_files, printable
from flash.corpus.lines import check_encoding
from flash.corpus.read_inputs import read_inputs
from flash.corpus.records import Document, Reject
from flash.corpus.rejects import RejectLog
from flash.corpus.staging import places_of, staged
from flash.corpus.tokenizer_loading import SPECIAL_TOKENS, save_tokenizer
from flash.errors import InputError

_OWN_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "manifest.json")

_CONTINUING_PREFIX = "##"

# Below this, not even the commonest characters fit.
_MIN_VOCAB_SIZE = 100


@dataclass(frozen=True, slots=True)
class TokenizerSettings:
    """What decides the content of the vocabulary.

    Args:
        vocab_size: Most entries, special tokens counted.
        min_frequency: Characters and word pieces that occur less often are left out.
        cased: Keep capitals and accents; by default both are removed, as in BERT's uncased vocabularies.
        reading: How the files are read.
    """

    vocab_size: int = 12_000
    min_frequency: int = 2
    cased: bool = False
    reading: ReadingSettings = field(default_factory=ReadingSettings)

    def __post_init__(self) -> None:
        if self.vocab_size < _MIN_VOCAB_SIZE:
            raise InputError(
                f"vocab_size must be at least {_MIN_VOCAB_SIZE}, got {self.vocab_size}; "
                "Chinese needs 6,000 or more, the published models have 12,000"
            )
        if self.min_frequency < 1:
            raise InputError(f"min_frequency must be at least 1, got {self.min_frequency}; 1 keeps everything seen")
        check_encoding(self.reading.encoding)


def train_tokenizer(
    inputs: Sequence[Path | str],
    output: Path,
    settings: TokenizerSettings | None = None,
    *,
    overwrite: bool = False,
    log_interval: int = 10_000,
) -> dict[str, Any]:
    """Make a tokenizer folder for `load_tokenizer`, and return its manifest, which is also in ``manifest.json``.

    The vocabulary holds BERT's special tokens ([PAD] is 0), the most frequent characters, and word pieces of those
    that stand together in words: letters, digits, kana, never Chinese characters. The input is read twice.

    Raises:
        InputError: Nothing usable in the input, an input that cannot be read twice, or an argument is wrong.
        OSError: The output cannot be written.
    """
    settings = settings or TokenizerSettings()
    files, skipped = find_input_files(inputs, passed_over=places_of(output))
    for file in files:
        if isinstance(file.path, Path) and not file.path.is_file():
            raise InputError(
                f"{file.name} is a pipe or device, and training reads its input twice: save what it gives to a file"
            )
    with staged(output, overwrite=overwrite, own_files=_OWN_FILES) as folder:
        rejects = RejectLog()
        for reject in skipped:
            rejects.add(reject)
        counts = Counter[str]()
        for record in read_inputs(files, settings.reading, title="count characters", log_interval=log_interval):
            if isinstance(record, Document):
                counts.update(clean_text(record.text))
            elif isinstance(record, Reject):
                rejects.add(record)
        rejects.summarize()
        counts = _normalized_counts(counts, settings)
        alphabet = _choose_alphabet(counts, settings)
        if not alphabet:
            raise InputError(f"no usable text in {', '.join(map(printable, inputs))}: {rejects.tally}")
        records = read_inputs(files, settings.reading, title="train", log_interval=log_interval)
        texts = (clean_text(record.text) for record in records if isinstance(record, Document))
        vocab = _train_word_pieces(texts, alphabet, settings)
        save_tokenizer(BertTokenizerFast(vocab=vocab, do_lower_case=not settings.cased), folder)
        tokens = sorted(vocab, key=vocab.__getitem__)
        (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
        manifest = {
            "options": asdict(settings),
            "versions": {name: version(name) for name in ("flashquad", "tokenizers", "transformers")},
            "vocab_size": len(vocab),
            "characters": counts.total(),
            "characters_in_vocabulary": sum(counts[character] for character in alphabet),
            "rejects": dict(sorted(rejects.tally.counts.items())),
        }
        write_json(folder / "manifest.json", manifest)
    return manifest


def _tokenizer(settings: TokenizerSettings) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", continuing_subword_prefix=_CONTINUING_PREFIX))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=not settings.cased)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _normalized_counts(counts: Counter[str], settings: TokenizerSettings) -> Counter[str]:
    """Count what the tokenizer makes of each character: lower case, accents gone, white space not counted."""
    normalizer = _tokenizer(settings).normalizer
    normalized = Counter[str]()
    for character, count in counts.items():
        for part in normalizer.normalize_str(character):
            if not part.isspace():
                normalized[part] += count
    return normalized


def _choose_alphabet(counts: Counter[str], settings: TokenizerSettings) -> list[str]:
    """Return the most frequent characters that fit, sorted.

    Left to itself the trainer keeps every character that occurs (or, in BERT's ready-made trainer, the first 1,000).
    """
    room = settings.vocab_size - len(SPECIAL_TOKENS)
    chosen = []
    for character, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        room -= 2 if _joins_words(character, settings) else 1
        if room < 0 or count < settings.min_frequency:
            break
        chosen.append(character)
    return sorted(chosen)


def _joins_words(character: str, settings: TokenizerSettings) -> bool:
    """Say whether a character can continue a word, and so needs an entry with ``##`` as well."""
    tokenizer = _tokenizer(settings)
    return len(tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(f"a{character}a"))) == 1


def _train_word_pieces(texts: Iterable[str], alphabet: Sequence[str], settings: TokenizerSettings) -> dict[str, int]:
    continuing = [f"{_CONTINUING_PREFIX}{c}" for c in alphabet if _joins_words(c, settings)]
    tokenizer = _tokenizer(settings)
    tokenizer.train_from_iterator(
        texts,
        trainers.WordPieceTrainer(
            vocab_size=settings.vocab_size,
            min_frequency=settings.min_frequency,
            # all single characters as special tokens too: their ids, which break ties between merges, would
            # otherwise follow the order of a hash table and change from run to run
            special_tokens=[*SPECIAL_TOKENS, *alphabet, *continuing],
            initial_alphabet=list(alphabet),
            limit_alphabet=len(alphabet),
            continuing_subword_prefix=_CONTINUING_PREFIX,
            show_progress=False,
        ),
    )
    return tokenizer.get_vocab(with_added_tokens=False)
