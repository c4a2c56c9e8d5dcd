"""Train a small language model on text, score it on the end of that text, and let it write a paragraph.

    python examples/causal_lm.py                                                     # the embedded corpus, a minute
    python examples/causal_lm.py --model transformer novel.txt                       # the same for a Transformer
    python examples/causal_lm.py --model flash corpus/*.jsonl.zst --steps 20000 --output runs/flash

FLASH and FLASH-Quad against a decoder of Llama's kind (rotary, gated MLP, RMSNorm, pre-norm): the same bytes in the
same order, the same schedule, the same number of parameters, since two gated attention units hold as many as one
Transformer layer. FLASH sees the whole window too: its own chunk of ``--chunk`` bytes by weights, others by a sum.

A token is a byte. So no file of a vocabulary belongs to the model, no rare character becomes [UNK] and drops out of the
score, and bits per character mean the same for every text and model. The model saved by ``--output`` loads with
``AutoModelForCausalLM.from_pretrained`` once ``flash`` is imported; its ids are ``list(text.encode())``.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
    set_seed,
)

from flash import FLASHConfig, FLASHForCausalLM, FLASHQuadConfig, FLASHQuadForCausalLM
from flash.cli.console import one_line_errors
from flash.corpus.documents import ReadingSettings
from flash.corpus.embedded import embedded_corpus
from flash.corpus.input_files import find_input_files
from flash.corpus.read_inputs import read_inputs
from flash.corpus.records import Document, Reject
from flash.corpus.rejects import RejectLog, RejectTally
from flash.errors import InputError

VOCAB_SIZE = 256
MODELS = ("flash", "flash_quad", "transformer")


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line, ``sys.argv`` where ``arguments`` is None."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("input", nargs="*", type=Path, help=".txt, .jsonl, also compressed, or folders; by default the embedded corpus")
    add("--model", choices=MODELS, default="flash", help="what is trained")
    add("--output", type=Path, help="folder for the model and results.json; by default nothing is kept")
    add("--hidden-size", type=int, default=128, help="model width")
    add("--layers", type=int, default=4, help="gated attention units; the Transformer has half as many layers")
    add("--query-key-dim", type=int, default=64, help="query and key width of a gated attention unit")
    add("--token-shift", type=float, default=0.25, help="share of channels that a unit reads from the byte before")
    add("--no-attention-norm", action="store_true", help="leave out the norm on what a unit attends to")
    add("--head-dim", type=int, default=32, help="query and key width of a head of the Transformer")
    add("--window", type=int, default=512, help="bytes in a row of the batch")
    add("--chunk", type=int, default=128, help="bytes in a chunk of FLASH")
    add("--batch-size", type=int, default=4, help="rows of a step")
    add("--steps", type=int, default=200, help="steps of AdamW")
    add("--learning-rate", type=float, default=4e-3, help="highest of the cosine schedule")
    add("--held-out", type=float, default=0.05, help="share of the text, its end, that is scored and not trained on")
    add("--bf16", action="store_true", help="train in bfloat16 autocast; scoring stays in float32")
    add("--seed", type=int, default=2022, help="of the first weights, the order of the rows, and the text written")
    add("--prompt", help="what the text written continues; by default the beginning of the held-out text")
    add("--new-bytes", type=int, default=200, help="length of the text written")
    options = parser.parse_args(arguments)
    for name in ("hidden_size", "head_dim", "window", "batch_size", "steps", "new_bytes"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1, got {getattr(options, name)}")
    if options.window % 2:
        parser.error(f"--window must be even, got {options.window}: scoring moves on by half a window")
    if options.layers < 2 or options.layers % 2:
        parser.error(f"--layers must be even, got {options.layers}: two units count as one Transformer layer")
    if options.hidden_size % options.head_dim or options.head_dim % 2:
        parser.error(f"--head-dim must be even and divide --hidden-size {options.hidden_size}, got {options.head_dim}")
    if not 0.0 < options.held_out < 1.0:
        parser.error(f"--held-out must lie between 0 and 1, got {options.held_out}")
    if options.learning_rate <= 0.0:
        parser.error(f"--learning-rate must be above 0, got {options.learning_rate}")
    return options


def read_text(paths: Sequence[Path]) -> str:
    """Join the documents of all files, a blank line between two of them."""
    files, left_out = find_input_files(paths)
    rejects = RejectTally()
    for reject in left_out:
        rejects.add(reject)
    pieces: list[str] = []
    for record in read_inputs(files, ReadingSettings(), title="read", log_interval=100_000):
        if isinstance(record, Document):
            # a document of more than a million characters comes in parts
            pieces.append(record.text if record.part or not pieces else "\n\n" + record.text)
        elif isinstance(record, Reject):
            rejects.add(record)
    if not pieces:
        raise InputError(f"no text to train on: {rejects.first[0].source}: {rejects.first[0].detail}")
    log = RejectLog()
    log.merge(rejects)
    log.summarize()
    return "".join(pieces)


def split_text(text: str, *, window: int, held_out: float) -> tuple[Tensor, Tensor]:
    """Return the bytes to train on, ``(n,)``, and those held out, a whole number of half windows, from the end."""
    data = torch.frombuffer(bytearray(text.encode(errors="replace")), dtype=torch.uint8)  # lone surrogates of JSON
    half = window // 2
    held_out_bytes = max(1, int(held_out * len(data)) // half) * half
    if len(data) - held_out_bytes < window:
        raise InputError(
            f"the text has {len(data)} bytes, too few to train on a window of {window} and to hold out "
            f"{held_out_bytes}: give more text, or a smaller --window"
        )
    return data[:-held_out_bytes], data[-held_out_bytes:]


class Windows(Dataset):
    """The rows of training: windows of the text that do not overlap; a rest shorter than a window is left out."""

    def __init__(self, data: Tensor, window: int) -> None:
        self._rows = data[: len(data) // window * window].view(-1, window)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        row = self._rows[index].long()
        return {"input_ids": row, "labels": row}


def build_model(options: argparse.Namespace) -> PreTrainedModel:
    """Build the untrained model; the same seed gives the same weights."""
    set_seed(options.seed)
    common = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": options.hidden_size,
        "max_position_embeddings": options.window,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
        "tie_word_embeddings": True,
    }
    if options.model == "transformer":
        # 4 d^2 + 3 d f parameters, as many as two units of 6 d^2 + d s
        intermediate_size = (8 * options.hidden_size + 2 * options.query_key_dim) // 3
        return LlamaForCausalLM(
            LlamaConfig(
                num_hidden_layers=options.layers // 2,
                num_attention_heads=options.hidden_size // options.head_dim,
                intermediate_size=intermediate_size,
                initializer_range=options.hidden_size**-0.5,
                **common,
            )
        )
    common |= {
        "num_hidden_layers": options.layers,
        "query_key_dim": options.query_key_dim,
        "type_vocab_size": 1,
        "attention_norm": not options.no_attention_norm,
        "token_shift": options.token_shift,
    }
    if options.model == "flash":
        return FLASHForCausalLM(FLASHConfig.preset("tiny", chunk_size=options.chunk, **common))
    return FLASHQuadForCausalLM(FLASHQuadConfig.preset("tiny", **common))


def train(model: PreTrainedModel, rows: Windows, options: argparse.Namespace) -> dict[str, float]:
    """Train with AdamW, a linear warm-up and a cosine schedule; return the speed and the last losses."""
    has_accelerator = torch.accelerator.is_available()
    # Trainer makes this folder even though it saves nothing
    with TemporaryDirectory() as unused:
        settings = TrainingArguments(
            output_dir=unused,
            max_steps=options.steps,
            per_device_train_batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=max(1, options.steps // 10),
            weight_decay=0.1,
            adam_beta2=0.95,
            max_grad_norm=1.0,
            bf16=options.bf16,
            use_cpu=not has_accelerator,  # without it bf16 is refused on a CPU
            dataloader_pin_memory=has_accelerator,
            seed=options.seed,
            data_seed=options.seed,  # the order of the rows must not depend on how many numbers the first weights took
            include_num_input_tokens_seen="all",
            logging_steps=max(1, options.steps // 20),
            save_strategy="no",
            report_to="none",
            disable_tqdm=not sys.stderr.isatty(),
        )
        trainer = Trainer(model, settings, train_dataset=rows)
        seconds = trainer.train().metrics["train_runtime"]
    read = trainer.state.num_input_tokens_seen
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"last_loss_nats": losses[-1], "bytes_read": read, "bytes_per_second": read / seconds}


@torch.inference_mode()
def score(model: PreTrainedModel, training: Tensor, held_out: Tensor, options: argparse.Namespace) -> float:
    """Return the bits that the model needs for the held-out bytes, each scored once.

    Half a window of bytes is scored at a time, behind the half before it, so that each byte has a context of half a
    window at least and a whole one at most. The context of the first ones is the end of the text trained on.
    """
    model.eval()
    half = options.window // 2
    data = torch.cat((training[-half:], held_out))
    windows = data.unfold(0, options.window, half)  # (number of half windows, window)
    nats = 0.0
    for batch in windows.split(options.batch_size):
        batch = batch.to(model.device).long()
        logits = model(input_ids=batch, use_cache=False).logits[:, half - 1 : -1]
        nats += torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), batch[:, half:].flatten(), reduction="sum"
        ).item()
    return nats / math.log(2)


def count_characters(data: Tensor) -> int:
    """Count the characters that begin in UTF-8 ``data``: all bytes but those that continue one."""
    return int((data & 0b1100_0000 != 0b1000_0000).sum())


def write_paragraph(model: PreTrainedModel, prompt: str, options: argparse.Namespace) -> str:
    """Continue ``prompt`` by sampling; bytes that make no character show as the replacement character."""
    set_seed(options.seed)
    input_ids = torch.tensor([list(prompt.encode())], device=model.device)
    written = model.generate(input_ids, do_sample=True, temperature=0.8, top_k=0, max_new_tokens=options.new_bytes)
    return bytes(written[0].tolist()).decode(errors="replace")


def first_line(data: Tensor) -> str:
    """Return the first whole line with text in it, at most 80 characters."""
    lines = bytes(data.tolist()).decode(errors="replace").splitlines()
    return next((line for line in lines[1:] if line.strip()), lines[0])[:80]


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Train, score and write; return the numbers, the text written, and the settings behind them."""
    if options.output is not None:  # a folder that cannot be made is better known before the training
        options.output.mkdir(parents=True, exist_ok=True)
    text = read_text(options.input or [embedded_corpus()])
    training, held_out = split_text(text, window=options.window, held_out=options.held_out)
    model = build_model(options)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"{options.model}: {parameters:,} parameters, {len(training):,} bytes to train on, {len(held_out):,} held out"
    )
    trained = train(model, Windows(training, options.window), options)
    bits = score(model, training, held_out, options)
    characters = count_characters(held_out)
    print(f"{bits / characters:.4f} bits per character, {trained['bytes_per_second']:,.0f} bytes/s in training")
    written = write_paragraph(model, options.prompt or first_line(held_out), options)
    print(written)
    results = {
        "model": options.model,
        "parameters": parameters,
        "bits_per_character": bits / characters,
        "bits_per_byte": bits / len(held_out),
        "held_out_characters": characters,
        "held_out_bytes": len(held_out),
        "training_bytes": len(training),
        **trained,
        "written": written,
        "settings": vars(options),
    }
    if options.output is not None:
        model.save_pretrained(options.output)
        content = json.dumps(results, ensure_ascii=False, indent=2, default=str)  # str: paths
        (options.output / "results.json").write_text(content + "\n", encoding="utf-8")
    return results


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a mistake in it or in the input is one line and exit code 2."""
    options = parse_arguments(arguments)
    with one_line_errors("causal_lm.py"):
        run(options)


if __name__ == "__main__":
    main()
