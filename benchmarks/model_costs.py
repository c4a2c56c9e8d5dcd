"""Parameters and arithmetic of FLASH, FLASH-Quad and a Transformer of equal size: writes docs/costs.md.

    python benchmarks/model_costs.py           # writes the page, seconds
    python benchmarks/model_costs.py --check   # exit code 1 if the page is not what a fresh run writes

Models are built on the meta device and run there under PyTorch's operation counter, so no size needs memory. Nothing is
timed.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import ModernBertConfig, ModernBertForMaskedLM, PreTrainedModel

from flash import (
    FLASHConfig,
    FLASHForCausalLM,
    FLASHForMaskedLM,
    FLASHQuadConfig,
    FLASHQuadForCausalLM,
    FLASHQuadForMaskedLM,
)
from flash.models import presets

from generated_page import DOCS, markdown_table, versions, write_or_compare

LENGTHS = (128, 512, 2048, 8192, 32768, 65536)
VOCABULARY = 12000
CHUNK = 256
SETTINGS = presets.RECOMMENDED | {"relative_bias": "toeplitz"}


@dataclass(frozen=True)
class Size:
    """Width and depth of a model.

    Args:
        hidden_size: Model width ``d``.
        units: Number of gated attention units; a Transformer of equal size has half as many layers.
        query_key_dim: Query and key width ``s``.
    """

    hidden_size: int
    units: int
    query_key_dim: int = 128

    @property
    def inner_dim(self) -> int:
        """Gate and value width ``e``."""
        return 2 * self.hidden_size

    @property
    def transformer_inner_dim(self) -> int:
        """Width of a gated MLP with which one Transformer layer has the matrices of two units."""
        d, e, s = self.hidden_size, self.inner_dim, self.query_key_dim
        return round((2 * (3 * e * d + d * s) - 4 * d * d) / (3 * d))


SIZES = {
    name: Size(size["hidden_size"], size["num_hidden_layers"], size["query_key_dim"])
    for name, size in presets.SIZES.items()
}


def flash_quad(size: Size, *, causal: bool = False, **changes: Any) -> PreTrainedModel:
    """Build FLASH-Quad on the meta device."""
    config = FLASHQuadConfig(**_sizes(size), **(SETTINGS | changes))
    return _on_meta(FLASHQuadForCausalLM if causal else FLASHQuadForMaskedLM, config)


def flash(size: Size, *, causal: bool = False, **changes: Any) -> PreTrainedModel:
    """Build FLASH on the meta device."""
    config = FLASHConfig(**_sizes(size), chunk_size=CHUNK, **(SETTINGS | changes))
    return _on_meta(FLASHForCausalLM if causal else FLASHForMaskedLM, config)


def transformer(size: Size) -> PreTrainedModel:
    """Build a ModernBERT whose layers all see the whole text, on the meta device."""
    config = ModernBertConfig(
        vocab_size=VOCABULARY,
        hidden_size=size.hidden_size,
        num_hidden_layers=size.units // 2,
        num_attention_heads=size.hidden_size // 64,
        intermediate_size=size.transformer_inner_dim,
        global_attn_every_n_layers=1,
        max_position_embeddings=max(LENGTHS),
        pad_token_id=0,
        **dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")),
    )
    return _on_meta(ModernBertForMaskedLM, config)


def counted_flops(model: nn.Module, length: int) -> int:
    """Count the operations of one forward pass over a row of ``length`` tokens; a multiply-add is two."""
    input_ids = torch.ones((1, length), dtype=torch.long, device="meta")
    _count_products(model)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(input_ids=input_ids)
    return counter.get_total_flops()


def _count_products(model: nn.Module) -> None:
    # the counter sees the products of plain PyTorch; those of the other backends are the same and more, recomputed
    if hasattr(model.config, "attention_backend"):
        model.config.attention_backend = "reference"


def projection_flops(size: Size) -> int:
    """Operations a token of the two projections of one unit: ``2 d (2 e + s) + 2 e d``."""
    d, e, s = size.hidden_size, size.inner_dim, size.query_key_dim
    return 2 * d * (2 * e + s) + 2 * e * d


def flash_quad_flops(size: Size, length: int) -> int:
    """Operations a token by the formula: projections and ``2 n (s + e)`` a unit."""
    return size.units * (projection_flops(size) + 2 * length * (size.query_key_dim + size.inner_dim))


def flash_flops(size: Size, length: int) -> int:
    """Operations a token by the formula: projections and ``2 min(c, n) (s + e) + 4 s e`` a unit."""
    e, s = size.inner_dim, size.query_key_dim
    return size.units * (projection_flops(size) + 2 * min(CHUNK, length) * (s + e) + 4 * s * e)


def transformer_flops(size: Size, length: int) -> int:
    """Operations a token by the formula: ``2 (4 d^2 + 3 d i) + 4 n d`` a layer, with the gated MLP's width ``i``."""
    d, i = size.hidden_size, size.transformer_inner_dim
    return size.units // 2 * (2 * (4 * d * d + 3 * d * i) + 4 * length * d)


MODELS = {
    "FLASH": (flash, flash_flops),
    "FLASH-Quad": (flash_quad, flash_quad_flops),
    "Transformer": (transformer, transformer_flops),
}


def parameter_rows() -> list[list[str]]:
    """Count the parameters of each model, with its masked-language-model head, and in its layers alone."""
    rows = []
    for name, size in SIZES.items():
        for model_name, (build, _) in MODELS.items():
            model = build(size)
            layers = sum(p.numel() for p in model.base_model.layers.parameters())
            shape = f"{size.hidden_size} x {size.units // 2 if model_name == 'Transformer' else size.units}"
            rows.append([f"{name}: {model_name}", shape, f"{model.num_parameters():,}", f"{layers:,}"])
    return rows


def flops_rows(size: Size, lengths: Sequence[int] = LENGTHS) -> list[list[str]]:
    """Count the operations a token of the models without a head, and their ratio to the Transformer."""
    counted, worst = {}, {}
    for name, (build, formula) in MODELS.items():
        model = build(size).base_model
        counted[name] = [counted_flops(model, n) / n for n in lengths]
        worst[name] = max(abs(c / formula(size, n) - 1) for c, n in zip(counted[name], lengths, strict=True))
    rows = []
    for name, flops in counted.items():
        ratios = [own / other for own, other in zip(flops, counted["Transformer"], strict=True)]
        cells = [f"{own / 1e6:,.1f} ({ratio:.2f})" for own, ratio in zip(flops, ratios, strict=True)]
        rows.append([name, *cells, f"{worst[name]:.1%}"])
    return rows


def training_ratio(size: Size, length: int, *, recompute: bool = False) -> float:
    """Count the operations of a forward and a backward pass of FLASH over those of a forward pass alone.

    Args:
        recompute: With gradient checkpointing.
    """
    forward = counted_flops(flash(size).base_model, length)
    model = flash(size, gradient_checkpointing=recompute, use_cache=False).base_model.train()
    _count_products(model)
    with FlopCounterMode(display=False) as counter:
        outputs = model(input_ids=torch.ones((1, length), dtype=torch.long, device="meta"))
        outputs.last_hidden_state.sum().backward()
    return counter.get_total_flops() / forward


def equal_length(size: Size) -> int:
    """Shortest length at which FLASH does no more operations than the Transformer."""
    return next(n for n in range(1, max(LENGTHS)) if flash_flops(size, n) <= transformer_flops(size, n))


def difference_rows(size: Size) -> list[list[str]]:
    """Count what the formulas leave out, at lengths and settings where it shows."""
    cases = [
        ("FLASH, 300 tokens", flash(size), flash_flops, 300),
        ("FLASH, 8,000 tokens", flash(size), flash_flops, 8000),
        ("FLASH-Quad, 300 tokens", flash_quad(size), flash_quad_flops, 300),
        ("FLASH, causal, 8,192 tokens", flash(size, causal=True, use_cache=False), flash_flops, 8192),
        ("FLASH-Quad, causal, 8,192 tokens", flash_quad(size, causal=True, use_cache=False), flash_quad_flops, 8192),
        (
            'FLASH-Quad, `relative_bias="rotary_product"`, 8,192 tokens',
            flash_quad(size, relative_bias="rotary_product"),
            flash_quad_flops,
            8192,
        ),
    ]
    rows = []
    for name, model, formula, length in cases:
        counted, expected = counted_flops(model.base_model, length) / length, formula(size, length)
        rows.append([name, f"{counted / 1e6:,.2f}", f"{expected / 1e6:,.2f}", f"{counted / expected:.3f}"])
    return rows


def render() -> str:
    """Write the page."""
    header = ["model", *(f"{n:,}" for n in LENGTHS), "counted against formula"]
    tables = []
    for name, size in SIZES.items():
        tables.append(f"**{name}**, {size.hidden_size} x {size.units}\n\n{markdown_table(header, flops_rows(size))}")
    cross = ", ".join(f"{equal_length(size):,} ({name})" for name, size in SIZES.items())
    base = flash_quad(SIZES["base"])
    head = counted_flops(base, 1) - counted_flops(base.base_model, 1)
    limits = ", ".join(f"{size.query_key_dim / size.hidden_size + 2:.2f} ({name})" for name, size in SIZES.items())
    return PAGE.format(
        versions=versions(),
        parameters=markdown_table(["model", "width x layers", "parameters", "of these in layers"], parameter_rows()),
        flops="\n\n".join(tables),
        cross=cross,
        limits=limits,
        training=f"{training_ratio(SIZES['small'], 512):.2f}",
        recomputing=f"{training_ratio(SIZES['small'], 512, recompute=True):.2f}",
        head=f"{head / 1e6:.1f}",
        vocabulary=f"{VOCABULARY:,}",
        differences=markdown_table(
            ["base", "counted, MFLOP a token", "formula", "counted / formula"], difference_rows(SIZES["base"])
        ),
    )


PAGE = """# What the models cost

Written by `python benchmarks/model_costs.py`, which builds each model on the meta device and counts the operations of a
forward pass there (`torch.utils.flop_counter`; {versions}). Nothing here is a time: what the
counter does not see is below, and how fast operations run is another matter ([decoding.md](decoding.md)).

The Transformer is ModernBERT of transformers with every layer seeing the whole text (rotary, gated MLP, no biases). Two
gated attention units are matched by one of its layers, with the MLP's width chosen so that their matrices hold the same
number of parameters. The sizes are those of the presets: e = 2d, s = 128 (tiny: 64); FLASH chunks of c = 256;
vocabulary {vocabulary}, tied.

## Parameters

With the masked-language-model head.

{parameters}

## Arithmetic of the encoder, MFLOP a token

A multiply-add is two operations; in brackets the ratio to the Transformer; the last column is the largest relative
difference between count and formula in the row.

{flops}

**FLASH** does as many operations as the Transformer at a length of {cross};
more below that, fewer beyond. **FLASH-Quad** does more at every length: projections cost the same, and a pair of
tokens costs `4(s + e)` in two units against `4d` in a layer of the Transformer. The ratio tends to `(s + e) / d`:
{limits}.

A forward and a backward pass count {training} times a forward pass, {recomputing} times with gradient checkpointing
(FLASH small, 512 tokens). The masked-language-model head of base adds {head} MFLOP a scored token, most of it the
`2dV` of the vocabulary; in training only scored positions, about 15 %, pay for it.

## The formulas

A token and layer, a multiply-add counted as 2; n tokens, model width d, gate and value width e, query and key width s,
chunk length c, MLP width i:

| part | operations |
| --- | --- |
| projections of a gated attention unit | `2d(2e + s) + 2ed` |
| quadratic attention (FLASH-Quad) | `2n(s + e)` |
| mixed chunk attention (FLASH) | `2 min(c, n) (s + e) + 4se` |
| Transformer layer | `2(4d^2 + 3di) + 4nd` |

## Where count and formula differ

{differences}

- **Chunk padding.** FLASH fills its last chunk up: 300 tokens pay for the attention of 512 (projections are not
  padded). The difference is at most one chunk a row.
- **Causal models** are counted in full, by both: the implementation here computes all scores of a row (FLASH: of a
  chunk) and masks those of later tokens, and the counter sees the products, not the mask. A kernel that skips what is
  masked does half of the terms with n, or of `2c(s + e)`. A Transformer's fused attention in PyTorch does skip.
- **The rotary-product bias**, default above 512 `max_position_embeddings`, is a product of its own: `2ns` a token and
  layer, once a batch and not once a row, so a larger batch dilutes it. The Toeplitz bias of the tables is read, not
  multiplied.

## What the counter does not see

Matrix products only. Norms, activations, the gate, rotary angles, masks, the token shift, the sum over chunks and the
squared ReLU or softmax of the scores are linear in what they touch and limited by memory, not by arithmetic. For
quadratic attention that is n scores a token and layer, read and written several times.
"""


def main() -> int:
    """Write the page or check it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 if the page would change")
    arguments = parser.parse_args()
    return write_or_compare(DOCS / "costs.md", render(), check=arguments.check)


def _sizes(size: Size) -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": size.hidden_size,
        "num_hidden_layers": size.units,
        "query_key_dim": size.query_key_dim,
        # a mask read from the ids would have to be looked at, and meta tensors hold no values
        "pad_token_id": None,
    }


def _on_meta(model_class: type[PreTrainedModel], config: Any) -> PreTrainedModel:
    with torch.device("meta"):
        return model_class(config).eval()


if __name__ == "__main__":
    sys.exit(main())
