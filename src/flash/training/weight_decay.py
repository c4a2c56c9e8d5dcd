"""Which parameters weight decay is for."""

from torch import nn

# vectors that two or more of are kept in one matrix
_VECTORS_IN_MATRICES = ("offset_scale.gain", "offset_scale.offset", "relative_bias.left", "relative_bias.right")


def decayed_parameter_names(model: nn.Module) -> list[str]:
    """Name the matrices: not gains, offsets, norms and biases, whatever their names."""
    return [
        name
        for name, parameter in model.named_parameters()
        if parameter.ndim >= 2 and not name.endswith(_VECTORS_IN_MATRICES)
    ]
