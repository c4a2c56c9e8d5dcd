"""Compile a model of each family and run it at many lengths; print a line for each: how many graphs were made.

A program of its own: the shape checks that pytest puts into the library cannot be traced.
"""

import torch
from torch._dynamo.testing import CompileCounterWithBackend

from flash import FLASHConfig, FLASHForMaskedLM, FLASHQuadConfig, FLASHQuadForMaskedLM

SIZES = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 1, "query_key_dim": 8, "max_position_embeddings": 16}
# whole chunks, short ones, fewer tokens than a chunk; up to and beyond the trained length
LENGTHS = (4, 8, 9, 3, 12, 13, 16, 20, 23, 24, 31, 40)


def graphs(model: torch.nn.Module) -> int:
    """Count the graphs that all lengths together need."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    for length in LENGTHS:
        ids = torch.randint(1, 20, (2, length))
        compiled(ids, labels=ids)
    return counter.frame_count


if __name__ == "__main__":
    print("flash-quad", graphs(FLASHQuadForMaskedLM(FLASHQuadConfig(**SIZES, pad_token_id=None))))
    print("flash", graphs(FLASHForMaskedLM(FLASHConfig(**SIZES, pad_token_id=None, chunk_size=4))))
