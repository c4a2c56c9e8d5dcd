"""First values of every parameter; the derivation is in docs/maths.md."""

from torch import nn
from transformers import PreTrainedConfig
from transformers import initialization as init

from flash.layers.norms import ScaleNorm
from flash.layers.offset_scale import OffsetScale, QueryKeyScale
from flash.layers.positions import BucketedBias, RotaryProductBias, ScaledSinusoid, ToeplitzBias
from flash.models.language_model_heads import MaskedLMHead


def initialize(module: nn.Module, config: PreTrainedConfig) -> None:
    """Set the parameters that ``module`` itself owns.

    ``config.initialization`` is ``normal``, everything from N(0, ``initializer_range``^2), gains of queries and keys
    included, or ``fan_in``. A configuration without that setting is ``normal`` with gains of 1.
    """
    normal = getattr(config, "initialization", "normal") == "normal"
    std = config.initializer_range
    if isinstance(module, nn.Linear):
        init.normal_(module.weight, std=std if normal else module.in_features**-0.5)
        if module.bias is not None:
            init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        init.normal_(module.weight, std=std if normal else module.embedding_dim**-0.5)
        if module.padding_idx is not None and not getattr(module.weight, "_is_hf_initialized", False):
            init.zeros_(module.weight[module.padding_idx])
    elif isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        for parameter, first in ((module.weight, init.ones_), (getattr(module, "bias", None), init.zeros_)):
            if parameter is not None:
                first(parameter)
    elif isinstance(module, ScaleNorm):
        init.ones_(module.scale)
    elif isinstance(module, ScaledSinusoid):
        init.constant_(module.scale, module.dim**-0.5)
    elif isinstance(module, OffsetScale):
        if normal:
            init.normal_(module.gain, std=std)
        else:
            init.ones_(module.gain)
        init.zeros_(module.offset)
    elif isinstance(module, QueryKeyScale):
        init.ones_(module.query_gain)
        init.ones_(module.key_gain)
    elif isinstance(module, (ToeplitzBias, BucketedBias)):
        if normal:
            init.normal_(module.weight, std=std)
        else:
            init.zeros_(module.weight)
    elif isinstance(module, RotaryProductBias):
        # both zero would be a saddle: neither would ever get a gradient
        init.normal_(module.left, std=std)
        init.normal_(module.right, std=std)
    elif isinstance(module, MaskedLMHead) and hasattr(module, "bias"):
        init.zeros_(module.bias)
