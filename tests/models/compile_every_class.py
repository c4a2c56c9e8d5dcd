"""Compile the classes whose names are given into one graph each, run and train them; print a line for each.

A program of its own: the shape checks that pytest puts into the library cannot be traced.
"""

import sys

import torch

from every_class import CLASSES, build, example, scores


def difference(family: str, ending: str) -> float:
    """The largest error of the compiled outputs; the compiled model must also train."""
    model, case = build(family, ending), example(ending)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    found = scores(compiled(**case.inputs))
    # the backend that a graph may also have, and that computes the same at padding
    model.config.attention_backend = "reference"
    error = (found - scores(model(**case.inputs))).abs().max().item()
    model.config.attention_backend = "auto"
    if case.labels:
        model.train()
        compiled(**case.inputs, **case.labels).loss.backward()
        assert model.get_input_embeddings().weight.grad.abs().max() > 0
    return error


if __name__ == "__main__":
    for family, ending in [names for names in CLASSES if "".join(names) in sys.argv[1:]]:
        print(family + ending, difference(family, ending), flush=True)
