"""The Triton kernels as operators of PyTorch: compiled, exported, and checked by PyTorch itself."""

import pytest
import torch

from kernel_batches import DEVICE, batch, cast, with_gradients

pytest.importorskip("triton", reason="the kernels need triton")

from flash.ops.quadratic_attention import fused, materialized


@pytest.fixture(params=[fused, materialized], ids=["fused", "materialized"])
def implementation(request):
    return request.param.squared_relu_attention


def compiled_inputs():
    given = batch([40, 12], bias=True, row_sum=True, key_mask=True)
    options = given.bounds | cast(given.options, torch.float32)
    return given, options


def test_compiling_sees_one_operation_and_changes_no_bit(implementation, without_shape_checks):
    given, options = compiled_inputs()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    compiled = torch.compile(lambda *inputs: 2 * implementation(*inputs, **options), fullgraph=True, backend=backend)
    actual = with_gradients(compiled, given.inputs, torch.float32)
    expected = with_gradients(lambda *inputs: 2 * implementation(*inputs, **options), given.inputs, torch.float32)
    for ours, true in zip(actual, expected, strict=True):
        assert torch.equal(ours, true)
    (graph,) = graphs
    assert sum("squared_relu_attention" in str(node.target) for node in graph.graph.nodes) == 1


def test_exporting_for_any_number_of_tokens(implementation, without_shape_checks):
    class Attention(torch.nn.Module):
        def forward(self, query, key, value, cumulative_lengths):
            bounds = {"cumulative_lengths": cumulative_lengths, "longest": query.shape[0]}
            return implementation(query, key, value, scale=0.5, divisor=2.0, **bounds)

    def inputs(lengths):
        given = batch(lengths)
        return (*(tensor.to(DEVICE, torch.float32) for tensor in given.inputs), given.bounds["cumulative_lengths"])

    tokens = {0: torch.export.Dim("tokens", min=2, max=4096)}
    exported = torch.export.export(Attention(), inputs([20, 12]), dynamic_shapes=(tokens, tokens, tokens, None))
    other = inputs([5, 40])
    assert torch.equal(exported.module()(*other), Attention()(*other))


@pytest.mark.parametrize("row_sum", [False, True])
def test_the_operators_keep_the_contract_of_pytorch(row_sum, without_shape_checks):
    given = batch([9, 4], bias=True, e=8)
    leaves = [tensor.to(DEVICE, torch.float32).requires_grad_() for tensor in given.inputs]
    numbers = [torch.full((13,), number, device=DEVICE) for number in (0.7, 3.0)]
    bounds = given.bounds
    for module in (fused, materialized):
        arguments = (*leaves, None, bounds["cumulative_lengths"], *numbers, bounds["longest"], row_sum, False)
        torch.library.opcheck(module._operator, arguments)
