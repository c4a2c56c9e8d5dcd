"""What a run shows while it goes: tokens/s, loss, accuracy and time left."""

import sys
import time
from datetime import timedelta
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class TokenProgressCallback(TrainerCallback):
    """A line of figures at each log, over a progress bar where standard error is a terminal.

    Args:
        show_bar: Draw the bar; a log file does without.
    """

    def __init__(self, *, show_bar: bool) -> None:
        self._show_bar = show_bar
        self._bar: tqdm | None = None
        self._started = 0.0
        self._first_step = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar at the step that the run begins or goes on at."""
        self._started = time.monotonic()
        self._first_step = state.global_step
        if state.is_world_process_zero:
            self._bar = tqdm(
                total=state.max_steps,
                initial=state.global_step,
                unit="step",
                dynamic_ncols=True,
                disable=not self._show_bar,
            )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n if self._show_bar else 0)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Print one line of figures and put the newest behind the bar."""
        if self._bar is None or not logs:
            return
        if "mlm_acc" in logs:
            self._bar.set_postfix_str(
                f"{logs['tokens_per_second']:,.0f} tokens/s, loss {logs['loss']:.3f}, mlm_acc {logs['mlm_acc']:.3f}"
            )
            line = (
                f"loss {logs['loss']:.4f}  mlm_acc {logs['mlm_acc']:.4f}  lr {logs['learning_rate']:.2e}"
                f"  {logs['tokens_per_second']:,.0f} tokens/s  {self._time_left(state)} left"
            )
        elif "eval_mlm_acc" in logs:
            line = (
                f"loss {logs['eval_loss']:.4f}  mlm_acc {logs['eval_mlm_acc']:.4f}"
                f"  perplexity {logs['eval_perplexity']:.1f}  (validation)"
            )
        else:
            return
        # through tqdm, so that the bar stays below the lines
        tqdm.write(f"step {state.global_step:>{len(str(state.max_steps))}}/{state.max_steps}  {line}", file=sys.stderr)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()

    def _time_left(self, state: TrainerState) -> timedelta:
        done = max(state.global_step - self._first_step, 1)
        seconds = (time.monotonic() - self._started) / done * (state.max_steps - state.global_step)
        return timedelta(seconds=round(seconds))
