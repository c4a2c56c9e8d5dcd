"""Tasks that a tiny model learns in seconds, as files in CLUE's forms, and a checkpoint to start from."""

import json
import random
from pathlib import Path
from typing import Any

import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    RobertaConfig,
    RobertaForMaskedLM,
    RoFormerConfig,
    RoFormerForMaskedLM,
)

from flash.finetuning.arguments import FinetuningArguments
from flash.finetuning.finetune import Study

from small_models import small_model
from toy_pretraining import SENTENCES, TOKENS, toy_tokenizer

SIZES = {"vocab_size": len(TOKENS), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZES |= {"intermediate_size": 32, "max_position_embeddings": 64}
BART = {"vocab_size": len(TOKENS), "d_model": 16, "max_position_embeddings": 64, "pad_token_id": 0}
BART |= {"encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
BART |= {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32}
BART |= {"bos_token_id": 2, "decoder_start_token_id": 2, "eos_token_id": 3, "forced_eos_token_id": 3}
FOODS, PLACES = ("苹果", "牛奶"), ("公园", "车站")


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def checkpoint(folder: Path, architecture: str = "flash_quad", **settings: Any) -> Path:
    """Save a tiny masked language model with its tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    small_model(architecture, **settings).save_pretrained(folder)
    toy_tokenizer(folder).save_pretrained(folder)
    return folder


def peer(folder: Path, architecture: str) -> Path:
    """Save a tiny masked language model of another architecture with its tokenizer."""
    torch.manual_seed(0)
    if architecture == "bert":
        model = BertForMaskedLM(BertConfig(**SIZES))
    elif architecture == "bart":
        model = BartForConditionalGeneration(BartConfig(**BART))
    elif architecture == "qwen2":
        model = Qwen2ForCausalLM(Qwen2Config(**SIZES, num_key_value_heads=1))
    elif architecture == "roberta":
        model = RobertaForMaskedLM(RobertaConfig(**SIZES, pad_token_id=0, bos_token_id=2, eos_token_id=3))
    elif architecture == "roformer":
        model = RoFormerForMaskedLM(RoFormerConfig(**SIZES))
    else:
        tokens = dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"))
        model = ModernBertForMaskedLM(ModernBertConfig(**SIZES, pad_token_id=0, **tokens))
    model.save_pretrained(folder)
    toy_tokenizer(folder).save_pretrained(folder)
    return folder


def _sentence(generator: random.Random, word: str) -> str:
    return f"{generator.choice(SENTENCES[:4])[:6]}{word}{generator.choice(('很好', '很多'))}"


def rows_of(kind: str, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Make rows of a kind of task: what a text names decides."""
    generator = random.Random(seed)
    rows: list[dict[str, Any]] = []
    for number in range(count):
        is_food = generator.random() < 0.5
        word = generator.choice(FOODS if is_food else PLACES)
        text = _sentence(generator, word)
        start = text.rindex(word)
        if kind == "classification":
            rows.append(
                {
                    "id": number,
                    "sentence": text,
                    "label": "101" if is_food else "102",
                    "label_desc": "food" if is_food else "place",
                }
            )
        elif kind == "pair":
            other = generator.choice((FOODS if is_food else PLACES) if generator.random() < 0.5 else FOODS + PLACES)
            rows.append({"id": number, "sentence1": text, "sentence2": other, "label": str(int(other == word))})
        elif kind == "regression":
            rows.append({"sentence1": text, "sentence2": "好", "label": "5" if is_food else "0"})
        elif kind == "entities":
            last = start + len(word) - 1
            rows.append({"text": text, "label": {"food" if is_food else "place": {word: [[start, last]]}}})
        elif kind == "reading":
            rows.append(
                {
                    "id": f"Q{number}",
                    "context": text,
                    "question": "什么？",
                    "answers": [{"text": word, "answer_start": start}],
                }
            )
        elif kind == "choice":
            candidates = [word, generator.choice(PLACES if is_food else FOODS)]
            if number % 3 == 0:
                candidates.append("天气")
            generator.shuffle(candidates)
            rows.append(
                {"context": text, "question": "什么？", "candidates": candidates, "answer": candidates.index(word)}
            )
    return rows


TASK_OF = {
    "classification": "tnews",
    "pair": "afqmc",
    "regression": "stsb",
    "entities": "cluener",
    "reading": "reading",
    "choice": "choice",
}


def task_folder(folder: Path, kind: str, train: int = 48, dev: int = 24) -> Path:
    """Write train, dev and an unlabelled test file."""
    write_rows(folder / "train.json", rows_of(kind, train))
    write_rows(folder / "dev.json", rows_of(kind, dev, seed=1))
    labels = ("label", "label_desc", "answers", "answer")
    unlabelled = [{k: v for k, v in row.items() if k not in labels} for row in rows_of(kind, 6, seed=2)]
    write_rows(folder / "test.json", unlabelled)
    return folder


def toy_finetuning(kind: str, data: Path, model: Path, output: Path, **changes: Any) -> FinetuningArguments:
    """Two epochs at a learning rate for tiny models."""
    settings: dict[str, Any] = {
        "task": TASK_OF[kind],
        "data_dir": str(data),
        "model": str(model),
        "output_dir": str(output),
        "max_seq_length": 32,
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-2,
        "num_train_epochs": 2,
        "disable_tqdm": True,
    }
    return FinetuningArguments(**(settings | changes))


def small_study(start: Path, folder: Path, **changes: Any) -> FinetuningArguments:
    """A classifier of few texts, from the checkpoint ``start``; its files and its output lie in ``folder``."""
    data = folder / "data"
    if not data.exists():
        task_folder(data, "classification", train=24, dev=12)
    return toy_finetuning("classification", data, start, folder / "out", **({"baselines": False} | changes))


def scores_of(study: Study) -> dict[str, list[float]]:
    """Give the scores of each seed on dev."""
    return {name: found["values"] for name, found in study.metrics["dev"].items()}
