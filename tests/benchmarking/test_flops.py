"""The formulas are what PyTorch counts, on plain products: our reference, and eager attention of the Transformers."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from flash.benchmarking.contestants import Contestant
from flash.benchmarking.families import FAMILIES
from flash.benchmarking.flops import step_flops
from flash.benchmarking.sizes import Size
from flash.benchmarking.steps import Shape, random_batch

SIZE = Size(width=64, units=2, query_key_dim=16)


def counted(contestant, mode, shape):
    torch.manual_seed(0)
    model = contestant.build(SIZE, shape.length)
    if contestant.kind.gated:
        model.config.attention_backend = "reference"  # whose products the counter sees
    else:
        model.set_attn_implementation("eager")
    batch = random_batch(shape, torch.device("cpu"))
    with FlopCounterMode(display=False) as counter:
        if mode == "training":
            options = {"scored_logits_only": not contestant.all_logits} if contestant.kind.gated else {}
            model.train()(**batch, **options).loss.backward()
        else:
            with torch.no_grad():
                model.base_model.eval()(batch["input_ids"])
    return counter.get_total_flops()


# 520: a chunk more than two, filled up; and beyond what the earlier code has Toeplitz weights for
@pytest.mark.parametrize("shape", [Shape(3, 40), Shape(2, 520)], ids=str)
@pytest.mark.parametrize("mode", ["training", "inference"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_formula_is_the_count(family, mode, shape):
    contestant = Contestant(family)
    formula = step_flops(contestant, SIZE, mode=mode, rows=shape.rows, length=shape.length, scored=shape.scored)
    assert formula == counted(contestant, mode, shape)


def test_full_logits_are_counted_at_all_positions():
    shape = Shape(2, 20)
    contestant = Contestant("flash-quad", full_logits=True)
    formula = step_flops(contestant, SIZE, mode="training", rows=2, length=20, scored=shape.scored)
    assert formula == counted(contestant, "training", shape)
