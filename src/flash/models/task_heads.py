"""Heads that turn hidden states into task scores."""

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from flash.layers.norms import build_norm


class MaskedLMHead(nn.Module):
    """Score the vocabulary: dense, activation, norm, decoder.

    The decoder's weight is tied to the word embeddings and its bias to ``bias``, as in the published checkpoints; with
    ``tie_word_embeddings=False`` the decoder owns both and ``bias`` does not exist, so that every parameter trains.
    """

    def __init__(
        self,
        hidden_size: int,
        vocab_size: int,
        *,
        activation: str,
        norm_type: str,
        eps: float,
        tied: bool,
    ) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.activation = ACT2FN[activation]
        self.norm = build_norm(norm_type, hidden_size, eps)
        self.decoder = nn.Linear(hidden_size, vocab_size)
        if tied:
            self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Map ``(..., hidden_size)`` to logits ``(..., vocab_size)``."""
        return self.decoder(self.norm(self.activation(self.dense(hidden_states))))


class ClassificationHead(nn.Module):
    """Score the labels from one vector a sequence: dropout, then a linear map."""

    def __init__(self, hidden_size: int, num_labels: int, *, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.out_proj = nn.Linear(hidden_size, num_labels)

    def forward(self, pooled: Tensor) -> Tensor:
        """Map ``(batch_size, hidden_size)`` to logits ``(batch_size, num_labels)``."""
        return self.out_proj(self.dropout(pooled))
