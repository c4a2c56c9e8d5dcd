import itertools
import json
import warnings
from types import SimpleNamespace

import pytest
from matplotlib import legend
from PIL import Image

from flash import FLASHQuadConfig, FLASHQuadForMaskedLM
from flash.training.report import draw_curves, write_model_card

LOG = [
    {"step": 2, "loss": 5.0, "mlm_acc": 0.1, "learning_rate": 0.1, "tokens_per_second": 10.0},
    {"step": 3, "eval_loss": 4.5, "eval_mlm_acc": 0.2, "eval_perplexity": 90.0},
    {"step": 4, "loss": 4.0, "mlm_acc": 0.25, "learning_rate": 0.1, "tokens_per_second": 10.0},
    {"step": 5, "eval_loss": 3.5, "eval_mlm_acc": 0.3, "eval_perplexity": 33.1},
    {"step": 5, "train_loss": 4.2, "train_runtime": 1.0},
]
MANIFEST = {"counts": {"documents": 3}, "inputs": [{"path": "今天.txt"}]}


@pytest.fixture
def write_card(tmp_path):
    def write(**changes):
        model = FLASHQuadForMaskedLM(
            FLASHQuadConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, query_key_dim=8)
        )
        settings = {
            "model": model,
            "command": "flashquad pretrain --recipe demo",
            "manifest": MANIFEST,
            "log_history": LOG,
            "validation": LOG[3],
            "steps": 5,
            "model_step": 5,
            "tokens_seen": 12_345,
            "train_rows": 1000,
            "validation_rows": 20,
        }
        write_model_card(tmp_path, **(settings | changes))
        return (tmp_path / "README.md").read_text(encoding="utf-8"), model

    return write


def colours(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return {tuple(colour) for _, colour in image.convert("RGB").getcolors(maxcolors=1 << 24)}


BLUE, ORANGE = (31, 119, 180), (255, 127, 14)  # the first two lines of a matplotlib panel


def test_curves_are_a_picture_of_training_and_validation(tmp_path):
    draw_curves(LOG, tmp_path / "curves.png")
    assert {BLUE, ORANGE} <= colours(tmp_path / "curves.png")


def test_without_validation_only_training_is_drawn(tmp_path):
    draw_curves([entry for entry in LOG if "eval_loss" not in entry], tmp_path / "curves.png")
    shown = colours(tmp_path / "curves.png")
    assert BLUE in shown
    assert ORANGE not in shown


def test_a_busy_machine_gives_no_warning_of_the_legend(tmp_path, monkeypatch):
    monkeypatch.setattr(legend, "time", SimpleNamespace(perf_counter=itertools.count(step=2).__next__))
    with warnings.catch_warnings(action="error"):
        draw_curves(LOG, tmp_path / "curves.png")


def test_a_run_that_logged_nothing_leaves_empty_axes(tmp_path):
    draw_curves([], tmp_path / "curves.png")
    assert not {BLUE, ORANGE} & colours(tmp_path / "curves.png")


def test_the_card_tells_command_settings_steps_tokens_and_data(write_card):
    card, model = write_card()
    assert "```bash\nflashquad pretrain --recipe demo\n```" in card
    assert "5 steps, 12,345 tokens" in card
    assert f"{sum(p.numel() for p in model.parameters()):,} parameters" in card
    assert "curves.png" in card
    blocks = [json.loads(part.split("```")[0]) for part in card.split("```json\n")[1:]]
    assert blocks == [{"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "query_key_dim": 8}, MANIFEST]
    assert "1,000 rows were trained on" in card


def test_the_card_gives_the_last_figures(write_card):
    card, _ = write_card()
    assert "| training (last 2 steps) | 4.0000 | 0.2500 | |" in card
    assert "| validation (20 rows held out) | 3.5000 | 0.3000 | 33.1 |" in card


def test_the_card_of_the_best_model_gives_its_step_and_figures(write_card):
    card, _ = write_card(validation=LOG[1], model_step=3)
    assert "5 steps, 12,345 tokens. The weights are those of step 3, the best in validation." in card
    assert "| validation (20 rows held out) | 4.5000 | 0.2000 | 90.0 |" in card


def test_the_card_begins_with_the_tags_of_the_hub(write_card):
    card, _ = write_card()
    _, tags, _ = card.split("---\n", 2)
    assert "pipeline_tag: fill-mask" in tags
    assert "library_name: transformers" in tags


def test_a_folder_without_manifest_is_said(write_card):
    card, _ = write_card(manifest=None)
    assert "no manifest. 1,000 rows were trained on" in card


def test_a_long_list_of_input_files_is_cut(write_card):
    inputs = [{"path": f"{number}.txt"} for number in range(30)]
    card, _ = write_card(manifest={"inputs": inputs})
    assert "19.txt" in card
    assert "20.txt" not in card
    assert "... and 10 more" in card


def test_without_figures_there_is_no_row_of_them(write_card):
    card, _ = write_card(log_history=[], validation={}, steps=0, model_step=0)
    assert "0 steps" in card
    assert "| training" not in card
    assert "| validation" not in card
