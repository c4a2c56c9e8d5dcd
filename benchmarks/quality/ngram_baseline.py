"""Fill the masks of validation text with n-grams: the accuracy that a masked language model has to beat.

Two interpolated modified Kneser-Ney models of token ids, one of the training rows and one of the same rows reversed,
predict every scored token from the masked row alone, with masks drawn by the collator that pretraining uses:

    p(c) ~ P_forward(c | up to order - 1 tokens left)^alpha * P_backward(c | as many right)^beta / P_unigram(c)^lambda

with the exponents fitted on training rows that neither model has seen. Whole words are masked, so the tokens beside
a mask are often masked too; two ways to deal with that are compared, and the better one on the held-out training rows
is the baseline: `stop` (a context ends at a [MASK]) and `beam` (hidden tokens are summed out over a beam of
hypotheses, with the rest of the probability on the context that stops). Of the scored tokens 80 % show [MASK], 10 % a
random token and 10 % themselves; for the latter two see `two_sided.combine`. Tokens that are shown but not scored
count as true.

Example, of folders that `flashquad prepare --format text` made:
    python benchmarks/quality/ngram_baseline.py --train prepared/train --validation prepared/validation \
        --tokenizer vocab8k --json ngram.json
"""

import argparse
import json
import platform
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from flash.corpus.tokenizer_loading import load_tokenizer
from flash.data.collator import WholeWordMaskCollator
from flash.data.pretraining_dataset import PretrainingDataset, load_prepared_folder, split_tail, tokenize_dataset
from flash.errors import InputError

from kneser_ney import KneserNeyModel
from one_sided import LeftToRightFilter
from two_sided import CLASSES, FEATURES, SidePredictions, combine, fit_exponents, predict_from_both_sides

CHUNK_ROWS = 256  # rows masked and filled at a time, which bounds the memory


class Filler:
    """Both models, their ways to treat hidden neighbours, and the tokens that can be filled in."""

    def __init__(
        self,
        tokens: NDArray[np.int32],
        lengths: NDArray[np.int64],
        *,
        collator: WholeWordMaskCollator,
        vocab_size: int,
        order: int,
        beam_width: int,
    ) -> None:
        self.collator = collator
        self.fillable_ids: NDArray[np.int64] = collator.masker.replacement_ids.numpy()
        # the collator never masks the others, but [SEP] and [UNK] have their places in a row
        predictable = np.ones(vocab_size, dtype=bool)
        predictable[[collator.pad_token_id, collator.masker.mask_token_id]] = False
        models = []
        # reversing the flat array reverses each row, and the order of the rows, which does not count
        for row_tokens, row_lengths in ((tokens, lengths), (tokens[::-1], lengths[::-1])):
            follows = predictable & (np.arange(vocab_size) != row_tokens[0])
            models.append(KneserNeyModel(row_tokens, row_lengths, predictable=follows, order=order))
        self.models = dict(zip(("forward", "backward"), models, strict=True))
        self.log_unigram = np.log(models[0].frequencies[self.fillable_ids]).astype(np.float32)
        self.filters = {
            name: tuple(
                LeftToRightFilter(
                    model, fillable_ids=self.fillable_ids, mask_token_id=collator.masker.mask_token_id, beam_width=width
                )
                for model in models
            )
            for name, width in (("stop", 0), ("beam", beam_width))
        }

    def masked_chunks(self, rows: datasets.Dataset) -> Iterator[dict[str, NDArray[np.int64]]]:
        """Yield the batches of the collator, as arrays, with ``lengths``, in the order of the rows."""
        dataset = PretrainingDataset(rows)
        for start in range(0, len(dataset), CHUNK_ROWS):
            batch = self.collator(dataset.__getitems__(range(start, min(start + CHUNK_ROWS, len(dataset)))))
            arrays = {name: tensor.numpy() for name, tensor in batch.items()}
            yield arrays | {"lengths": arrays["attention_mask"].sum(axis=1)}

    def sides(self, way: str, chunk: dict[str, NDArray[np.int64]]) -> SidePredictions:
        """Predict the scored tokens of a chunk from each side."""
        forward, backward = self.filters[way]
        return predict_from_both_sides(forward, backward, chunk["input_ids"], chunk["lengths"], chunk["labels"] != -100)

    def targets_and_observed(self, chunk: dict[str, NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the indices of the true and of the shown tokens among the fillable ones, -1 for a shown [MASK]."""
        scored = chunk["labels"] != -100
        shown = chunk["input_ids"][scored]
        observed = np.where(shown == self.collator.masker.mask_token_id, -1, np.searchsorted(self.fillable_ids, shown))
        return np.searchsorted(self.fillable_ids, chunk["labels"][scored]), observed


class Score:
    """Loss and accuracy, added up over the scored tokens and over those that show [MASK]."""

    def __init__(self) -> None:
        self._sums = {"all scored": np.zeros(3), "[MASK] only": np.zeros(3)}

    def add(
        self, log_probabilities: NDArray[np.floating], targets: NDArray[np.int64], is_mask: NDArray[np.bool_]
    ) -> None:
        """Add predictions ``(positions, fillable tokens)``."""
        losses = -log_probabilities[np.arange(len(targets)), targets].astype(np.float64)
        right = log_probabilities.argmax(axis=1) == targets
        for name, chosen in (("all scored", np.ones_like(is_mask)), ("[MASK] only", is_mask)):
            self._sums[name] += (chosen.sum(), losses[chosen].sum(), right[chosen].sum())

    def figures(self) -> dict[str, dict[str, float]]:
        """Return tokens, loss (nats a token) and accuracy of both.

        Raises:
            InputError: No token, or none that shows [MASK], was scored.
        """
        if not all(sums[0] for sums in self._sums.values()):
            raise InputError("no [MASK] was drawn in these rows; give a longer validation text")
        return {
            name: {"tokens": int(tokens), "loss": loss / tokens, "accuracy": right / tokens}
            for name, (tokens, loss, right) in self._sums.items()
        }


def load_rows(folder: str, tokenizer: PreTrainedTokenizerBase, max_length: int) -> datasets.Dataset:
    """Open and tokenize a prepared folder."""
    return tokenize_dataset(load_prepared_folder(folder), folder=folder, tokenizer=tokenizer, max_length=max_length)


def flat_tokens(rows: datasets.Dataset) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return all tokens, one row after the other, and the length of each row."""
    tokens, lengths = [], []
    for table in rows.select_columns(["input_ids"]).with_format("arrow").iter(10_000):
        column = table.column("input_ids")
        tokens.append(pc.list_flatten(column).to_numpy())
        lengths.append(pc.list_value_length(column).to_numpy().astype(np.int64))
    return np.concatenate(tokens), np.concatenate(lengths)


def fit(filler: Filler, way: str, held_out: datasets.Dataset) -> NDArray[np.float64]:
    """Fit the exponents of a way on the tokens of held-out rows that show [MASK]."""
    parts, targets = [], []
    for chunk in filler.masked_chunks(held_out):
        target, observed = filler.targets_and_observed(chunk)
        targets.append(target[observed < 0])
        sides = filler.sides(way, chunk)
        parts.append([side[observed < 0] for side in (sides.forward, sides.backward, sides.classes)])
    sides = SidePredictions(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    return fit_exponents(sides, filler.log_unigram, np.concatenate(targets))


def evaluate(filler: Filler, way: str, exponents: NDArray[np.float64], rows: datasets.Dataset) -> dict[str, Any]:
    """Score a way on all rows."""
    score = Score()
    for chunk in filler.masked_chunks(rows):
        targets, observed = filler.targets_and_observed(chunk)
        predictions = combine(filler.sides(way, chunk), filler.log_unigram, exponents, observed)
        score.add(predictions, targets, observed < 0)
    return score.figures()


def describe(model: KneserNeyModel) -> dict[str, Any]:
    """Return the n-gram types and discounts of each level."""
    return {
        "types": [int(np.count_nonzero(model.unigram_counts)), *(len(level.keys) for level in model.levels)],
        "discounts": [
            [round(float(d), 6) for d in discounts[1:]]
            for discounts in (model.unigram_discounts, *(level.discounts for level in model.levels))
        ],
    }


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train, fit and score; return what the JSON file holds."""
    tokenizer = load_tokenizer(arguments.tokenizer)
    validations = {}
    for given in arguments.validation:
        name, _, folder = given.rpartition("=")
        name = name or Path(folder).name
        if name in validations:
            raise InputError(f"--validation: two folders are called {name}; name them apart, NAME={folder}")
        validations[name] = (folder, load_rows(folder, tokenizer, arguments.max_length))
    train, held_out = split_tail(
        load_rows(arguments.train, tokenizer, arguments.max_length), 0.05, most_rows=arguments.held_out_rows
    )
    tokens, lengths = flat_tokens(train)

    started = time.perf_counter()
    filler = Filler(
        tokens,
        lengths,
        collator=WholeWordMaskCollator(tokenizer, mask_probability=0.15, seed=arguments.seed),
        vocab_size=len(tokenizer),
        order=arguments.order,
        beam_width=arguments.beam_width,
    )
    seconds = {"train": time.perf_counter() - started}
    print(f"trained on {len(tokens):,} tokens in {seconds['train']:.0f} s", flush=True)
    ways: dict[str, dict[str, Any]] = {}
    for way in filler.filters:
        started = time.perf_counter()
        exponents = fit(filler, way, held_out)
        seconds[f"fit {way}"] = time.perf_counter() - started
        started = time.perf_counter()
        ways[way] = {
            "exponents": {
                name: dict(zip(FEATURES, map(float, row), strict=True))
                for name, row in zip(CLASSES, exponents, strict=True)
            },
            "held_out": evaluate(filler, way, exponents, held_out),
            "validation": {name: evaluate(filler, way, exponents, rows) for name, (_, rows) in validations.items()},
        }
        seconds[f"score {way}"] = time.perf_counter() - started
    return {
        "settings": {
            "order": arguments.order,
            "max_length": arguments.max_length,
            "seed": arguments.seed,
            "mask_probability": filler.collator.masker.mask_probability,
            "beam_width": arguments.beam_width,
            "tokenizer": Path(arguments.tokenizer).name,
            "train": Path(arguments.train).name,
            "validation": {name: Path(folder).name for name, (folder, _) in validations.items()},
        },
        "training_tokens": len(tokens),
        "training_rows": len(train),
        "held_out_rows": len(held_out),
        "vocabulary": len(tokenizer),
        "models": {name: describe(model) for name, model in filler.models.items()},
        "ways": ways,
        "chosen": min(ways, key=lambda way: ways[way]["held_out"]["all scored"]["loss"]),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in ("numpy", "transformers", "tokenizers", "datasets")},
    }


def table(result: dict[str, Any]) -> str:
    """Write the scores of both ways as a Markdown table."""
    lines = [
        "| rows | hidden neighbours | all scored: loss | accuracy | [MASK] only: loss | accuracy |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for way, figures in result["ways"].items():
        chosen = " (chosen)" if way == result["chosen"] else ""
        for rows, score in {"held-out training rows": figures["held_out"], **figures["validation"]}.items():
            cells = (f"{score[name]['loss']:.4f} | {score[name]['accuracy']:.2%}" for name in score)
            lines.append(f"| {rows} | {way}{chosen} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True, help="folder made with --format text to count n-grams in")
    parser.add_argument(
        "--validation", required=True, action="append", metavar="[NAME=]DIR", help="such a folder to fill; repeatable"
    )
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--order", type=int, default=5)
    parser.add_argument("--max-length", type=int, default=128, help="tokens in a row, as in pretraining")
    parser.add_argument("--seed", type=int, default=1, help="of the masks")
    parser.add_argument("--beam-width", type=int, default=8, help="hypotheses a row for its hidden tokens")
    parser.add_argument("--held-out-rows", type=int, default=600, help="last training rows, for the exponents")
    parser.add_argument("--json", type=Path, required=True, help="file to write")
    arguments = parser.parse_args()
    least = {"order": 2, "max_length": 3, "seed": 0, "beam_width": 1, "held_out_rows": 1}
    for name, value in least.items():
        if getattr(arguments, name) < value:
            given = f"--{name.replace('_', '-')}"
            parser.error(f"{given} must be at least {value}, got {getattr(arguments, name)}")
    if arguments.json.is_dir():
        parser.error(f"--json {arguments.json} is a folder; name a file")
    try:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)  # before the minutes of counting
        result = run(arguments)
    except (InputError, OSError) as error:
        parser.error(str(error))
    arguments.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(table(result))


if __name__ == "__main__":
    main()
