"""Plain sentences about a model, each by a stated threshold."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flash.inspection.layers import LayerMeasures, StackMeasures
from flash.inspection.lengths import LengthMeasures

SMALL_UPDATE = 0.01
UNIFORM_EFFECTIVE_KEYS = 0.95
DOMINANT_SELF_SHARE = 0.9
MANY_EMPTY_ROWS = 0.1
LOSS_RISE_NATS = 0.1
LOSS_RISE_ERRORS = 2.0
COLLAPSED_PREDICTIONS = 1 / 3
PADDING_KL_NATS = 1e-3


def find_warnings(stack: StackMeasures, lengths: Sequence[LengthMeasures]) -> list[str]:
    """List what exceeds a threshold; each sentence says which. None says nothing about quality."""
    return [*_about_layers(stack.layers), *_about_lengths(lengths)]


def _about_layers(layers: Sequence[LayerMeasures]) -> list[str]:
    checks: list[tuple[Callable[[LayerMeasures], bool], str]] = [
        (lambda layer: not layer.finite, "give numbers that are not finite"),
        (
            lambda layer: _is(layer.update.mean, below=SMALL_UPDATE),
            f"change the stream by less than {SMALL_UPDATE:.0%} (mean |output - input| / |input|)",
        ),
        (
            lambda layer: _is(layer.effective_keys.mean, above=UNIFORM_EFFECTIVE_KEYS),
            f"attend almost uniformly (mean effective keys above {UNIFORM_EFFECTIVE_KEYS:.0%} of the visible ones)",
        ),
        (
            lambda layer: _is(layer.self_share.mean, above=DOMINANT_SELF_SHARE),
            f"attend to little but the token itself (mean share above {DOMINANT_SELF_SHARE:.0%})",
        ),
        (
            lambda layer: layer.empty_share > MANY_EMPTY_ROWS,
            f"leave more than {MANY_EMPTY_ROWS:.0%} of the tokens without any attention weight",
        ),
    ]
    found = []
    for holds, sentence in checks:
        numbers = [layer.layer for layer in layers if holds(layer)]
        if numbers:
            found.append(f"{_name_layers(numbers)} of {len(layers)}: {sentence}")
    return found


def _about_lengths(lengths: Sequence[LengthMeasures]) -> list[str]:
    found = []
    for measures in lengths:
        if measures.setting.startswith("padded"):
            if _is(measures.kl_divergence, above=PADDING_KL_NATS):
                side = measures.setting.removeprefix("padded_")
                found.append(
                    f"padding on the {side} changes predictions (KL divergence {measures.kl_divergence:.2g} nats, "
                    f"above {PADDING_KL_NATS:g})"
                )
            continue
        change, error = measures.loss_change, measures.loss_change_error
        if change is not None and error is not None and change > max(LOSS_RISE_NATS, LOSS_RISE_ERRORS * error):
            found.append(
                f"inside {measures.length:.0f} tokens the loss is {change:.2f} nats higher than alone (above "
                f"{LOSS_RISE_NATS:g} and {LOSS_RISE_ERRORS:g} standard errors)"
            )
        if measures.distinct_predictions < COLLAPSED_PREDICTIONS * measures.distinct_alone:
            found.append(
                f"inside {measures.length:.0f} tokens the predictions have fewer than {COLLAPSED_PREDICTIONS:.0%} of "
                "the different tokens that they have alone"
            )
    return found


def _is(value: float | None, *, below: float = float("inf"), above: float = float("-inf")) -> bool:
    return value is not None and above < value < below


def _name_layers(numbers: Sequence[int]) -> str:
    """Write ``layers 1, 3 to 5``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    shown = ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
    return f"{'layer' if len(numbers) == 1 else 'layers'} {shown}"
