"""A vocabulary, datasets and runs small enough that a model is pretrained in a second."""

import json
import os
import random
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import rjieba
from transformers import PreTrainedTokenizerFast

from flash.corpus.prepare import PrepareSettings, prepare_dataset
from flash.corpus.tokenizer_loading import load_tokenizer
from flash.training.arguments import PretrainingArguments

REPOSITORY = Path(__file__).parents[1]

SENTENCES = (
    "今天的天气很好，我们一起去公园玩吧！",
    "妈妈在厨房里做晚饭，爸爸在客厅看电视。",
    "学校的图书馆里有很多书，学生们喜欢安静地读书。",
    "昨天下了一场大雨，路上的车开得很慢。",
    "他买了三个苹果，又买了两斤牛奶，一共花了二十元。",
    "周末的时候，大家常常去河边散步，看老人放风筝。",
    "火车准时到了车站，站台上的人很多，秋天的风有点冷。",
    "医生说，多喝水，早睡早起，身体就会慢慢好起来。",
    "hello world，the buses are running。",
)
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_WORD_PIECES = ("hello", "wor", "##ld", "the", "bus", "##es", "are", "run", "##ning")
_CHARACTERS = sorted(set("".join(SENTENCES)) - set(string.ascii_lowercase + " "))
TOKENS = (*SPECIAL_TOKENS, *_CHARACTERS, *string.ascii_lowercase, *_WORD_PIECES)

# the command line in the README of the earlier repository; it also has --do_train and --fp16
EARLIER_README_FLAGS = {
    "tokenizer_name": "junnyu/roformer_chinese_char_base",
    "train_dir": "./clue_small_wwm_data",
    "output_dir": "./wwm_flash_small/",
    "logging_dir": "./wwm_flash_small//logs",
    "per_device_train_batch_size": "32",
    "gradient_accumulation_steps": "4",
    "learning_rate": "1e-4",
    "weight_decay": "0.01",
    "adam_epsilon": "1e-6",
    "max_steps": "250000",
    "warmup_steps": "5000",
    "logging_steps": "100",
    "save_steps": "5000",
    "seed": "2022",
    "max_grad_norm": "3.0",
    "dataloader_num_workers": "6",
}

TOY_CONFIG = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "query_key_dim": 16,
    "initialization": "fan_in",
    "score_scale": "inverse_sqrt_dim",
    "attention_norm": True,
    "final_norm": True,
    "token_shift": 0.25,
}
MAX_LENGTH = 64
COMMAND = "flashquad pretrain --recipe toy"

# what a step measures of the run, not of the clock
_CURVE = ("step", "loss", "mlm_acc", "grad_norm", "learning_rate", "eval_loss", "eval_mlm_acc", "eval_perplexity")


def write_vocabulary(path: Path) -> Path:
    """Write a ``vocab.txt`` that knows every character of ``SENTENCES``."""
    path.write_text("".join(f"{token}\n" for token in TOKENS), encoding="utf-8")
    return path


def toy_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Load the toy vocabulary, by way of a file in ``folder``."""
    return load_tokenizer(write_vocabulary(folder / "vocab.txt"))


def random_texts(count: int, *, seed: int = 0) -> list[str]:
    """Join one to three sentences a text."""
    generator = random.Random(seed)
    return ["".join(generator.choices(SENTENCES, k=generator.randint(1, 3))) for _ in range(count)]


def prepared_folder(folder: Path, vocabulary: Path, *, texts: list[str], max_length: int = MAX_LENGTH) -> Path:
    """Make a dataset folder as ``flashquad prepare`` does."""
    source = folder.with_name(folder.name + ".txt")
    source.write_text("\n\n".join(texts), encoding="utf-8")
    prepare_dataset([source], folder, vocabulary, PrepareSettings(max_length=max_length), workers=1)
    return folder


def earlier_folder(folder: Path, texts: list[str], references: list[list[int] | None]) -> Path:
    """Make a dataset folder as the earlier repository did: two columns, int64 positions, no manifest."""
    features = datasets.Features({"text": datasets.Value("string"), "chinese_ref": [datasets.Value("int64")]})
    datasets.Dataset.from_dict({"text": texts, "chinese_ref": references}, features).save_to_disk(folder)
    return folder


def earlier_references(text: str, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """List the positions of the Chinese characters that continue a word, as the earlier repository did."""
    words = word_numbers(text)
    spans = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return [
        position
        for position, (start, _) in enumerate(spans, start=1)
        if "\u4e00" <= text[start] <= "\u9fff" and start > 0 and words[start] == words[start - 1]
    ]


def word_numbers(text: str) -> list[int]:
    """Number the segmenter's words, one number a character."""
    return [number for number, word in enumerate(rjieba.cut(text)) for _ in word]


def toy_arguments(train_dir: Path, output_dir: Path, **changes: Any) -> PretrainingArguments:
    """Ten steps of a two-layer model of width 32."""
    settings: dict[str, Any] = {
        "train_dir": str(train_dir),
        "output_dir": str(output_dir),
        "config": dict(TOY_CONFIG),
        "max_seq_length": MAX_LENGTH,
        "validation_split": 0.2,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 3,
        "learning_rate": 1e-2,
        "max_steps": 10,
        "warmup_steps": 2,
        "logging_steps": 2,
        "save_steps": 3,
        "seed": 7,
    }
    return PretrainingArguments(**(settings | changes))


def toy_flags(train_dir: Path, output_dir: Path, **changes: Any) -> list[str]:
    """Write the same as ``toy_arguments`` as flags."""
    settings = {
        "train_dir": train_dir,
        "output_dir": output_dir,
        "config": ",".join(f"{name}={value}" for name, value in TOY_CONFIG.items()),
        "max_seq_length": MAX_LENGTH,
        "validation_split": 0.2,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 3,
        "learning_rate": 1e-2,
        "max_steps": 10,
        "warmup_steps": 2,
        "logging_steps": 2,
        "save_steps": 3,
        "seed": 7,
    } | changes
    return [part for name, value in settings.items() for part in (f"--{name}", str(value))]


def log_history(run: Path) -> list[dict[str, Any]]:
    """Read what a finished run logged."""
    return json.loads((run / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]


def curve(run: Path) -> list[dict[str, float]]:
    """Read the losses, accuracies and gradients that a finished run logged, without what depends on the clock."""
    entries = [{name: entry[name] for name in _CURVE if name in entry} for entry in log_history(run)]
    return [entry for entry in entries if len(entry) > 1]


def single_threaded_environment() -> dict[str, str]:
    """The environment for a helper process, offline and without threads that wait for one another."""
    return os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}


def run_python(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run this Python with ``arguments`` in another process, to its end."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=single_threaded_environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
