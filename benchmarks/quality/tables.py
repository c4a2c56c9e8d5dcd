"""Tables of docs/quality.md."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from statistics import mean

from by_document import difference

from contestants import CONTESTANTS
from generated_page import markdown_table
from runs import Run
from studies import STUDIES, Records
from summary import Tuned, plus_minus, spread, summarize


def comparison_table(records: Records, study: str) -> str:
    """Compare contestants: loss, accuracy and processor time at the best learning rate, mean and spread of seeds."""
    summaries = summarize(records, STUDIES[study](records))
    rows = []
    for tuned in summaries:
        rows.append(
            [
                tuned.label,
                f"{tuned.records[0]['parameters'] / 1e6:.2f} M",
                optimizer(tuned.runs[0].contestant),
                f"{tuned.learning_rate:g}",
                plus_minus(tuned.mean_of("loss"), tuned.spread_of("loss")),
                plus_minus(tuned.mean_of("accuracy"), tuned.spread_of("accuracy"), digits=2, factor=100),
                f"{tuned.mean_of('seconds'):.0f}",
                str(len(tuned.runs)),
            ]
        )
    header = ["model", "parameters", "optimizer", "best rate", "loss (nats)", "accuracy (%)", "seconds", "seeds"]
    return markdown_table(header, rows)


def sweep_table(records: Records, study: str) -> str:
    """Give the loss of the first seed at each learning rate."""
    summaries = summarize(records, STUDIES[study](records))
    rates = sorted({rate for tuned in summaries for rate in tuned.sweep})
    rows = [
        [tuned.label, *(f"{tuned.sweep[rate]:.3f}" if rate in tuned.sweep else "" for rate in rates)]
        for tuned in summaries
    ]
    return markdown_table(["model", *(f"{rate:g}" for rate in rates)], rows)


def variants_table(records: Records, runs: Iterable[Run]) -> str:
    """Compare variants: loss and accuracy, and the difference to the first of the same seeds."""
    summaries = summarize(records, runs, label=describe)
    first = summaries[0] if summaries else None
    rows = []
    for tuned in summaries:
        assert first is not None
        rows.append(
            [
                tuned.label,
                f"{tuned.learning_rate:g}",
                plus_minus(tuned.mean_of("loss"), tuned.spread_of("loss")),
                f"{mean(differences(tuned, first)):+.3f}",
                plus_minus(tuned.mean_of("accuracy"), tuned.spread_of("accuracy"), digits=2, factor=100),
                str(len(tuned.runs)),
            ]
        )
    return markdown_table(["variant", "best rate", "loss (nats)", "against the first", "accuracy (%)", "seeds"], rows)


def variants_of(records: Records, study: str) -> str:
    """Compare the variants of a study."""
    return variants_table(records, STUDIES[study](records))


def length_study(records: Records) -> tuple[list[Tuned], dict[int, Tuned]]:
    """Return the models trained at one length, and the recommended one trained and measured at each of others."""
    runs = [run for run in STUDIES["lengths"](records) if run in records]
    normalizers = summarize(records, [run for run in runs if run.evaluate_at], label=describe)
    matched = summarize(records, [run for run in runs if not run.evaluate_at])
    return normalizers, {tuned.runs[0].length: tuned for tuned in matched}


def lengths_table(records: Records) -> str:
    """Give the loss of models trained at one length at all others, and what training at that length would give."""
    normalizers, matched = length_study(records)
    lengths = sorted({length for tuned in normalizers for length in tuned.losses_at_lengths()})
    rows = []
    for tuned in normalizers:
        losses = tuned.losses_at_lengths()
        cells = [plus_minus(mean(losses[length]), spread(losses[length])) for length in lengths]
        rows.append([tuned.label, *cells, str(len(tuned.runs))])
    if matched:
        there = {
            length: plus_minus(tuned.mean_of("loss"), tuned.spread_of("loss")) for length, tuned in matched.items()
        }
        seeds = min(len(tuned.runs) for tuned in matched.values())
        rows.append(["recommended, trained at that length", *(there.get(length, "") for length in lengths), str(seeds)])
    return markdown_table(["normaliser", *map(str, lengths), "seeds"], rows)


# the comparisons at rows of 128, and whom FLASH-Quad is compared with there
SIZES_OF_ROWS_OF_128 = ("comparison-3M", "confirmation-11M", "confirmation-23M")
OTHERS = ("transformer-own-init", "transformer-tricks", "transformer", "earlier", "flash")


def differences_table(records: Records) -> str:
    """Give the loss of FLASH-Quad less that of the others at each size: mean and spread over the seeds of both."""
    sizes = [
        {tuned.runs[0].contestant: tuned for tuned in summarize(records, STUDIES[study](records))}
        for study in SIZES_OF_ROWS_OF_128
    ]
    sizes = [size for size in sizes if "flash-quad" in size]
    parameters = [size["flash-quad"].records[0]["parameters"] / 1e6 for size in sizes]
    rows = []
    for name in OTHERS:
        contestant = CONTESTANTS[name]
        cells = [_difference(size["flash-quad"], size[name]) if name in size else "" for size in sizes]
        rows.append([f"{contestant.title}, {optimizer(name)}", *cells])
    header = [f"{number:.1f} M parameters" for number in parameters]
    return markdown_table(["compared with", *header], rows)


def _difference(tuned: Tuned, other: Tuned) -> str:
    pairs = differences(tuned, other)
    shown, deviation = f"{mean(pairs):+.3f}", spread(pairs)
    return f"{shown}, one seed" if deviation is None else f"{shown} ± {deviation:.3f}, {len(pairs)} seeds"


def test_table(records: Records, study: str) -> str:
    """Give loss and accuracy on the text that nothing was chosen by, of the runs that were measured there."""
    # the best rates of the validation text, whether or not another one is better here
    best = {run for tuned in summarize(records, STUDIES[study](records)) for run in tuned.runs}
    measured = {run: records[run] | records[run]["test"] for run in best if "test" in records[run]}
    summaries = summarize(measured, [run for run in STUDIES[study](records) if run in measured])
    first = next((tuned for tuned in summaries if tuned.runs[0].contestant == "flash-quad"), None)
    rows = [
        [
            tuned.label,
            plus_minus(tuned.mean_of("loss"), tuned.spread_of("loss")),
            "" if first is None or tuned is first else _difference(first, tuned),
            plus_minus(tuned.mean_of("accuracy"), tuned.spread_of("accuracy"), digits=2, factor=100),
            str(len(tuned.runs)),
        ]
        for tuned in summaries
    ]
    return markdown_table(["model", "loss (nats)", "FLASH-Quad's less this", "accuracy (%)", "seeds"], rows)


def documents_table(records: Records, study: str) -> str:
    """Give the loss of FLASH-Quad less that of the others, and the interval in which resampled documents put it."""
    best = {tuned.runs[0].contestant: tuned for tuned in summarize(records, STUDIES[study](records))}
    scored = {
        name: {run.seed: records[run]["documents"] for run in tuned.runs if "documents" in records[run]}
        for name, tuned in best.items()
    }
    rows = []
    for name in OTHERS:
        ours, theirs = scored.get("flash-quad", {}), scored.get(name, {})
        if seeds := sorted(ours.keys() & theirs.keys()):
            cells = []
            for text in ("validation", "test"):
                apart, low, high = difference(*([side[seed][text] for seed in seeds] for side in (ours, theirs)))
                cells.append(f"{apart:+.3f} ({low:+.3f} to {high:+.3f})")
            rows.append([f"{CONTESTANTS[name].title}, {optimizer(name)}", *cells, str(len(seeds))])
    return markdown_table(["compared with", "validation text", "test text", "seeds"], rows)


def warm_up_table(records: Records) -> str:
    """Give the losses, a seed each, with the warm-up of all studies and with the longer one."""
    rates: dict[Run, list[Run]] = {}
    for run in STUDIES["warm-up-3M"](records):
        rates.setdefault(replace(run, seed=0), []).append(run)
    rows = []
    for first, runs in rates.items():
        usual, longer = (
            ", ".join(f"{records[run]['loss']:.3f}" for run in found if run in records)
            for found in ([replace(run, training=()) for run in runs], runs)
        )
        if longer:
            name = first.contestant
            rows.append([CONTESTANTS[name].title, optimizer(name), f"{first.learning_rate:g}", usual, longer])
    return markdown_table(["model", "optimizer", "rate", "6 % warm-up", "20 % warm-up"], rows)


def optimizer(contestant: str) -> str:
    """Name what the contestant is trained by."""
    return "Muon" if CONTESTANTS[contestant].muon else "AdamW"


def differences(tuned: Tuned, other: Tuned) -> list[float]:
    """List the differences in loss, a seed that both have each; equal seeds saw equal batches."""
    losses = {run.seed: record["loss"] for run, record in zip(other.runs, other.records, strict=True)}
    return [
        record["loss"] - losses[run.seed]
        for run, record in zip(tuned.runs, tuned.records, strict=True)
        if run.seed in losses
    ]


def describe(run: Run) -> str:
    """Name a variant by what it changes."""
    shown = (
        (name, f"{value:.3g}" if isinstance(value, float) else value) for name, value in (*run.settings, *run.training)
    )
    changes = [f"`{name}={value}`" for name, value in shown]
    title = CONTESTANTS[run.contestant].title
    return ", ".join(changes if changes and run.contestant == "flash-quad" else [title, *changes])


def _of(study: str, write: Callable[[Records, str], str]) -> Callable[[Records], str]:
    return lambda records: write(records, study)


TABLES: dict[str, Callable[[Records], str]] = {
    "comparison-3M": _of("comparison-3M", comparison_table),
    "rates-3M": _of("comparison-3M", sweep_table),
    "differences": differences_table,
    "test-3M": _of("comparison-3M", test_table),
    "documents-3M": _of("comparison-3M", documents_table),
    "longer-3M": _of("longer-3M", comparison_table),
    "decay-3M": _of("decay-3M", variants_of),
    "warm-up-3M": warm_up_table,
    "confirmation-11M": _of("confirmation-11M", comparison_table),
    "rates-11M": _of("confirmation-11M", sweep_table),
    "confirmation-23M": _of("confirmation-23M", comparison_table),
    "confirmation-512": _of("confirmation-512", comparison_table),
    "confirmation-2048": _of("confirmation-2048", comparison_table),
    "rates-2048": _of("confirmation-2048", sweep_table),
    "settings-2048": _of("settings-2048", variants_of),
    "four-rows-2048": _of("four-rows-2048", comparison_table),
    "outer-norms": _of("outer-norms", variants_of),
    "settings": _of("settings", variants_of),
    "training": _of("training", variants_of),
    "tricks": _of("tricks", variants_of),
    "lengths": lengths_table,
}
