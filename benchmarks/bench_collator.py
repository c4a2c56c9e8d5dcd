"""Tokens/s of collator and loader on one core, beside transformers' whole-word collator and beside training.

Times are processor times of one thread, so that what else the machine does counts little.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import DataCollatorForLanguageModeling

from flash import FLASHQuadConfig, FLASHQuadForMaskedLM
from flash.data.collator import WholeWordMaskCollator
from flash.data.pretraining_dataset import split_tail
from flash.data.token_dataset import TokenDataset
from flash.data.token_folder import open_token_folder

from harness import machine, side_by_side, table
from model_costs import SIZES, flash_quad_flops
from synthetic_shards import character_tokenizer, write_synthetic_folder

ROWS = 32
BATCHES_OF_ROUND = 10
THEIRS = "DataCollatorForLanguageModeling(whole_word_mask=True)"
GIGABYTES = 0.05
# a step costs three times a forward pass; half of the peak is more than such models reach
PEAK_TERAFLOPS = {"A100 (bf16, dense)": 312, "H200 (bf16, dense)": 989}
SHARE_OF_PEAK = 0.5


def loader_batches(dataset: TokenDataset, collator: WholeWordMaskCollator) -> Callable[[], object]:
    """Make a function that takes one batch from a shuffling loader in this process, epoch after epoch."""

    def endless():
        while True:
            yield from DataLoader(dataset, batch_size=ROWS, shuffle=True, drop_last=True, collate_fn=collator)

    batches = endless()
    return lambda: next(batches)


def contestants_of(dataset: TokenDataset, length: int) -> dict[str, Callable[[], object]]:
    """Make the contestants for batches of 32 rows of ``length`` tokens."""
    tokenizer = character_tokenizer()
    rows = dataset.__getitems__(range(ROWS))
    theirs = DataCollatorForLanguageModeling(
        tokenizer, whole_word_mask=True, mlm_probability=0.15, mask_replace_prob=1.0, random_replace_prob=0.0
    )
    # it takes tokens whose offsets touch for one word
    offsets = [(0, 0), *((i, i + 1) for i in range(length - 2)), (0, 0)]
    their_rows = [
        {"input_ids": ids.tolist(), "offset_mapping": offsets} for ids in np.split(rows.input_ids.astype(int), ROWS)
    ]
    words, spans = (WholeWordMaskCollator(tokenizer, mask_ngrams=most) for most in (1, 3))
    return {
        THEIRS: lambda: theirs(their_rows),
        "WholeWordMaskCollator": lambda: words(rows),
        "WholeWordMaskCollator(mask_ngrams=3)": lambda: spans(rows),
        "rows read from shards, and the collator": loader_batches(dataset, words),
    }


def repeated(take_batch: Callable[[], object]) -> Callable[[], None]:
    """Take several batches at once, as a worker does: the first one finds the processor's caches cold."""

    def take_batches() -> None:
        for _ in range(BATCHES_OF_ROUND):
            take_batch()

    return take_batches


def training_rate(rounds: int) -> float:
    """Measure the tokens/s of a training step of the preset `tiny` on this core, 4 rows of 512 tokens, float32."""
    model = FLASHQuadForMaskedLM(FLASHQuadConfig.preset("tiny")).train()
    input_ids = torch.randint(200, model.config.vocab_size, (4, 512))
    labels = torch.where(torch.rand(input_ids.shape) < 0.15, input_ids, -100)
    batch = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids), "labels": labels}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        model(**batch, scored_logits_only=True).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    seconds = side_by_side({"step": step}, rounds=rounds, clock=time.process_time)["step"]
    return input_ids.numel() / statistics.median(seconds)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 2048])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(machine())
    loader_rate = 0.0
    for length in arguments.lengths:
        with tempfile.TemporaryDirectory() as place:
            folder = write_synthetic_folder(Path(place) / "data", gigabytes=GIGABYTES, length=length)
            opened = open_token_folder(folder, character_tokenizer())
            dataset, _ = split_tail(TokenDataset(opened, max_length=length), 0.01)
            contestants = contestants_of(dataset, length)
            many = {name: repeated(take_batch) for name, take_batch in contestants.items()}
            seconds = side_by_side(many, rounds=arguments.rounds, clock=time.process_time)
        tokens = BATCHES_OF_ROUND * ROWS * length
        print(f"\n{BATCHES_OF_ROUND} batches of {ROWS} x {length} tokens a round, processor time of one thread\n")
        print(table(seconds, tokens=tokens, baseline=THEIRS))
        *_, loader = seconds.values()
        loader_rate = loader_rate or tokens / statistics.median(loader)

    trained = training_rate(arguments.rounds)
    print(
        f"\nTraining the preset tiny in float32 takes {trained:,.0f} tokens/s on this core; one loader worker makes "
        f"{loader_rate:,.0f} tokens/s of length {arguments.lengths[0]}, {loader_rate / trained:,.0f} times as many.\n"
    )
    print("Workers that keep a GPU busy which trains at half of its peak (3 forward passes a step, length 512):\n")
    print("| GPU | size | most tokens/s | workers |\n| --- | --- | ---: | ---: |")
    for gpu, peak in PEAK_TERAFLOPS.items():
        for name, size in SIZES.items():
            most = SHARE_OF_PEAK * peak * 1e12 / (3 * flash_quad_flops(size, 512))
            print(f"| {gpu} | {name} | {most:,.0f} | {most / loader_rate:.2f} |")


if __name__ == "__main__":
    main()
