"""Validation loss at and beyond the trained length, by what distances of L and more take as their bias.

Decision 0001 rests on it. The same texts at every length: rows of 512 tokens, cut into pieces.
"""

import argparse

import torch

from flash import FLASHQuadForMaskedLM
from flash.corpus.tokenizer_loading import load_tokenizer
from flash.data.collator import WholeWordMaskCollator
from flash.data.pretraining_dataset import PretrainingDataset, load_prepared_folder, tokenize_dataset

from harness import machine

BEYOND = {
    "weight of the longest distance": lambda weight, k: (weight[:1].expand(k), weight[-1:].expand(k)),
    "zero": lambda weight, k: (weight.new_zeros(k), weight.new_zeros(k)),
}


def widen(model: FLASHQuadForMaskedLM, length: int, beyond: str) -> None:
    """Give every layer explicit bias weights for all distances of ``length``."""
    for layer in model.flash_quad.layers:
        weight = layer.relative_bias.weight.data
        more = length - (weight.shape[0] + 1) // 2
        if more > 0:
            before, after = BEYOND[beyond](weight, more)
            layer.relative_bias.weight = torch.nn.Parameter(torch.cat((before, weight, after)))


@torch.inference_mode()
def validation_loss(model: FLASHQuadForMaskedLM, rows: PretrainingDataset, collator: WholeWordMaskCollator) -> float:
    """Average the loss over all scored tokens."""
    total, scored = 0.0, 0
    for start in range(0, len(rows), 16):
        batch = collator(rows.__getitems__(range(start, min(start + 16, len(rows)))))
        count = int((batch["labels"] != -100).sum())
        total += float(model(**batch, scored_logits_only=True).loss) * count
        scored += count
    return total / scored


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="folder of a trained FLASH-Quad masked language model with Toeplitz bias")
    parser.add_argument("dataset", help="folder prepared with --format text --max-length 512 or more")
    parser.add_argument("--lengths", type=int, nargs="+", default=[32, 64, 128, 256, 512])
    arguments = parser.parse_args()
    tokenizer = load_tokenizer(arguments.model)
    dataset = load_prepared_folder(arguments.dataset)
    collator = WholeWordMaskCollator(tokenizer, seed=1)
    print(f"{machine()}\n\n| length | {' | '.join(BEYOND)} |\n| ---: |{' ---: |' * len(BEYOND)}")
    long_rows = tokenize_dataset(dataset, folder=arguments.dataset, tokenizer=tokenizer, max_length=512)
    full = [i for i, ids in enumerate(long_rows["input_ids"]) if len(ids) > 480]
    texts = dataset.select(sorted({long_rows[i]["row"] for i in full}))
    for length in arguments.lengths:
        rows = PretrainingDataset(
            tokenize_dataset(texts, folder=arguments.dataset, tokenizer=tokenizer, max_length=length)
        )
        cells = []
        for beyond in BEYOND:
            model = FLASHQuadForMaskedLM.from_pretrained(arguments.model).eval()
            widen(model, length, beyond)
            cells.append(f"{validation_loss(model, rows, collator):.4f}")
        print(f"| {length} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
