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
ADAMW_RATES = (4e-3, 2e-3, 8e-3, 1e-3)
MUON_RATES = (5e-3, 1e-2, 2.5e-3, 2e-2)
COMPARED = ("flash-quad", "transformer-tricks", "transformer", "earlier", "flash")
SEPARATED = ("flash-quad-adamw", "transformer-muon", "bert")

# of 2,048 tokens
STEPS = {"3M": 1000, "11M": 1500}


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
    """Return the learning rate of the lowest loss among runs like ``first``; None before all are done."""
    runs = {rate: replace(first, learning_rate=rate) for rate in rates}
    if any(run not in records for run in runs.values()):
        return None
    return min(rates, key=lambda rate: records[runs[rate]]["loss"])


def tuned(records: Records, first: Run, rates: tuple[float, ...], seeds: tuple[int, ...] = SEEDS) -> list[Run]:
    """List the runs like ``first``: each rate with the first seed, then the best with the other seeds."""
    first = replace(first, seed=seeds[0])
    rates = rates_to_try(records, first, rates)
    runs = [replace(first, learning_rate=rate) for rate in rates]
    best = best_rate(records, first, rates)
    if best is not None:
        runs += [replace(first, learning_rate=best, seed=seed) for seed in seeds[1:]]
    return runs


def comparison(records: Records, size: str, length: int = 128, contestants: tuple[str, ...] = COMPARED) -> list[Run]:
    """Compare the contestants at a size and a length, each at its own best learning rate; they take turns."""
    plans = []
    for contestant in contestants:
        first = Run(contestant, size, learning_rate=0.0, seed=0, steps=STEPS[size], length=length)
        plans.append(tuned(records, first, MUON_RATES if CONTESTANTS[contestant].muon else ADAMW_RATES))
    return [run for turn in zip_longest(*plans) for run in turn if run is not None]


# What is changed of the recommended FLASH-Quad; the first changes nothing.
VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"token_shift": 0.0},
    {"token_shift": 0.125},
    {"token_shift": 0.5},
    {"attention_norm": False},
    {"final_norm": False},
    {"initialization": "normal"},
    {"branch_scale": 8**-0.5},
    {"norm_position": "post", "final_norm": False},
    {"norm_type": "scale_norm"},
    {"norm_type": "layer_norm"},
    {"attention_function": "softmax"},
    {"attention_function": "laplace"},
    {"relative_bias": "none"},
    {"relative_bias": "bucketed"},
    {"rotary": False},
    {"scaled_sinusoid": False},
    {"own_position": False},
    {"query_key_dim": 32},
    {"query_key_dim": 128},
    {"expansion_factor": 3, "num_hidden_layers": 5},
    {"expansion_factor": 1, "num_hidden_layers": 15},
)
TRAININGS: tuple[dict[str, Any], ...] = (
    {"mlm_probability": 0.15},
    {"mlm_probability": 0.2},
    {"mlm_probability": 0.4},
    {"muon": False},
    {"per_device_train_batch_size": 32, "max_steps": 250},
    {"adam_beta2": 0.999},
    {"weight_decay": 0.1},
    {"warmup_steps": 100},
    {"lr_scheduler_type": "cosine"},
)
VARIANT_RATES = (5e-3, 1e-2)


def variants(records: Records, settings: tuple[dict[str, Any], ...], training: tuple[dict[str, Any], ...]) -> list[Run]:
    """Change one thing of the recommended FLASH-Quad at a time; two seeds, half the steps of the comparison."""
    firsts = [_variant(settings=change) for change in settings] + [_variant(training=change) for change in training]
    rates = VARIANT_RATES
    return [run for first in firsts for run in tuned(records, first, _rates_of(first, rates), SEEDS[:2])]


def _variant(settings: dict[str, Any] | None = None, training: dict[str, Any] | None = None) -> Run:
    pairs = tuple(sorted((settings or {}).items())), tuple(sorted((training or {}).items()))
    return Run(
        "flash-quad", "3M", learning_rate=0.0, seed=0, steps=STEPS["3M"] // 2, settings=pairs[0], training=pairs[1]
    )


def _rates_of(run: Run, rates: tuple[float, ...]) -> tuple[float, ...]:
    return ADAMW_RATES[1:3] if ("muon", False) in run.training else rates


def outer_norms(records: Records) -> list[Run]:
    """Norms in the embeddings and in the head, with and without dropout after the embeddings."""
    changes = [
        {"outer_norm": norm} | ({"dropout": dropout} if dropout else {})
        for norm in ("rms_norm", "scale_norm", "layer_norm", "none")
        for dropout in (0.0, 0.1)
    ]
    return [run for change in changes for run in tuned(records, _variant(settings=change), VARIANT_RATES, SEEDS[:2])]


EVALUATED_LENGTHS = (16, 32, 64, 256, 512, 1024, 2048)
NORMALIZERS: tuple[dict[str, Any], ...] = (
    {},
    {"score_divisor": "true_length"},
    {"score_divisor": "row_sum"},
    {"attention_function": "softmax"},
    {"attention_function": "entropy_softmax"},
    {"attention_function": "laplace"},
    {"attention_norm": False},
    {"attention_norm": False, "score_divisor": "true_length"},
    {"attention_norm": False, "score_divisor": "row_sum"},
    {"attention_norm": False, "attention_function": "softmax"},
    {"attention_norm": False, "attention_function": "entropy_softmax"},
    {"attention_norm": False, "score_scale": "inverse_length"},
    {"attention_norm": False, "score_divisor": "true_length", "score_scale": "inverse_length"},
)
NORMALIZER_RATE = 5e-3
MATCHED_LENGTHS = (16, 32, 64)


def lengths(records: Records) -> list[Run]:
    """Train with every normaliser at 128, and the recommended one at shorter lengths too; measure at all lengths."""
    first = Run("flash-quad", "3M", NORMALIZER_RATE, seed=0, steps=STEPS["3M"])
    runs = [replace(first, settings=as_pairs(change), evaluate_at=EVALUATED_LENGTHS) for change in NORMALIZERS]
    return runs + [replace(first, length=length) for length in MATCHED_LENGTHS]


STUDIES: dict[str, Callable[[Records], list[Run]]] = {
    "comparison-3M": lambda records: comparison(records, "3M"),
    "separated-3M": lambda records: comparison(records, "3M", contestants=SEPARATED),
    "comparison-11M": lambda records: comparison(records, "11M"),
    "settings": lambda records: variants(records, VARIANTS, ()),
    "training": lambda records: variants(records, (), TRAININGS),
    "outer-norms": outer_norms,
    "lengths": lengths,
}
