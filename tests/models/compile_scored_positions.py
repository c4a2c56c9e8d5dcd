"""Compile a model that computes a fixed number of logits; print graphs, loss differences and a refusal as JSON.

A program of its own: the shape checks that pytest puts into the library cannot be traced.
"""

import json

import torch
from torch._dynamo.testing import CompileCounterWithBackend

from flash import FLASHQuadConfig, FLASHQuadForMaskedLM

COUNT = 4


def main() -> None:
    """Run one graph on batches with other numbers of labels."""
    torch.manual_seed(0)
    config = FLASHQuadConfig.preset("tiny", vocab_size=20, hidden_size=16, num_hidden_layers=1, query_key_dim=8)
    model = FLASHQuadForMaskedLM(config)
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    ids = torch.randint(1, 20, (2, 7))
    mask = torch.ones_like(ids)
    differences = []
    for scored in range(COUNT + 1):
        labels = torch.where(torch.arange(14).view(2, 7) < scored, ids, -100)
        loss = compiled(ids, attention_mask=mask, labels=labels, scored_logits_only=COUNT).loss
        differences.append(abs(loss.item() - model(ids, attention_mask=mask, labels=labels).loss.item()))
    try:
        compiled(ids, attention_mask=mask, labels=ids.clone(), scored_logits_only=COUNT)
        refusal = ""
    except RuntimeError as error:
        refusal = str(error)
    print(json.dumps({"graphs": counter.frame_count, "differences": differences, "refusal": refusal}))


if __name__ == "__main__":
    main()
