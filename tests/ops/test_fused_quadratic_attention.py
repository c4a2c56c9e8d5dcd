"""The Triton kernels, on a CUDA device where there is one, else in Triton's interpreter, which is exact in float32."""

from functools import partial

import pytest
import torch

from flash.errors import InputError

from helpers import FLOAT32, normal, relative_error
from kernel_batches import DEVICE, batch, by_reference, cast, with_gradients

pytest.importorskip("triton", reason="the kernels need triton")

from flash.ops.quadratic_attention import fused, kernels_tuning, materialized
from flash.ops.quadratic_attention.kernels_tuning import TILINGS

# the interpreter's products in half precision are wrong
HALF = [pytest.param(dtype, marks=pytest.mark.gpu) for dtype in (torch.bfloat16, torch.float16)]
ON_GPU = pytest.mark.skipif(DEVICE.type != "cuda", reason="half-precision products need a CUDA device")


@pytest.fixture(params=[fused, materialized], ids=["fused", "materialized"])
def implementation(request):
    return request.param.squared_relu_attention


def assert_errs_like_reference(implementation, given, dtype=torch.float32):
    exact = with_gradients(
        by_reference, given.inputs, torch.float64, lengths=given.lengths, **cast(given.options, torch.float64)
    )
    options = cast(given.options, torch.float32)
    reference = with_gradients(by_reference, given.inputs, dtype, lengths=given.lengths, **options)
    actual = with_gradients(implementation, given.inputs, dtype, **given.bounds, **options)
    for name, ours, its, true in zip(("out", "query", "key", "value", "bias"), actual, reference, exact, strict=False):
        assert ours.dtype == its.dtype, name
        # one large float32 number may happen to come out exact in the reference
        allowed = 2 * max(relative_error(its, true), torch.finfo(torch.float32).eps)
        assert relative_error(ours, true) <= allowed, name


VARIANTS = {
    "plain": {},
    "bias": {"bias": True},
    "causal": {"causal": True},
    "key mask": {"key_mask": True},
    "row sums": {"row_sum": True, "bias": True},
    "all": {"bias": True, "causal": True, "key_mask": True, "rows": True},
    "all and row sums": {"bias": True, "causal": True, "key_mask": True, "rows": True, "row_sum": True},
}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_outputs_and_gradients_err_at_most_twice_as_much_as_the_reference(implementation, options):
    assert_errs_like_reference(implementation, batch([33, 0, 1, 65], **options))


def test_a_row_of_weights_next_to_nothing_is_not_blown_up_by_its_sum(implementation):
    given = batch([33], row_sum=True)
    given.options["scale"] = 1e-7  # sums of 1e-13
    assert_errs_like_reference(implementation, given)


def test_sequences_of_equal_length(implementation):
    assert_errs_like_reference(implementation, batch([33, 33], bias=True, key_mask=True))


@pytest.mark.parametrize("length", [1, 127, 129])
def test_lengths_that_are_no_multiple_of_a_tile(implementation, length):
    assert_errs_like_reference(implementation, batch([length], bias=True))


@pytest.mark.parametrize(("s", "e"), [(1, 1), (3, 65), (100, 8)])
def test_widths_that_are_no_power_of_two(implementation, s, e):
    assert_errs_like_reference(implementation, batch([34], s=s, e=e))


@ON_GPU
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_half_precision_errs_at_most_twice_as_much_as_the_reference(implementation, options, dtype):
    given = batch([513, 0, 1, 128, 1000], s=128, e=1536, dtype=dtype, **options)
    given.options["scale"] = given.options["scale"] / 12.0
    assert_errs_like_reference(implementation, given, dtype)


@pytest.mark.parametrize("module", [fused, materialized], ids=["fused", "materialized"])
def test_a_backward_in_several_panels_is_the_same_sum(module, monkeypatch):
    given = batch([129, 2], bias=True, key_mask=True)
    monkeypatch.setattr(module, "MOST_SCORE_GRADIENTS" if module is fused else "MOST_WEIGHTS", 1)
    assert_errs_like_reference(module.squared_relu_attention, given)


def test_gradients_agree_with_finite_differences(implementation):
    given = batch([20, 3], bias=True, rows=True)
    leaves = [tensor.to(DEVICE, torch.float32) for tensor in given.inputs]
    options = given.bounds | cast(given.options, torch.float32)
    weight = normal(23, 12, seed=9).to(DEVICE)

    def loss(inputs):
        return (implementation(*inputs, **options).double() * weight).sum()

    step = 2.0**-7
    for place, leaf in enumerate(leaves):
        direction = normal(*leaf.shape, seed=place).to(leaf)
        moved = [[*leaves[:place], leaf + sign * step * direction, *leaves[place + 1 :]] for sign in (1, -1)]
        difference = (loss(moved[0]) - loss(moved[1])) / (2 * step)
        leaf.requires_grad_()
        (gradient,) = torch.autograd.grad(loss(leaves), leaf)
        leaf.requires_grad_(False)
        # the square is smooth up to its second derivative: the error is of the order of the step squared
        torch.testing.assert_close((gradient * direction).sum().double(), difference, rtol=2e-3, atol=1e-2)


def test_other_sequences_and_hidden_keys_do_not_enter_at_all(implementation):
    given = batch([40, 33, 34], bias=True)
    given.options["key_mask"] = torch.arange(107) % 40 < 36
    options = given.bounds | cast(given.options, torch.float32)
    leaves = [tensor.to(DEVICE, torch.float32) for tensor in given.inputs]
    before = implementation(*leaves, **options)
    hidden = (~given.options["key_mask"]).to(DEVICE)
    leaves[1][hidden], leaves[2][hidden] = 1e4, 1e4
    for leaf in leaves[:3]:
        leaf[:40] = 77.0
    after = implementation(*leaves, **options)
    assert torch.equal(after[40:], before[40:])


def test_a_causal_output_ignores_what_follows(implementation):
    given = batch([70], bias=True, causal=True, row_sum=True)
    options = given.bounds | cast(given.options, torch.float32)
    leaves = [tensor.to(DEVICE, torch.float32) for tensor in given.inputs]
    before = implementation(*leaves, **options)
    for leaf in leaves[:3]:
        leaf[41:] = 77.0
    assert torch.equal(implementation(*leaves, **options)[:41], before[:41])


def test_the_same_inputs_give_the_same_bits(implementation):
    given = batch([7, 65], bias=True, key_mask=True, row_sum=True)
    options = given.bounds | cast(given.options, torch.float32)
    runs = [with_gradients(implementation, given.inputs, torch.float32, **options) for _ in range(2)]
    for first, second in zip(*runs, strict=True):
        assert torch.equal(first, second)


def test_autocast_does_not_change_the_products(implementation):
    given = batch([40], bias=True, row_sum=True)
    options = given.bounds | cast(given.options, torch.float32)
    expected = with_gradients(implementation, given.inputs, torch.float32, **options)
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        found = with_gradients(implementation, given.inputs, torch.float32, **options)
    for ours, true in zip(found, expected, strict=True):
        assert torch.equal(ours, true)


@pytest.mark.parametrize("place", range(4))
def test_an_input_alone_has_the_gradient_that_it_has_among_the_others(implementation, place):
    given = batch([9, 33], bias=True, row_sum=True)
    options = given.bounds | cast(given.options, torch.float32)
    expected = with_gradients(implementation, given.inputs, torch.float32, **options)[1 + place]
    leaves = [tensor.to(DEVICE, torch.float32) for tensor in given.inputs]
    leaves[place].requires_grad_()
    output = implementation(*leaves, **options)
    (found,) = torch.autograd.grad(output, leaves[place], normal(42, 12, seed=9).bfloat16().to(output))
    assert torch.equal(found, expected)


def test_a_gradient_of_the_gradients_is_refused(implementation):
    given = batch([5])
    leaves = [tensor.to(DEVICE, torch.float32).requires_grad_() for tensor in given.inputs]
    output = implementation(*leaves, **given.bounds, **given.options)
    (gradient,) = torch.autograd.grad(output.square().sum(), leaves[0], create_graph=True)
    with pytest.raises(InputError, match=r"can be differentiated once: .*attention_backend='reference'"):
        gradient.sum().backward()


def test_a_deterministic_run_takes_the_first_tiling_without_trials(monkeypatch):
    kernel = fused.attend_kernel
    first, last = TILINGS[kernel][4]
    monkeypatch.setattr(kernels_tuning, "fitting_tilings", lambda *_: [last, first])
    trials = []
    monkeypatch.setattr(kernels_tuning, "_tuned_kernel", lambda _, tilings, *__: trials.append(tilings) or kernel)
    ran = []

    class Recorder:
        def __getitem__(self, grid):
            return lambda **given: ran.append((given["SKIP"], given["num_stages"]))

    launch = partial(kernels_tuning.launch, Recorder(), lambda _: 1, {}, like=torch.ones(1), tuning_key=())
    torch.use_deterministic_algorithms(True)
    try:
        launch()
    finally:
        torch.use_deterministic_algorithms(False)
    assert ran == [(last.blocks["SKIP"], last.num_stages)]
    assert not trials


def test_a_divisor_keeps_weights_beyond_half_precision_in_its_range(implementation):
    dtype = torch.float16 if DEVICE.type == "cuda" else torch.float32
    query = key = torch.full((64, 128), 24.0, dtype=dtype, device=DEVICE)
    value = torch.ones(64, 32, dtype=dtype, device=DEVICE)
    bounds = batch([64]).bounds
    weight = (24.0 * 24.0 * 128 / 16) ** 2  # 21 million
    out = implementation(query, key, value, **bounds, scale=1 / 16, divisor=weight)
    torch.testing.assert_close(out, torch.full_like(out, 64.0))


@pytest.mark.skipif(DEVICE.type == "cuda", reason="which tiling runs is known in the interpreter only")
def test_tiles_without_a_positive_score_are_left_out():
    given = batch([96])
    diagonals = torch.where((torch.arange(-95, 96)).abs() < 32, 0.5, -1e4)
    leaves = [tensor.to(DEVICE, torch.float32) for tensor in given.inputs]
    options = given.bounds | given.options
    clean = fused.squared_relu_attention(*leaves, diagonals, **options)
    leaves[2][64:] = torch.nan  # no query of the first tile of 32 gives these a weight, and 0 * nan is nan
    poisoned = fused.squared_relu_attention(*leaves, diagonals, **options)
    assert torch.equal(poisoned[:32], clean[:32])
    assert poisoned[64:].isnan().all()


@pytest.mark.skipif(DEVICE.type == "cuda", reason="which tiling runs is known in the interpreter only")
def test_leaving_tiles_out_changes_no_bit(monkeypatch):
    given = batch([96])
    given.inputs.append(torch.where((torch.arange(-95, 96)).abs() < 32, 0.5, -1e4).double())
    runs = []
    tilings = {kernel: TILINGS[kernel][4] for kernel in (fused.attend_kernel, fused.value_gradient_kernel)}
    for skip in (False, True):
        for kernel, choices in tilings.items():
            monkeypatch.setitem(TILINGS, kernel, {4: [tiling for tiling in choices if tiling.blocks["SKIP"] == skip]})
        options = given.bounds | given.options
        runs.append(with_gradients(fused.squared_relu_attention, given.inputs, torch.float32, **options))
    for first, second in zip(*runs, strict=True):
        assert torch.equal(first, second)


def test_a_score_that_is_no_number_reaches_the_output(implementation):
    given = batch([40])
    given.inputs[0][3] = torch.nan
    leaves = [tensor.to(DEVICE, torch.float32) for tensor in given.inputs]
    out = implementation(*leaves, **given.bounds, **given.options)
    assert out[3].isnan().all()
    assert out.isfinite().sum() == out.numel() - out.shape[1]


def test_strided_and_expanded_inputs(implementation):
    given = batch([33, 7], e=16)
    together = torch.cat(given.inputs, dim=1).to(DEVICE, torch.float32)
    views = [*together.split([5, 5, 16], dim=1)[:2], together[:1, 10:].expand(40, 16)]
    options = given.bounds | given.options
    for inputs in (views, [view.mT.contiguous().mT for view in views]):
        expected = with_gradients(implementation, [view.contiguous() for view in views], torch.float32, **options)
        leaves = [view.detach().requires_grad_() for view in inputs]
        output = implementation(*leaves, **options)
        actual = [output.detach(), *torch.autograd.grad(output, leaves, normal(40, 16, seed=9).bfloat16().to(output))]
        for ours, true in zip(actual, expected, strict=True):
            torch.testing.assert_close(ours, true, **FLOAT32)  # the library sums strided matrices in another order
        output = implementation(*leaves, **options)
        output.sum().backward()  # the gradient arrives expanded from one number


@pytest.mark.skipif(DEVICE.type == "cuda", reason="a device has no pages that take no memory")
def test_offsets_beyond_int32(implementation, tmp_path):
    rows, stride = 286, 2**31 // 256  # the last sequence begins at row 260
    with (tmp_path / "mostly holes").open("wb") as file:
        file.truncate(rows * stride * 4)
    value = torch.from_file(file.name, shared=True, size=rows * stride).view(rows, stride)[:, :16]
    given = batch([26] * (rows // 26), e=16)
    value[:] = given.inputs[2]
    query, key = (tensor.float() for tensor in given.inputs[:2])
    options = given.bounds | given.options
    query.requires_grad_()
    runs = [implementation(query, key, given, **options) for given in (value, value.contiguous())]
    assert torch.equal(*runs)
    assert torch.equal(*(torch.autograd.grad(out.sum(), query)[0] for out in runs))


def test_no_tokens_give_no_outputs_and_zero_gradients(implementation):
    for lengths in ([], [0, 0]):
        given = batch(lengths, bias=True)
        output, *gradients = with_gradients(
            implementation, given.inputs, torch.float32, **given.bounds, **cast(given.options, torch.float32)
        )
        assert output.shape == (0, 12)
        assert not gradients[3].any()


def test_a_sequence_without_a_real_token_gives_zeros_and_finite_gradients(implementation):
    given = batch([7, 40], bias=True, row_sum=True)
    given.options["key_mask"] = torch.arange(47) >= 7
    options = given.bounds | cast(given.options, torch.float32)
    output, *gradients = with_gradients(implementation, given.inputs, torch.float32, **options)
    assert not output[:7].any()
    assert output[7:].any()
    for gradient in gradients:
        assert gradient.isfinite().all()


def wrong(**changes):
    given = batch([6], bias=True)
    names = ("query", "key", "value", "diagonals")
    arguments = dict(zip(names, (tensor.float() for tensor in given.inputs), strict=True))
    return arguments | given.bounds | given.options | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": torch.ones(6, 8, dtype=torch.bfloat16)}, "cast them before"),
        ({name: torch.ones(6, 8).double() for name in ("query", "key", "value")}, "float16, got torch.float64"),
        (
            {"query": torch.ones(6, 300), "key": torch.ones(6, 300)},
            "the kernels take a query_key_dim of 1 to 256, got 300: choose backend 'blocked'",
        ),
        ({"diagonals": torch.ones(4)}, "odd length 2 L - 1, got 4"),
        ({"cumulative_lengths": torch.tensor([0, 6])}, "int32 of shape"),
        ({"longest": 5}, "got 5: 1 sequences of it cannot hold 6 tokens"),
    ],
)
def test_what_the_kernels_cannot_compute_is_refused(implementation, changes, message):
    arguments = {name: x.to(DEVICE) if torch.is_tensor(x) else x for name, x in wrong(**changes).items()}
    with pytest.raises(InputError, match=message):
        implementation(**arguments)
