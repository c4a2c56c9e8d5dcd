"""Training tokens/s of FLASH-Quad, 12 layers x 768 at length 512: scored positions only against full logits."""

import argparse
from collections.abc import Callable

import torch

from flash import FLASHQuadConfig, FLASHQuadForMaskedLM

from harness import machine, side_by_side, table


def training_step(
    model: FLASHQuadForMaskedLM, batch: dict[str, torch.Tensor], *, bf16: bool, scored_logits_only: bool
) -> Callable[[], None]:
    """Make a function that does one whole step: forward, backward, AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = model(**batch, scored_logits_only=scored_logits_only).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=2, help="rows in a batch")
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)

    config = FLASHQuadConfig.preset("small")
    model = FLASHQuadForMaskedLM(config).train()
    shape = (arguments.rows, arguments.length)
    input_ids = torch.randint(200, config.vocab_size, shape)
    labels = torch.where(torch.rand(shape) < 0.15, input_ids, -100)
    batch = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids), "labels": labels}
    contestants = {
        f"{dtype}, {logits}": training_step(
            model, batch, bf16=dtype == "bf16", scored_logits_only=logits == "scored positions"
        )
        for dtype in ("fp32", "bf16")
        for logits in ("full logits", "scored positions")
    }
    seconds = side_by_side(contestants, rounds=arguments.rounds)
    print(f"{machine()}; {arguments.rows} rows of {arguments.length}, 15 % scored\n")
    print(table(seconds, tokens=shape[0] * shape[1], baseline="fp32, full logits"))


if __name__ == "__main__":
    main()
