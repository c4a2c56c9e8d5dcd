"""The studies of docs/quality.md: which runs each consists of, given the records that there are."""

from collections.abc import Callable
from dataclasses import replace
from itertools import zip_longest
from typing import Any

from contestants import CONTESTANTS
from runs import Run, as_pairs

Records = dict[Run, dict]
SEEDS = (0, 1, 2)

# Four learning rates to begin with, the likeliest first; the search goes on where the best is the last one.
# With Muon it is AdamW's, for embeddings and vectors; Muon has a quarter of it.
ADAMW_RATES = (4e-3, 2e-3, 8e-3, 1e-3)
MUON_RATES = (2e-2, 1e-2, 4e-2, 5e-3)
COMPARED = ("flash-quad", "transformer-tricks", "transformer", "earlier", "flash")
ALL_COMPARED = (*COMPARED, "transformer-own-init", "bert")
# of the two Transformers with our tricks neither is the better one everywhere, so both go on
CONFIRMED = (*COMPARED, "transformer-own-init")
LONG = ("flash", "transformer-tricks", "flash-quad", "transformer-own-init")
LONGEST_TAKEN_OVER = 512  # tokens in a row: four rows a batch
SEPARATED = ("flash-quad-adamw", "transformer-muon")

STEPS = 1000  # of 2,048 tokens


def rates_to_try(records: Records, first: Run, rates: tuple[float, ...]) -> tuple[float, ...]:
    """Extend the rates by doubling or halving until the best of them has a worse neighbour on either side."""
    while (best := best_rate(records, first, rates)) is not None:
        if best == max(rates):
            rates = (*rates, 2 * best)
        elif best == min(rates):
            rates = (*rates, best / 2)
        else:
            break
    return rates


def best_rate(records: Records, first: Run, rates: tuple[float, ...]) -> float | None:
    """Return the learning rate of the lowest loss among runs like ``first``; None before all are done, and of none."""
    runs = {rate: replace(first, learning_rate=rate) for rate in rates}
    if not runs or any(run not in records for run in runs.values()):
        return None
    return min(rates, key=lambda rate: records[runs[rate]]["loss"])


def tuned(records: Records, first: Run, rates: tuple[float, ...], seeds: tuple[int, ...] = SEEDS) -> list[Run]:
    """List the runs like ``first``: each rate with the first seed, then the best with the other seeds."""
    first = replace(first, seed=seeds[0])
    rates = rates_to_try(records, first, rates)
    runs = [replace(first, learning_rate=rate) for rate in rates]
    return runs + other_seeds(records, first, rates, seeds[1:])


def other_seeds(records: Records, first: Run, rates: tuple[float, ...], seeds: tuple[int, ...]) -> list[Run]:
    """List the runs at the best of ``rates`` with other seeds; none before all rates were tried with the first."""
    best = best_rate(records, first, rates)
    return [] if best is None else [replace(first, learning_rate=best, seed=seed) for seed in seeds]


def comparison(records: Records, contestants: tuple[str, ...]) -> list[Run]:
    """Compare the contestants, each at its own best learning rate; they take turns."""
    plans = []
    for contestant in contestants:
        first = Run(contestant, "3M", learning_rate=0.0, seed=0, steps=STEPS)
        plans.append(tuned(records, first, MUON_RATES if CONTESTANTS[contestant].muon else ADAMW_RATES))
    return [run for turn in zip_longest(*plans) for run in turn if run is not None]


def confirmation(records: Records, size: str, length: int, contestants: tuple[str, ...]) -> list[Run]:
    """Compare the contestants elsewhere, beginning with the rate that won ``comparison-3M``.

    There are no runs before the rates are known.
    """
    first_seed: list[Run] = []
    others: list[Run] = []
    for contestant in contestants:
        here = Run(contestant, size, learning_rate=0.0, seed=SEEDS[0], steps=STEPS, length=length)
        rates = rates_elsewhere(records, here)
        first_seed += [replace(here, learning_rate=tried) for tried in rates]
        others += other_seeds(records, here, rates, SEEDS[1:2])
    return first_seed + others


def rates_elsewhere(records: Records, here: Run) -> tuple[float, ...]:
    """List the learning rates of a confirmation; none before the comparison has one.

    A run there costs as much as the four of a search at 3M. At the same size and batches Muon's rate is taken over.
    The best rate falls with the width and with the rows of a batch: there half of it is tried too, and the search goes
    on from the better one.
    """
    compared = Run(here.contestant, "3M", learning_rate=0.0, seed=SEEDS[0], steps=STEPS)
    muon = CONTESTANTS[here.contestant].muon
    rate = best_rate(records, compared, rates_to_try(records, compared, MUON_RATES if muon else ADAMW_RATES))
    if rate is None:
        return ()
    taken_over = muon and here.size == compared.size and here.length <= LONGEST_TAKEN_OVER
    return (rate,) if taken_over else rates_to_try(records, here, (rate, rate / 2))


# the best rates of confirmation-11M as far as it was when the runs began
LARGER_RATES = {
    "flash-quad": 2e-2,
    "transformer-tricks": 2e-2,
    "transformer": 1e-3,
    "earlier": 4e-3,
    "flash": 2e-2,
    "transformer-own-init": 1e-2,
}


def larger(records: Records) -> list[Run]:
    """Compare the contestants at 23M for half the steps, with a rate of ``confirmation-11M`` and half of it."""
    return [
        Run(contestant, "23M", tried, seed=SEEDS[0], steps=STEPS // 2)
        for contestant, rate in LARGER_RATES.items()
        for tried in (rate, rate / 2)
    ]


# What is changed of the recommended FLASH-Quad; the first changes nothing.
VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"token_shift": 0.0},
    {"token_shift": 0.125},
    {"token_shift": 0.375},
    {"convolution": 5},
    {"attention_norm": False},
    {"final_norm": False},
    {"initialization": "normal"},
    {"branch_scale": 8**-0.5},
    {"matrix_scale": 0.5},
    {"embedding_std": 0.02},
    {"embedding_std": 0.02, "matrix_scale": 0.5},
    {"norm_position": "post", "final_norm": False},
    {"norm_type": "rms_norm"},
    {"norm_type": "layer_norm"},
    {"attention_norm_type": "scale_norm"},
    {"attention_norm_eps": 6e-10},
    {"score_divisor": "row_sum"},
    {"attention_function": "softmax"},
    {"relative_bias": "none"},
    {"own_position": False},
    {"own_value": True},
    {"activated": "gb"},
    {"activated": "vb"},
    {"query_key_dim": 128},
    {"heads": 2},
    {"heads": 4},
    {"expansion_factor": 3, "num_hidden_layers": 5},
)
TRAININGS: tuple[dict[str, Any], ...] = (
    {},
    {"mlm_probability": 0.15},
    {"mlm_probability": 0.4},
    {"muon": False},
    {"per_device_train_batch_size": 32, "max_steps": 250},
    {"weight_decay": 0.1},
    {"adam_beta2": 0.999},
    {"lr_scheduler_type": "cosine"},
)
OUTER_NORMS: tuple[dict[str, Any], ...] = tuple(
    {"outer_norm": norm} | dropout
    for norm in ("scale_norm", "rms_norm", "layer_norm", "none")
    for dropout in ({}, {"dropout": 0.1})
)
VARIANT_RATES = {True: (2e-2,), False: (4e-3, 8e-3, 2e-3)}  # with Muon the unchanged model's best; without


def variants(
    records: Records,
    settings: tuple[dict[str, Any], ...],
    training: tuple[dict[str, Any], ...] = (),
    contestant: str = "flash-quad",
) -> list[Run]:
    """Change one thing of a contestant at a time: two seeds, half the comparison's steps."""
    first_seed: list[Run] = []
    others: list[Run] = []
    for change, of_model in [(change, True) for change in settings] + [(change, False) for change in training]:
        first = Run(contestant, "3M", learning_rate=0.0, seed=SEEDS[0], steps=STEPS // 2)
        first = replace(first, settings=as_pairs(change)) if of_model else replace(first, training=as_pairs(change))
        rates = VARIANT_RATES[change.get("muon", True)]
        first_seed += [replace(first, learning_rate=rate) for rate in rates]
        others += other_seeds(records, first, rates, SEEDS[1:2])
    return first_seed + others


# What might cost FLASH-Quad at long rows what it does not at short ones; ``bias_slope`` begins with near tokens.
LONG_VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"relative_bias": "toeplitz"},
    {"relative_bias": "toeplitz", "bias_slope": 0.25},
    {"attention_function": "softmax"},
    {"expansion_factor": 1, "num_hidden_layers": 15},
    {"own_value": True},
    {"heads": 4},
    {"attention_norm": False, "score_divisor": "row_sum"},
    {"score_divisor": "row_sum"},
)
LONG_RATE = 1e-2  # the best of confirmation-2048


def long_rows(records: Records) -> list[Run]:
    """Change one thing of FLASH-Quad at rows of 2,048 tokens."""
    first = Run("flash-quad", "3M", LONG_RATE, seed=SEEDS[0], steps=STEPS, length=2048)
    return [replace(first, settings=as_pairs(change)) for change in LONG_VARIANTS]


def more_rows(records: Records) -> list[Run]:
    """Train at rows of 2,048 tokens with four in a batch, as at 512, at the rate taken from the comparison.

    With one, a batch is often one short document: is it the length that costs, or the batch?
    """
    runs = []
    for contestant in LONG:
        compared = Run(contestant, "3M", learning_rate=0.0, seed=SEEDS[0], steps=STEPS)
        rate = best_rate(records, compared, rates_to_try(records, compared, MUON_RATES))
        if rate is not None:
            here = replace(compared, learning_rate=rate, steps=STEPS // 2, length=2048)
            runs.append(replace(here, training=as_pairs({"per_device_train_batch_size": 4})))
    return runs


def longer(records: Records) -> list[Run]:
    """Train at rows of 2,048 tokens for twice as long, to see whether what arises in the first steps remains."""
    return [Run(contestant, "3M", LONG_RATE, seed=SEEDS[0], steps=2 * STEPS, length=2048) for contestant in LONG]


DECAYS: tuple[dict[str, Any], ...] = ({}, {"weight_decay": 0.1}, {"weight_decay": 0.3})
DECAYED = {"flash-quad": 2e-2, "transformer-own-init": 1e-2}  # the best rates of comparison-3M


def decays(records: Records) -> list[Run]:
    """Vary the weight decay of the two that are closest, at the rates that are best with that of all studies."""
    return [
        Run(contestant, "3M", rate, seed=SEEDS[0], steps=STEPS, training=as_pairs(change))
        for contestant, rate in DECAYED.items()
        for change in DECAYS
    ]


WARM_UP = as_pairs({"warmup_steps": STEPS // 5})
# FLASH-Quad by both optimizers, and those by AdamW, at rates around the best of comparison-3M
WARMED_UP = {
    "flash-quad": (2e-2,),
    "flash-quad-adamw": (4e-3, 8e-3),
    "transformer": (2e-3, 4e-3),
    "earlier": (2e-3, 4e-3, 8e-3),
}


def warm_ups(records: Records) -> list[Run]:
    """Warm up for a fifth of the steps, in place of the 6 % of all studies; those by AdamW with two seeds."""
    first_seed: list[Run] = []
    others: list[Run] = []
    for contestant, rates in WARMED_UP.items():
        first = Run(contestant, "3M", learning_rate=0.0, seed=SEEDS[0], steps=STEPS, training=WARM_UP)
        first_seed += [replace(first, learning_rate=rate) for rate in rates]
        if not CONTESTANTS[contestant].muon:
            others += other_seeds(records, first, rates, SEEDS[1:2])
    return first_seed + others


FOUR_TIMES_AS_LONG = {
    "flash-quad": 2e-2,
    "transformer-muon": 1e-2,
    "transformer-own-init": 1e-2,
}  # with the rate of each


def four_times(records: Records) -> list[Run]:
    """Train four times as long at rates that were not tuned for it."""
    return [
        Run(contestant, "3M", rate, seed=SEEDS[0], steps=4 * STEPS) for contestant, rate in FOUR_TIMES_AS_LONG.items()
    ]


EVALUATED_LENGTHS = (16, 32, 64, 256, 512, 1024, 2048)
# The norm on the attention output cancels every divisor of squared ReLU, so with it there is only one.
NORMALIZERS: tuple[dict[str, Any], ...] = (
    {},
    {"attention_norm": False, "score_scale": "inverse_length"},
    {"attention_norm": False, "score_divisor": "true_length", "score_scale": "inverse_length"},
    {"attention_norm": False},
    {"attention_norm": False, "score_divisor": "true_length"},
    {"attention_norm": False, "score_divisor": "row_sum"},
    {"attention_norm": False, "attention_function": "entropy_softmax"},
    {"attention_norm": False, "attention_function": "softmax"},
    {"attention_function": "entropy_softmax"},
    {"attention_function": "softmax"},
    {"attention_function": "laplace"},
)
NORMALIZER_RATE = 2e-2
MATCHED_LENGTHS = (16, 32, 64)


def lengths(records: Records) -> list[Run]:
    """Train with every normaliser at 128, and the recommended one at shorter lengths too; measure at all lengths."""
    first = Run("flash-quad", "3M", NORMALIZER_RATE, seed=0, steps=STEPS // 2)
    runs = [replace(first, settings=as_pairs(change), evaluate_at=EVALUATED_LENGTHS) for change in NORMALIZERS]
    runs[1:1] = [replace(first, length=length) for length in MATCHED_LENGTHS]
    return runs + [replace(run, seed=SEEDS[1]) for run in runs[: 1 + len(MATCHED_LENGTHS)]]


# What is changed of the Transformer that has our tricks.
TRICKS: tuple[dict[str, Any], ...] = ({}, {"scale_norm": False}, {"attention_norm": True}, {"fan_in": False})


STUDIES: dict[str, Callable[[Records], list[Run]]] = {
    "comparison-3M": lambda records: comparison(records, ALL_COMPARED),
    "separated-3M": lambda records: comparison(records, SEPARATED),
    "longer-3M": four_times,
    "decay-3M": decays,
    "warm-up-3M": warm_ups,
    "confirmation-11M": lambda records: confirmation(records, "11M", 128, CONFIRMED),
    "confirmation-23M": larger,
    "confirmation-512": lambda records: confirmation(records, "3M", 512, LONG),
    "confirmation-2048": lambda records: confirmation(records, "3M", 2048, LONG),
    "settings": lambda records: variants(records, VARIANTS),
    "training": lambda records: variants(records, (), TRAININGS),
    "outer-norms": lambda records: variants(records, OUTER_NORMS),
    "settings-2048": long_rows,
    "four-rows-2048": more_rows,
    "longer-2048": longer,
    "tricks": lambda records: variants(records, TRICKS, contestant="transformer-tricks"),
    "lengths": lengths,
}
