"""How a batch is run: which implementation of the attention, and whether padding is left out first."""

import logging
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from flash.layers.gated_unit import GatedUnit
from flash.layers.mixed_chunk_unit import MixedChunkUnit
from flash.models.configuration_gated import GatedAttentionConfig
from flash.models.token_packing import TokenPacking, pack_tokens
from flash.ops.backends import choose_backend, kernels_obstacle

logger = logging.getLogger(__name__)


def warn_of_missing_kernels(config: PreTrainedConfig, device: torch.device) -> None:
    """Say what ``auto`` lacks on a GPU to run the kernels; nothing of a model that has none."""
    if device.type != "cuda" or not isinstance(config, GatedAttentionConfig):
        return
    if config.attention_backend != "auto" or config.attention_function != "squared_relu":
        return
    # the kernels take each dtype of a training run
    obstacle = kernels_obstacle(device, torch.float32, config.query_key_dim)
    if obstacle is not None:
        logger.warning("attention runs by blocks in plain PyTorch, which is slower than the kernels: %s", obstacle)


@dataclass(frozen=True)
class Execution:
    """What was decided for a batch.

    Args:
        backend: See ``flash.ops.backends``; not ``auto``.
        mask: True where a token is real; None where all are, or padding is left out.
        packing: Where the real tokens are, when the layers see nothing else.
    """

    backend: str
    mask: Tensor | None
    packing: TokenPacking | None = None


def plan_execution(
    wanted: str,
    unit: GatedUnit,
    *,
    mask: Tensor | None,
    segments: Tensor | None,
    shape: tuple[int, int],
    device: torch.device,
    dtype: torch.dtype,
    weights_wanted: bool,
) -> Execution:
    """Decide for a batch without a cache.

    Outside of compiled graphs, padding and packed rows become sequences that lie one behind the other.

    Args:
        wanted: ``attention_backend`` of the configuration.
        unit: One of the layers, which are alike.
        mask: True where a token is real.
        segments: Number of the packed sequence of each token.
        shape: ``(batch_size, sequence_length)``.
        dtype: Of the hidden states.
        weights_wanted: Whether the attention weights are asked for.

    Raises:
        InputError: The backend that is wanted cannot run this batch; the message says why.
    """
    compiling = torch.compiler.is_compiling()
    if wanted == "reference" or (wanted == "auto" and torch.compiler.is_exporting()):
        # a graph for other programs has operations of theirs only
        return Execution("reference", mask)
    only_reference = _beyond_the_others(unit, weights_wanted=weights_wanted)
    packing = None
    if only_reference is None:
        if compiling:
            only_reference = _beyond_a_graph(unit, mask, segments, shape[1])
        elif segments is not None or mask is not None:
            packing, mask, only_reference = _without_padding(unit, mask, segments, shape, device)
    key_dim = unit.widths[-1]
    backend = choose_backend(wanted, device=device, dtype=dtype, key_dim=key_dim, only_reference=only_reference)
    return Execution(backend, mask, packing)


def _beyond_the_others(unit: GatedUnit, *, weights_wanted: bool) -> str | None:
    if unit.weighting.function != "squared_relu":
        return f"the attention function {unit.weighting.function!r}"
    if unit.training and unit.attention_dropout:
        return "dropout of attention weights"
    return "the attention weights (output_attentions)" if weights_wanted else None


def _beyond_a_graph(unit: GatedUnit, mask: Tensor | None, segments: Tensor | None, length: int) -> str | None:
    # how many sequences there are, and where they begin, is not known before the graph runs
    if segments is not None:
        return "packed rows (seq_idx) in a compiled graph"
    if isinstance(unit, MixedChunkUnit):
        if mask is not None:
            return "a padding mask in a compiled graph of FLASH"
        if length % unit.chunk_size:
            return "a length that is no multiple of the chunk size in a compiled graph of FLASH"
    return None


def _without_padding(
    unit: GatedUnit, mask: Tensor | None, segments: Tensor | None, shape: tuple[int, int], device: torch.device
) -> tuple[TokenPacking | None, Tensor | None, str | None]:
    # a GPU is waited for once
    on_host = None if mask is None else mask.cpu()
    if segments is None and on_host is not None and bool(on_host.all()):
        return None, None, None
    # generation goes on from the last position of a row, and what padding says there must not depend on the backend
    may_be_read = unit.causal and not unit.training
    packing = None if may_be_read and mask is not None else pack_tokens(on_host, segments, shape, device)
    if packing is not None:
        return packing, None, None
    # an attention over all pairs can leave out keys anywhere
    if segments is None and not isinstance(unit, MixedChunkUnit):
        return None, mask, None
    return None, mask, "padding inside a sequence, in all of a batch, or in a causal model that is evaluated"
