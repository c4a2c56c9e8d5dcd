"""Recommended settings of new models by size; what each is worth was measured, see docs/quality.md."""

from typing import Any

# what the plain constructor, which keeps the earlier meaning, does otherwise
RECOMMENDED: dict[str, Any] = {
    "initialization": "fan_in",
    "score_scale": "inverse_sqrt_dim",
    "attention_norm": True,
    "final_norm": True,
    "norm_type": "scale_norm",
    "token_shift": 0.25,
    "classifier_pooling": "mean",
}

# tokens in a row of the runs that chose these settings
TUNED_LENGTH = 128

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 256, "num_hidden_layers": 12, "query_key_dim": 64},
    "small": {"hidden_size": 768, "num_hidden_layers": 12, "query_key_dim": 128},
    "base": {"hidden_size": 768, "num_hidden_layers": 24, "query_key_dim": 128},
    "large": {"hidden_size": 1024, "num_hidden_layers": 48, "query_key_dim": 128},
}
