"""One tiny model of every public class, and a batch that it takes with labels."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

import flash

from helpers import CURED, VOCABULARY, random_tokens

SIZES = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2, "max_position_embeddings": 16}
GATED = SIZES | CURED | {"query_key_dim": 8}
FAMILIES = {
    "FLASHQuad": GATED,
    "FLASH": GATED | {"chunk_size": 4},
    "GAUAlpha": SIZES | {"intermediate_size": 32, "attention_key_size": 8},
}
ENDINGS = (
    "Model",
    "ForMaskedLM",
    "ForCausalLM",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMultipleChoice",
)
CLASSES = [
    (family, ending)
    for family in FAMILIES
    for ending in ENDINGS
    if not (family == "GAUAlpha" and ending == "ForCausalLM")
]
for_every_class = pytest.mark.parametrize(("family", "ending"), CLASSES, ids=[f + e for f, e in CLASSES])
for_every_head = pytest.mark.parametrize(
    ("family", "ending"),
    [(family, ending) for family, ending in CLASSES if ending != "Model"],
    ids=[family + ending for family, ending in CLASSES if ending != "Model"],
)


@dataclass
class Example:
    """Inputs of a forward pass, and the labels that give a loss."""

    inputs: dict[str, Any]
    labels: dict[str, Tensor] = field(default_factory=dict)


def build(family: str, ending: str, **changes: Any) -> PreTrainedModel:
    """The tiny model of a class in evaluation mode; the same weights each time."""
    torch.manual_seed(0)
    model_class = getattr(flash, family + ending)
    settings = FAMILIES[family] | ({} if ending == "ForCausalLM" else {"num_labels": 3}) | changes
    return model_class(model_class.config_class(**settings)).eval()


def example(ending: str) -> Example:
    """Three rows of nine tokens, one padded on the right and one on the left."""
    shape = (3, 2, 9) if ending == "ForMultipleChoice" else (3, 9)
    input_ids = random_tokens(*shape)
    input_ids[0, ..., 7:], input_ids[1, ..., :2] = 0, 0
    inputs = {
        "input_ids": input_ids,
        "attention_mask": (input_ids != 0).long(),
        "token_type_ids": random_tokens(*shape, seed=1) % 2,
    }
    tokens = input_ids.masked_fill(input_ids == 0, -100)
    labels = {
        "Model": {},
        "ForMaskedLM": {"labels": tokens},
        "ForCausalLM": {"labels": tokens},
        "ForSequenceClassification": {"labels": torch.tensor([2, 0, 1])},
        "ForTokenClassification": {"labels": torch.where(tokens >= 0, tokens % 3, -100)},
        "ForQuestionAnswering": {
            "start_positions": torch.tensor([1, 2, 3]),
            "end_positions": torch.tensor([4, 2, 8]),
        },
        "ForMultipleChoice": {"labels": torch.tensor([1, 0, 1])},
    }[ending]
    if ending == "ForCausalLM":
        inputs["use_cache"] = False
    return Example(inputs, labels)


def scores(outputs: Any) -> Tensor:
    """What the class computes, in one tensor."""
    for name in ("logits", "start_logits", "last_hidden_state"):
        if name in outputs:
            return outputs[name]
    raise KeyError(sorted(outputs))
