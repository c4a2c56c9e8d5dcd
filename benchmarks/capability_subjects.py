"""The tiny models that the capabilities are tried on, and what each of them takes."""

from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

import flash
from flash.models.presets import RECOMMENDED
from flash.models.registration import AUTO_CLASSES, FAMILIES

VOCABULARY, WIDTH, LAYERS, LABELS = 32, 16, 2, 3
ROWS, CHOICES, LENGTH = 2, 3, 10  # the length is two whole chunks of FLASH and a short one
CHUNK = 4
LONGEST = 16
PAD = 0

_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "max_position_embeddings": LONGEST,
}
# the settings that train well, so that all optional parts of a layer are there
_GATED = RECOMMENDED | {"query_key_dim": 8, "classifier_dropout": 0.0}
_SETTINGS: dict[str, dict[str, Any]] = {
    "FLASHQuad": _GATED,
    "FLASH": _GATED | {"chunk_size": CHUNK},
    # weights large enough that every term counts
    "GAUAlpha": {
        "attention_key_size": 8,
        "intermediate_size": 2 * WIDTH,
        "initializer_range": 0.3,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "classifier_dropout": 0.0,
    },
}


@dataclass(frozen=True)
class Subject:
    """One class of models: ``FLASHQuad`` and ``ForMaskedLM``, say."""

    family: str
    ending: str

    @property
    def name(self) -> str:
        """Name of the class."""
        return self.family + self.ending

    @property
    def model_class(self) -> type[PreTrainedModel]:
        """The class."""
        return getattr(flash, self.name)

    @property
    def auto_class(self) -> Any:
        """The class of transformers that builds it from a folder."""
        return next(getattr(transformers, auto) for auto, ending in AUTO_CLASSES.items() if ending == self.ending)

    @property
    def generates(self) -> bool:
        """Whether it is a causal language model."""
        return self.ending == "ForCausalLM"

    @property
    def answers_per_token(self) -> bool:
        """Whether there is an output for each token, and not one a row."""
        return self.ending not in ("ForSequenceClassification", "ForMultipleChoice")

    def config(self) -> Any:
        """Make the tiny configuration."""
        return getattr(flash, f"{self.family}Config")(**_SIZES, **_SETTINGS[self.family], num_labels=LABELS)

    def build(self) -> PreTrainedModel:
        """Build the model in evaluation mode, the same weights each time."""
        torch.manual_seed(0)
        return self.model_class(self.config()).eval()

    def inputs(self, length: int = LENGTH, *, rows: int = ROWS, seed: int = 0) -> dict[str, Tensor]:
        """Draw a batch without padding."""
        shape = (rows, CHOICES, length) if self.ending == "ForMultipleChoice" else (rows, length)
        ids = torch.randint(PAD + 1, VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def labels(self, input_ids: Tensor) -> dict[str, Tensor]:
        """Return what the loss of the class needs; nothing where it has none."""
        rows = torch.arange(input_ids.shape[0])
        return {
            "Model": {},
            "ForMaskedLM": {"labels": input_ids},
            "ForCausalLM": {"labels": input_ids},
            "ForSequenceClassification": {"labels": rows % LABELS},
            "ForTokenClassification": {"labels": input_ids % LABELS},
            "ForQuestionAnswering": {"start_positions": rows, "end_positions": rows + 2},
            "ForMultipleChoice": {"labels": rows % CHOICES},
        }[self.ending]


def subjects() -> list[Subject]:
    """List all classes, family by family."""
    return [
        Subject(family, ending)
        for family in FAMILIES
        for ending in AUTO_CLASSES.values()
        if hasattr(flash, family + ending)
    ]


def answer(outputs: ModelOutput) -> Tensor:
    """Take what the model was run for: hidden states, logits, or start and end logits side by side."""
    if "start_logits" in outputs:
        return torch.stack((outputs.start_logits, outputs.end_logits), dim=-1)
    return outputs.logits if "logits" in outputs else outputs.last_hidden_state
