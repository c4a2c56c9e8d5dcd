import torch

from flash.layers.offset_scale import OffsetScale

from helpers import FLOAT64, normal


def test_each_copy_has_a_gain_and_an_offset_of_its_own():
    layer = OffsetScale(3, 4).double()
    layer.gain.data, layer.offset.data = normal(2, 3, 4)
    base = normal(2, 5, 4, seed=1)
    copies = layer(base)
    assert len(copies) == 3
    for index, copy in enumerate(copies):
        for channel in range(4):
            expected = base[..., channel] * layer.gain[index, channel] + layer.offset[index, channel]
            torch.testing.assert_close(copy[..., channel], expected, **FLOAT64)


def test_fresh_copies_are_the_base():
    base = normal(2, 5, 4).float()
    for copy in OffsetScale(2, 4)(base):
        assert torch.equal(copy, base)


def test_autograd_agrees_with_finite_differences():
    layer = OffsetScale(2, 3).double()

    def copies(base, gain, offset):
        return torch.func.functional_call(layer, {"gain": gain, "offset": offset}, (base,))

    inputs = [normal(1, 2, 3), normal(2, 3, seed=1), normal(2, 3, seed=2)]
    assert torch.autograd.gradcheck(copies, [tensor.requires_grad_() for tensor in inputs])
