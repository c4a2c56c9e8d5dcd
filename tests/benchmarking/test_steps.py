import pytest
import torch

from flash.benchmarking.contestants import parse_contestant
from flash.benchmarking.sizes import VOCABULARY, Size
from flash.benchmarking.steps import Shape, batch_shape, make_step, random_batch

SIZE = Size(width=64, units=2, query_key_dim=16)
CPU = torch.device("cpu")


def test_batches_of_all_lengths_have_the_same_tokens_and_a_longer_row_is_one():
    assert [batch_shape(4096, n) for n in (128, 512, 4096)] == [Shape(32, 128), Shape(8, 512), Shape(1, 4096)]
    assert batch_shape(4096, 8192) == Shape(1, 8192)


def test_fifteen_percent_of_each_row_are_scored_and_none_is_padding():
    batch = random_batch(Shape(4, 100), CPU)
    scored = batch["labels"] != -100
    assert scored.sum(dim=1).tolist() == [15] * 4
    assert torch.equal(batch["labels"][scored], batch["input_ids"][scored])
    assert batch["input_ids"].min() > 0
    assert batch["input_ids"].max() < VOCABULARY


@pytest.mark.parametrize("name", ["flash-quad", "flash@bf16", "earlier", "modernbert@bf16", "modernbert-local", "bert"])
def test_a_training_step_changes_the_weights_and_inference_makes_no_gradient(name, monkeypatch):
    contestant = parse_contestant(name)
    built = []
    build = type(contestant).build
    monkeypatch.setattr(type(contestant), "build", lambda *args: built.append(build(*args)) or built[-1])
    batch = random_batch(Shape(2, 16), CPU)
    step = make_step(contestant, SIZE, "training", batch, length=16, device=CPU)
    before = built[0].get_input_embeddings().weight.detach().clone()
    step()
    assert not torch.equal(built[0].get_input_embeddings().weight, before)
    out = make_step(contestant, SIZE, "inference", batch, length=16, device=CPU)().last_hidden_state
    assert out.shape == (2, 16, SIZE.width)
    assert not out.requires_grad
