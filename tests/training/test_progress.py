import pytest
from transformers import TrainerControl, TrainerState

from flash.training.progress import TokenProgressCallback

TRAINING = {"loss": 4.25, "mlm_acc": 0.125, "learning_rate": 1e-3, "tokens_per_second": 12_345.6}
VALIDATION = {"eval_loss": 4.0, "eval_mlm_acc": 0.25, "eval_perplexity": 54.6}


@pytest.fixture
def state():
    return TrainerState(global_step=20, max_steps=100, is_world_process_zero=True)


def begin(state, *, show_bar):
    callback = TokenProgressCallback(show_bar=show_bar)
    callback.on_train_begin(None, state, TrainerControl())
    return callback


def log(callback, state, logs):
    callback.on_log(None, state, TrainerControl(), logs=logs)


def test_a_log_prints_step_loss_accuracy_rate_tokens_a_second_and_time_left(state, capsys):
    callback = begin(state, show_bar=False)
    state.global_step = 40
    log(callback, state, TRAINING)
    shown = capsys.readouterr().err
    assert shown.startswith("step  40/100  loss 4.2500  mlm_acc 0.1250  lr 1.00e-03  12,346 tokens/s  0:00:0")
    assert shown.endswith(" left\n")


def test_a_validation_prints_its_figures(state, capsys):
    log(begin(state, show_bar=False), state, VALIDATION)
    line = "step  20/100  loss 4.0000  mlm_acc 0.2500  perplexity 54.6  (validation)\n"
    assert capsys.readouterr().err == line


def test_other_logs_print_nothing(state, capsys):
    log(begin(state, show_bar=False), state, {"train_runtime": 1.0})
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar_that_goes_on_where_the_run_does(state, capsys):
    callback = begin(state, show_bar=True)
    assert "20/100" in capsys.readouterr().err
    state.global_step = 21
    callback.on_step_end(None, state, TrainerControl())
    log(callback, state, TRAINING)
    callback.on_train_end(None, state, TrainerControl())
    shown = capsys.readouterr().err
    assert "21/100" in shown
    assert "12,346 tokens/s, loss 4.250, mlm_acc 0.125" in shown


def test_other_ranks_print_nothing(state, capsys):
    state.is_world_process_zero = False
    callback = begin(state, show_bar=True)
    callback.on_step_end(None, state, TrainerControl())
    log(callback, state, TRAINING)
    callback.on_train_end(None, state, TrainerControl())
    assert capsys.readouterr().err == ""
