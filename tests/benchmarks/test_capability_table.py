"""The page of capabilities says what a check found, and a check finds what is wrong."""

import tempfile
from pathlib import Path

import pytest
import torch

import flash
from flash.errors import InputError

from capability_checks import CHECKS, inputs_embeds, left_padding, loss
from capability_expectations import NotApplicable, WrongResultError
from capability_subjects import Subject, subjects
from capability_table import Notes, Outcome, family_table, first_line, render, tried
from generated_page import DOCS

SUBJECT = Subject("FLASH", "ForMaskedLM")


def raising(error: Exception):
    def check(subject: Subject) -> None:
        raise error

    return check


def test_every_public_model_class_is_tried():
    assert {subject.name for subject in subjects()} == {n for n in flash.__all__ if not n.endswith("Config")}


def test_an_outcome_is_what_the_check_raised():
    assert tried(lambda subject: None, SUBJECT) == Outcome("yes")
    assert tried(raising(NotApplicable("no loss")), SUBJECT) == Outcome("-", "no loss")
    assert tried(raising(InputError("no packing")), SUBJECT) == Outcome("-", "no packing")
    assert tried(raising(RuntimeError("broken\nat length")), SUBJECT) == Outcome("no", "RuntimeError: broken")


def test_a_footnote_is_the_same_in_every_run():
    folder = Path(tempfile.mkdtemp())
    error = RuntimeError(f"\n cannot | read {folder}/model at 0x7f12ab\nmore")
    assert first_line(error) == "cannot \\| read <folder> at 0x..."
    assert len(first_line(RuntimeError("long " * 100))) <= 240
    assert first_line(RuntimeError("")) == "(no message)"


def test_cells_that_say_the_same_share_a_footnote():
    notes = Notes()
    found = {label: Outcome("yes") for label in CHECKS}
    first = next(iter(CHECKS))
    outcomes = {
        "FLASHModel": found | {first: Outcome("-", "no loss")},
        "FLASHForMaskedLM": found,
        "FLASHForCausalLM": found | {first: Outcome("-", "no loss")},
    }
    lines = family_table("FLASH", outcomes, notes).splitlines()
    assert lines[0] == "| FLASH | Model | MaskedLM | CausalLM |"
    assert lines[2] == f"| {first} | - [^1] | yes | - [^1] |"
    assert notes.texts == ["no loss"]


def test_the_page_counts_its_cells():
    page = render({subject.name: {label: Outcome("yes") for label in CHECKS} for subject in subjects()})
    assert f"20 classes; {20 * len(CHECKS)} cells *yes*, 0 *-*, 0 *no*." in page


def test_the_page_in_docs_has_a_line_for_every_check():
    lines = (DOCS / "capabilities.md").read_text(encoding="utf-8").splitlines()
    for label in CHECKS:
        assert sum(line.startswith(f"| {label} |") for line in lines) == 3, label


def test_a_check_passes_on_a_model_that_is_right():
    for check in (loss, inputs_embeds, left_padding):
        check(SUBJECT)


def test_padding_that_counts_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("flash.models.encoder.real_tokens", lambda *args, **kwargs: None)
    with pytest.raises(WrongResultError, match="outputs of real tokens"):
        left_padding(SUBJECT)


def test_embeddings_that_are_not_used_are_found(monkeypatch: pytest.MonkeyPatch):
    model = SUBJECT.build()
    monkeypatch.setattr(Subject, "build", lambda self: model)
    monkeypatch.setattr(model, "get_input_embeddings", lambda: torch.nn.Embedding(32, 16))
    with pytest.raises(WrongResultError, match="outputs of inputs_embeds"):
        inputs_embeds(SUBJECT)


def test_a_parameter_without_a_gradient_is_found(monkeypatch: pytest.MonkeyPatch):
    model = SUBJECT.build()
    model.register_parameter("idle", torch.nn.Parameter(torch.zeros(1)))
    monkeypatch.setattr(Subject, "build", lambda self: model)
    with pytest.raises(WrongResultError, match="no finite gradient for idle"):
        loss(SUBJECT)
