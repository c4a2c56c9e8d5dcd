"""Small tokenizers of every kind that `flash.corpus` is to take; no file from outside is needed."""

import string

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

ORDINARY_TEXT = (
    "今天的天气很好，我们去公园玩。小明说：“你好！”然后大家一起回家吃饭，晚上看电视、读书；第二天又去上学了……"
    "Hello world, the weather is nice today. It costs 3.14 dollars? Yes! 2023年北京大学的学生在图书馆学习人工智能。"
)
_WORD_PIECES = ["hello", "wor", "##ld", "the", "##in", "20", "##23", "weather", "##ther"]


def vocabulary() -> dict[str, int]:
    """Special tokens, every character of the ordinary text, letters, digits, and a few word pieces."""
    characters = sorted(set(ORDINARY_TEXT) - {" "} | set(string.ascii_letters + string.digits + string.punctuation))
    continuing = [f"##{c}" for c in string.ascii_letters + string.digits]
    tokens = dict.fromkeys([*SPECIAL_TOKENS, *characters, *continuing, *_WORD_PIECES])
    return {token: index for index, token in enumerate(tokens)}


def _word_piece(normalizer: object, pre_tokenizer: object) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(vocabulary(), unk_token="[UNK]"))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.add_special_tokens(SPECIAL_TOKENS)
    return tokenizer


def _byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([ORDINARY_TEXT], trainer)
    return tokenizer


def _metaspace() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["[UNK]"], show_progress=False)
    tokenizer.train_from_iterator([ORDINARY_TEXT] * 3, trainer)
    return tokenizer


def _word_level() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel(vocabulary(), unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    return tokenizer


_WORD_PIECE_KINDS = {
    "bert uncased": (normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()),
    "bert cased": (normalizers.BertNormalizer(lowercase=False), pre_tokenizers.BertPreTokenizer()),
    "bert accents kept": (normalizers.BertNormalizer(strip_accents=False), pre_tokenizers.BertPreTokenizer()),
    "bert han not isolated": (
        normalizers.BertNormalizer(handle_chinese_chars=False),
        pre_tokenizers.BertPreTokenizer(),
    ),
    "no normalizer": (None, pre_tokenizers.BertPreTokenizer()),
    "nfkc": (normalizers.NFKC(), pre_tokenizers.BertPreTokenizer()),
    "whitespace": (normalizers.BertNormalizer(), pre_tokenizers.Whitespace()),
}


def tokenizers_by_kind() -> dict[str, Tokenizer]:
    """One of each kind; the names say what sets it apart."""
    tokenizers = {name: _word_piece(*parts) for name, parts in _WORD_PIECE_KINDS.items()}
    added = _word_piece(*_WORD_PIECE_KINDS["bert uncased"])
    added.add_tokens(["。天", "北京", "w."])
    return tokenizers | {
        "added tokens": added,
        "byte level": _byte_level(),
        "metaspace": _metaspace(),
        "characters": _word_level(),
    }
