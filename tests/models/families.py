"""Hypothesis strategies over all architectures and their settings: models in which every term counts, padded texts.

``models`` draws a configuration and gives its model random weights of the size that training leads to, or larger:
scores of a few units, biases of either sign, gains around 1. ``texts`` draws sequences that may have padding inside;
``collate`` puts them into a batch, between more padding that holds arbitrary tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import Phase, note
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

import flash
from flash import FLASHConfig, FLASHQuadConfig, GAUAlphaConfig
from flash.layers.gated_unit import GatedUnit
from flash.layers.norms import ScaleNorm
from flash.layers.offset_scale import OffsetScale, QueryKeyScale
from flash.layers.positions import ScaledSinusoid

VOCABULARY, TOKEN_TYPES = 12, 2
LONGEST_TEXT = 11
GATED_FAMILIES = ("flash_quad", "flash")
FAMILIES = (*GATED_FAMILIES, "gau_alpha")
PREFIXES = {"flash_quad": "FLASHQuad", "flash": "FLASH", "gau_alpha": "GAUAlpha"}

# attention_function, score_scale, score_divisor: every combination that a configuration accepts
ATTENTIONS = [
    *(
        (function, scale, divisor)
        for function in ("squared_relu", "laplace")
        for scale in ("inverse_length", "inverse_sqrt_dim")
        for divisor in ("constant", "true_length", "row_sum")
    ),
    ("softmax", "inverse_sqrt_dim", "constant"),
    ("entropy_softmax", "inverse_sqrt_dim", "constant"),
]

seeds = st.integers(0, 2**16)
paddings = st.integers(0, 5)


def examples(count: int) -> hypothesis_settings:
    """The same ``count`` examples in every run; no deadline, because machines differ."""
    # to explain a failure costs a minute of traced runs and names lines, not settings
    phases = [phase for phase in Phase if phase is not Phase.explain]
    return hypothesis_settings(max_examples=count, deadline=None, derandomize=True, phases=phases)


@st.composite
def configs(
    draw: st.DrawFn, families: Sequence[str] = FAMILIES, causal: st.SearchStrategy[bool] | None = None
) -> PreTrainedConfig:
    """A tiny configuration; ``causal`` says what is drawn for the families that have the setting."""
    family = draw(st.sampled_from(families))
    shared: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "type_vocab_size": TOKEN_TYPES,
        "num_hidden_layers": draw(st.integers(1, 2)),
        "max_position_embeddings": draw(st.sampled_from([16, 5, 2])),
        "hidden_act": draw(st.sampled_from(["silu", "gelu", "relu"])),
        "pad_token_id": draw(st.sampled_from([0, None])),
        "classifier_dropout": 0.0,
        "classifier_pooling": draw(st.sampled_from(["cls", "mean", "cls_plus_mean"])),
    }
    if family == "gau_alpha":
        return GAUAlphaConfig(
            **shared,
            hidden_size=draw(st.sampled_from([8, 7])),
            intermediate_size=draw(st.sampled_from([12, 7])),
            attention_key_size=draw(st.sampled_from([4, 6])),
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            normalization=draw(st.sampled_from(["softmax_plus", "softmax", "squared_relu"])),
        )
    if family == "flash":
        shared["chunk_size"] = draw(st.integers(1, 8))
        shared["linear_divisor"] = draw(st.sampled_from(["true_length", "constant"]))
    # a chunk of one position has no entropy
    attentions = ATTENTIONS[:-1] if shared.get("chunk_size") == 1 else ATTENTIONS
    function, scale, divisor = draw(st.sampled_from(attentions))
    sinusoid, rotary = draw(st.booleans()), draw(st.booleans())
    relative_bias = draw(st.sampled_from(["toeplitz", "none", "bucketed", "rotary_product"]))
    norm_position = draw(st.sampled_from(["pre", "post"]))
    rotates = rotary or relative_bias == "rotary_product"
    return (FLASHConfig if family == "flash" else FLASHQuadConfig)(
        **shared,
        hidden_size=draw(st.sampled_from([8] if sinusoid else [8, 7])),
        expansion_factor=draw(st.sampled_from([2, 1.5])),
        query_key_dim=draw(st.sampled_from([4, 6] if rotates else [4, 5])),
        norm_type=draw(st.sampled_from(["scale_norm", "layer_norm", "rms_norm"])),
        norm_position=norm_position,
        attention_function=function,
        score_scale=scale,
        score_divisor=divisor,
        attention_norm=draw(st.booleans()),
        attention_norm_eps=draw(st.sampled_from([None, 0.1])),
        final_norm=norm_position == "pre" and draw(st.booleans()),
        token_shift=draw(st.sampled_from([0.0, 0.25, 0.5])),
        scaled_sinusoid=sinusoid,
        rotary=rotary,
        relative_bias=relative_bias,
        relative_bias_buckets=8,
        relative_bias_max_distance=draw(st.sampled_from([9, 5])),
        causal=draw(st.booleans() if causal is None else causal),
    )


@st.composite
def models(
    draw: st.DrawFn,
    ending: str = "Model",
    families: Sequence[str] = FAMILIES,
    causal: st.SearchStrategy[bool] | None = None,
) -> PreTrainedModel:
    """A float64 model in evaluation mode, of the class whose name ends with ``ending``."""
    if ending == "ForMaskedLM":
        causal = st.just(False)
    config, seed = draw(configs(families, causal)), draw(seeds)
    note(f"{config.model_type}, seed {seed}: {config.to_diff_dict()}")  # a failure prints it
    return build(config, ending, seed)


def build(config: PreTrainedConfig, ending: str = "Model", seed: int = 0) -> PreTrainedModel:
    """The float64 model of a configuration in evaluation mode, with random weights that depend on the seed alone."""
    model = getattr(flash, PREFIXES[config.model_type] + ending)(config).double().eval()
    randomize(model, torch.Generator().manual_seed(seed))
    return model


@torch.no_grad()
def randomize(model: nn.Module, generator: torch.Generator) -> None:
    """Draw all parameters anew, each so large that a wrong term shows."""

    def normal(parameter: Tensor, std: float) -> None:
        parameter.copy_(std * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))

    def either_sign(parameter: Tensor, size: float) -> None:
        # never near 0: with few channels a product of normal numbers is too often next to nothing
        draws = torch.rand(parameter.shape, generator=generator, dtype=parameter.dtype) - 0.5
        parameter.copy_(size * (draws + draws.sign() * 0.5))

    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if isinstance(module, OffsetScale | QueryKeyScale):
                either_sign(parameter, 1.0 if name == "offset" else 3.0)
            elif isinstance(module, ScaledSinusoid):
                parameter.fill_(module.dim**-0.5)
            elif isinstance(module, nn.LayerNorm | nn.RMSNorm | ScaleNorm) and name != "bias":
                parameter.copy_(0.7 + 0.6 * torch.rand(parameter.shape, generator=generator, dtype=parameter.dtype))
            elif parameter.dim() == 2:
                # the padding token's row too: it must make no difference
                normal(parameter, parameter.shape[1] ** -0.5)
            else:
                either_sign(parameter, 0.5)
    for unit in model.modules():
        if isinstance(unit, GatedUnit) and unit.weighting.score_scale == "inverse_length":
            # scores of the same size, although they are divided by L and not by sqrt(s)
            larger = (unit.weighting.longest / unit.weighting.dim**0.5) ** 0.5
            for parameter in unit.offset_scale.parameters():
                parameter.mul_(larger)


@dataclass(frozen=True)
class Text:
    """Ids, segments and which tokens are real, each ``(n,)``."""

    input_ids: Tensor
    token_type_ids: Tensor
    mask: Tensor

    def __len__(self) -> int:
        """Count the tokens, padding inside included."""
        return len(self.mask)


def random_text(mask: Tensor, seed: int) -> Text:
    """Real tokens are never the padding token 0; what stands in padded places is arbitrary."""
    generator = torch.Generator().manual_seed(seed)
    real = torch.randint(1, VOCABULARY, mask.shape, generator=generator)
    arbitrary = torch.randint(0, VOCABULARY, mask.shape, generator=generator)
    token_type_ids = torch.randint(0, TOKEN_TYPES, mask.shape, generator=generator)
    return Text(torch.where(mask, real, arbitrary), token_type_ids, mask)


@st.composite
def texts(draw: st.DrawFn, longest: int = LONGEST_TEXT) -> Text:
    """A text with some padding inside or at its end."""
    rest = draw(st.lists(st.sampled_from([True, True, True, False]), max_size=longest - 1))
    return random_text(torch.tensor([True, *rest]), draw(seeds))


def padding(length: int, seed: int = 0) -> Text:
    """Nothing but padding, of arbitrary tokens."""
    return random_text(torch.zeros(length, dtype=torch.bool), seed)


def join(*parts: Text) -> Text:
    """Texts one behind the other."""
    return Text(*(torch.cat([getattr(part, name) for part in parts]) for name in Text.__dataclass_fields__))


def pad(text: Text, left: int, right: int, seed: int = 0) -> Text:
    """More padding on both sides."""
    return join(padding(left, seed), text, padding(right, seed + 1))


def inputs_of(*rows: Text) -> dict[str, Tensor]:
    """Arguments of a model for rows of one length; the mask is left out where all tokens are real."""
    inputs = {
        "input_ids": torch.stack([row.input_ids for row in rows]),
        "token_type_ids": torch.stack([row.token_type_ids for row in rows]),
    }
    mask = torch.stack([row.mask for row in rows])
    return inputs if mask.all() else inputs | {"attention_mask": mask.long()}


def collate(rows: Sequence[Text], lefts: Sequence[int], right: int = 0) -> tuple[dict[str, Tensor], list[slice]]:
    """A batch of texts with ``lefts`` padding before each, and where each text then lies."""
    width = max(left + len(row) for row, left in zip(rows, lefts, strict=True)) + right
    padded = [pad(row, left, width - left - len(row)) for row, left in zip(rows, lefts, strict=True)]
    return inputs_of(*padded), [slice(left, left + len(row)) for row, left in zip(rows, lefts, strict=True)]


def direction(output: Tensor, text: Text, seed: int = 0) -> Tensor:
    """A cotangent for the output ``(n, width)`` of a text; 0 at padding, whose output is nobody's affair."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(output.shape, generator=generator, dtype=output.dtype) * text.mask[:, None]


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """The gradient of every parameter; 0 for what the loss does not depend on."""
    named = dict(model.named_parameters())
    values = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    pairs = zip(named.items(), values, strict=True)
    return {name: torch.zeros_like(parameter) if value is None else value for (name, parameter), value in pairs}


def assert_same(actual: Any, expected: Any, tolerance: float) -> None:
    """Compare tensors, or dicts of them; ``tolerance`` is relative to each entry and to the largest of all entries.

    Of parameters of very different gradients none is compared more finely than the roundings of the largest allow.
    """
    tensors = expected.values() if isinstance(expected, dict) else [expected]
    largest = max((tensor.abs().max().item() for tensor in tensors if tensor.numel()), default=0.0)
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance * max(1.0, largest))
