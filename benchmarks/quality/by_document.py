"""How sure is a difference? Score the models of a study document by document, under several draws of the masks.

    python benchmarks/quality/by_document.py comparison-3M --models KEPT --results RUNS.jsonl --output DOCUMENTS.jsonl \
        --validation DIR --test DIR

KEPT is where `study.py --keep-models` saved them. Scored are the runs at the best learning rates, those that have no
record yet; page.py resamples the documents.
"""

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

sys.path.append(str(Path(__file__).parents[1]))  # the harness of the other benchmarks

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from flash.data.collator import WholeWordMaskCollator
from flash.data.pretraining_dataset import PretrainingDataset
from flash.errors import InputError

from run_records import append_record, read_run_records
from runs import Run, Texts, build_model, model_folder, read_records
from studies import STUDIES
from summary import summarize

DRAWS = 4
ROWS_A_BATCH = 64
WRITTEN_DIGITS = 2


class Scores(NamedTuple):
    """Sums over the scored tokens of each document, ``(documents,)``."""

    loss: NDArray[np.float64]
    scored: NDArray[np.int64]


@torch.no_grad()
def score(model: PreTrainedModel, texts: Texts, folder: str, length: int, *, draws: int = DRAWS) -> Scores:
    """Sum the loss of each document, a row of the prepared folder, in rows of ``length`` tokens.

    Args:
        draws: How many times other words are hidden; the seeds of the masks are 1, 2, ..., and the first that of
            ``study.py``.
    """
    tokenized = texts.tokenized(folder, length)
    rows = PretrainingDataset(tokenized)
    documents = np.unique(np.asarray(tokenized["row"]), return_inverse=True)[1]
    sums = Scores(np.zeros(documents.max() + 1), np.zeros(documents.max() + 1, dtype=np.int64))
    model.eval()
    for seed in range(1, draws + 1):
        collator = WholeWordMaskCollator(texts.tokenizer, seed=seed)
        for first in range(0, len(rows), ROWS_A_BATCH):
            numbers = range(first, min(first + ROWS_A_BATCH, len(rows)))
            batch = collator(rows.__getitems__(numbers))
            scored = batch["labels"] != -100
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = model(**batch, scored_logits_only=True).logits
            losses = cross_entropy(logits.float(), batch["labels"][scored], reduction="none").double().numpy()
            of_document = documents[first + scored.nonzero()[:, 0].numpy()]
            np.add.at(sums.loss, of_document, losses)
            np.add.at(sums.scored, of_document, 1)
    return sums


def load_kept(run: Run, kept: Path, vocab_size: int) -> PreTrainedModel:
    """Load the model that a run left below ``kept``.

    Raises:
        InputError: It left none, or another one.
    """
    file = kept / model_folder(run) / "model.safetensors"
    if not file.is_file():
        raise InputError(f"{file} is missing; run the study again with --keep-models {kept}, without its record")
    model = build_model(run, vocab_size)
    weights = load_file(file)
    missing = model.state_dict().keys() - weights.keys() - model.all_tied_weights_keys.keys()
    if missing or weights.keys() - model.state_dict().keys():
        raise InputError(f"{file} is of another model than its name says")
    model.load_state_dict(weights, strict=False)  # tied weights are saved once
    return model


def difference(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], *, resamples: int = 10_000) -> NDArray:
    """Return the difference in mean loss, and the 2.5th and 97.5th percentile of it over resampled documents.

    Args:
        ours: ``{"loss": [...], "scored": [...]}`` by document, an entry a seed.
        theirs: The same seeds of the other one, measured on the same masks.
    """
    scored = np.asarray(ours[0]["scored"], dtype=np.float64)
    apart = np.subtract(*(np.mean([each["loss"] for each in side], axis=0) for side in (ours, theirs)))
    drawn = np.random.default_rng(0).multinomial(len(scored), np.full(len(scored), 1 / len(scored)), size=resamples)
    resampled = (drawn @ apart) / (drawn @ scored)
    return np.array([apart.sum() / scored.sum(), *np.percentile(resampled, [2.5, 97.5])])


def main() -> None:
    """Score what has no record yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help=f"of {', '.join(STUDIES)}")
    parser.add_argument("--models", type=Path, required=True, help="folder of the saved models")
    parser.add_argument("--results", type=Path, required=True, help="JSON lines of finished runs")
    parser.add_argument("--output", type=Path, required=True, help="JSON lines, a run each; added to")
    parser.add_argument("--validation", required=True, help="prepared folder")
    parser.add_argument("--test", required=True, help="prepared folder that nothing was chosen by")
    arguments = parser.parse_args()
    if arguments.study not in STUDIES:
        parser.error(f"no study {arguments.study!r}; there are {', '.join(STUDIES)}")
    try:
        records = read_records(arguments.results)
        done = read_run_records(arguments.output, Run.from_dict)
        texts = Texts.load(arguments.validation, arguments.validation, arguments.test)
        for tuned in summarize(records, STUDIES[arguments.study](records)):
            for run in tuned.runs:
                if run not in done:
                    model = load_kept(run, arguments.models, len(texts.tokenizer))
                    append_record(arguments.output, _record(run, model, texts))
                    print(f"scored {model_folder(run)}", flush=True)
    except (InputError, OSError) as error:
        parser.error(str(error))


def _record(run: Run, model: PreTrainedModel, texts: Texts) -> dict[str, Any]:
    assert texts.test is not None
    record: dict[str, Any] = {"run": run.to_dict(), "draws": DRAWS}
    for name, folder in (("validation", texts.validation), ("test", texts.test)):
        sums = score(model, texts, folder, run.length)
        record[name] = {"loss": [round(value, WRITTEN_DIGITS) for value in sums.loss], "scored": sums.scored.tolist()}
    return record


if __name__ == "__main__":
    main()
