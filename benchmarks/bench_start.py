"""Seconds from opening a folder of token shards to the first batch, by size, with and without its pages in memory.

The folder is written where it is not there yet, about half a minute for 5 GB.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from flash.data.collator import WholeWordMaskCollator
from flash.data.pretraining_dataset import split_tail
from flash.data.token_dataset import TokenDataset
from flash.data.token_folder import open_token_folder

from harness import machine
from synthetic_shards import character_tokenizer, write_synthetic_folder


def forget_pages(folder: Path) -> None:
    """Have the operating system drop what it holds of the files in memory."""
    for path in folder.glob("*.arrow"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def seconds_to_first_batch(address: str, *, max_length: int, workers: int) -> float:
    """Open, split, shuffle, and take a batch of 32 rows."""
    tokenizer = character_tokenizer()
    started = time.perf_counter()
    rows, _ = split_tail(TokenDataset(open_token_folder(address, tokenizer), max_length=max_length), 0.01)
    loader = DataLoader(
        rows, batch_size=32, shuffle=True, collate_fn=WholeWordMaskCollator(tokenizer), num_workers=workers
    )
    next(iter(loader))
    return time.perf_counter() - started


def main() -> None:
    """Print the table; with ``--once`` one number, for a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the shards are, or are to be written")
    parser.add_argument("--gigabytes", type=float, default=0.2)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--once", type=int, metavar="MAX_LENGTH", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    write_synthetic_folder(arguments.folder, gigabytes=arguments.gigabytes, length=arguments.length)
    if arguments.once:
        print(seconds_to_first_batch(str(arguments.folder), max_length=arguments.once, workers=arguments.workers))
        return

    size = sum(path.stat().st_size for path in arguments.folder.glob("*.arrow"))
    print(f"{machine()}; {size / 1e9:.2f} GB, {arguments.workers} loader workers, wall-clock\n")
    print("| rows | pages | seconds to the first batch (median) | least ... most |\n| --- | --- | ---: | ---: |")
    for rows, max_length in (("as they are", arguments.length), ("cut in pieces", arguments.length // 4)):
        for pages in ("on disk", "in memory"):
            seconds = []
            for _ in range(arguments.rounds):
                if pages == "on disk":
                    forget_pages(arguments.folder)
                # a process of its own, because a map of the file keeps its pages
                command = [sys.executable, __file__, str(arguments.folder), "--once", str(max_length)]
                ran = subprocess.run(
                    [*command, "--workers", str(arguments.workers)], check=True, capture_output=True, text=True
                )
                seconds.append(float(ran.stdout))
            spread = f"{min(seconds):.2f} ... {max(seconds):.2f}"
            print(f"| {rows} | {pages} | {statistics.median(seconds):.2f} | {spread} |")


if __name__ == "__main__":
    main()
