"""Tokens/s of the whole-word collator at 32 x 512, beside the whole-word option of transformers' collator."""

import argparse

import numpy as np
import torch
from transformers import BertTokenizerFast, DataCollatorForLanguageModeling

from flash.data.collator import PretrainingRow, WholeWordMaskCollator

from harness import machine, side_by_side, table

ROWS, LENGTH = 32, 512


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    generator = np.random.default_rng(0)
    characters = [chr(0x4E00 + i) for i in range(5000)]
    vocabulary = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters])}
    tokenizer = BertTokenizerFast(vocab=vocabulary)
    rows = []
    for index in range(ROWS):
        ids = generator.integers(5, len(vocabulary), LENGTH).astype(np.int32)
        ids[0], ids[-1] = tokenizer.cls_token_id, tokenizer.sep_token_id
        continues = np.flatnonzero(generator.random(LENGTH - 2) < 0.35).astype(np.int32) + 1
        rows.append(PretrainingRow(input_ids=ids, continuations=continues, index=index, epoch=0))
    ours = WholeWordMaskCollator(tokenizer, seed=0)
    theirs = DataCollatorForLanguageModeling(
        tokenizer, whole_word_mask=True, mlm_probability=0.15, mask_replace_prob=1.0, random_replace_prob=0.0
    )
    # it takes tokens whose offsets touch for one word
    offsets = [(0, 0), *((i, i + 1) for i in range(LENGTH - 2)), (0, 0)]
    their_rows = [{"input_ids": row["input_ids"].tolist(), "offset_mapping": offsets} for row in rows]
    seconds = side_by_side(
        {
            "DataCollatorForLanguageModeling(whole_word_mask=True)": lambda: theirs(their_rows),
            "WholeWordMaskCollator": lambda: ours(rows),
        },
        rounds=arguments.rounds,
    )
    print(f"{machine()}\n")
    print(table(seconds, tokens=ROWS * LENGTH, baseline="DataCollatorForLanguageModeling(whole_word_mask=True)"))


if __name__ == "__main__":
    main()
