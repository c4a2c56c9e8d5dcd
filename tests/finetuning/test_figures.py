"""Figures show what can be read: no boxes for characters that no font has, ticks that do not run into each other."""

import itertools
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import legend

from flash.finetuning import figures
from flash.finetuning.figures import draw_confusion, draw_curves, font_for, shown_names


def test_names_without_a_font_give_way_to_labels_and_these_to_numbers(monkeypatch):
    monkeypatch.setattr(figures, "CHINESE_FONTS", ())
    assert shown_names(["food", "place"], ["1", "2"])[0] == ["food", "place"]
    assert shown_names(["财经", "房产"], ["101", "102"])[0] == ["101", "102"]
    assert shown_names(["财经", "房产"], ["财经", "房产"])[0] == ["0", "1"]


def test_a_font_is_taken_only_if_it_has_every_character():
    font = font_for(["café", "naïve"])
    assert font is not None
    assert Path(font.get_file()).name == "DejaVuSans.ttf"  # neither bold nor slanted
    assert font_for(["\U0010fffd"]) is None  # private use


@pytest.mark.parametrize("count", [2, 10, 60])
def test_chinese_names_are_drawn_without_a_missing_glyph(count, tmp_path):
    names = [f"类{number}" for number in range(count)]
    counts = np.eye(count, dtype=int) * 7 + 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a glyph that is missing is a warning
        draw_confusion(tmp_path / "confusion.png", counts, names, names)
        draw_confusion(tmp_path / "empty.png", 0 * counts, names, names)
    assert (tmp_path / "confusion.png").stat().st_size > 1000


@pytest.mark.parametrize(
    "curve",
    [
        [{"epoch": 1.0, "loss": 2.0}, {"epoch": 1.0, "eval_loss": 1.5, "eval_accuracy": 0.5}],
        [
            {"epoch": 0.5, "loss": 2.0},
            {"epoch": 1.0, "eval_loss": 1.5, "eval_accuracy": 0.5},
            {"epoch": 1.0, "loss": 1},
        ],
    ],
)
def test_curves_of_one_epoch_are_seen(curve, tmp_path, monkeypatch):
    drawn = []

    class Kept(figures.Figure):
        def savefig(self, *args, **kwargs):
            drawn.extend(self.axes)

    monkeypatch.setattr(figures, "Figure", Kept)
    draw_curves(tmp_path / "curves.png", "accuracy", [{"seed": 1, "curve": curve}])
    losses, scores = drawn
    assert [len(axes.lines) for axes in drawn] == [2, 1]
    for line in (*losses.lines, *scores.lines):
        # a line of one point is seen by its marker only
        assert line.get_marker() not in (None, "None", "")
        left, right = line.axes.get_xlim()
        assert left == 0
        assert all(left < epoch <= right for epoch in line.get_xdata())


def test_a_busy_machine_gives_no_warning_of_the_legend(tmp_path, monkeypatch):
    monkeypatch.setattr(legend, "time", SimpleNamespace(perf_counter=itertools.count(step=2).__next__))
    curve = [{"epoch": 1, "loss": 2.0}, {"epoch": 1, "eval_loss": 1.5, "eval_accuracy": 0.5}]
    with warnings.catch_warnings(action="error"):
        draw_curves(tmp_path / "curves.png", "accuracy", [{"seed": 1, "curve": curve}])


def test_curves_of_runs_of_any_length_are_drawn(tmp_path):
    curve = [{"epoch": 0.5, "loss": 2.0}, {"epoch": 1, "eval_loss": 1.5, "eval_accuracy": 0.5}]
    draw_curves(tmp_path / "curves.png", "accuracy", [{"seed": seed, "curve": curve[seed % 2 :]} for seed in range(12)])
    assert (tmp_path / "curves.png").stat().st_size > 1000
