import pytest
import torch

from flash import FLASHQuadConfig, FLASHQuadModel
from flash.inspection.distribution import describe
from flash.inspection.layers import measure_layers
from flash.inspection.stream import cosine_similarity, relative_update, root_mean_square

from helpers import CURED, normal, random_tokens
from small_models import ARCHITECTURES, small_model


def batch_of(rows, *, length=None, side="right"):
    """Rows of token ids as one batch, padded on one side."""
    length = length or max(map(len, rows))
    input_ids = torch.zeros(len(rows), length, dtype=torch.long)
    mask = torch.zeros_like(input_ids)
    for index, row in enumerate(rows):
        columns = slice(len(row)) if side == "right" else slice(length - len(row), length)
        input_ids[index, columns] = row
        mask[index, columns] = 1
    return input_ids, mask


def numbers_of(measures):
    """Every number, in a fixed order."""
    numbers = [measures.embeddings_rms.mean, measures.uniform_attention.distance, measures.uniform_attention.self_share]
    for layer in measures.layers:
        for value in vars(layer).values():
            numbers.extend(vars(value).values() if hasattr(value, "mean") else [value])
    return [float(number) for number in numbers]


def test_equal_vectors_have_cosine_exactly_1_and_no_update():
    x = normal(50, 16).float() * 1e-3
    assert (cosine_similarity(x, x) == 1.0).all()
    assert (relative_update(x, x) == 0.0).all()


def test_stream_statistics_of_vectors_known_in_closed_form():
    before, after = torch.tensor([[3.0, 0.0]]), torch.tensor([[3.0, 4.0]])
    assert cosine_similarity(before, after).item() == pytest.approx(0.6)
    assert relative_update(before, after).item() == pytest.approx(4 / 3)
    assert root_mean_square(after).item() == pytest.approx((25 / 2) ** 0.5)


def test_a_distribution_is_that_of_the_finite_values():
    values = torch.tensor([float("nan"), *range(11), float("inf")])
    described = describe(values)
    assert (described.mean, described.p10, described.p90) == (5.0, 1.0, 9.0)
    assert describe(torch.tensor([float("nan")])).mean is None


def test_percentiles_are_those_of_torch():
    values = normal(137)
    described = describe(values)
    expected = torch.quantile(values, torch.tensor([0.1, 0.9], dtype=torch.float64))
    assert [described.p10, described.p90] == pytest.approx(expected.tolist(), rel=1e-12)


def test_a_layer_that_adds_nothing_has_cosine_1_and_update_0():
    model = small_model("flash_quad")
    torch.nn.init.zeros_(model.base_model.layers[1].out_proj.weight)
    torch.nn.init.zeros_(model.base_model.layers[1].out_proj.bias)
    first, second = measure_layers(model, [batch_of([random_tokens(9), random_tokens(5)])]).layers
    assert vars(second.cosine) == {"mean": 1.0, "p10": 1.0, "p90": 1.0}
    assert vars(second.update) == {"mean": 0.0, "p10": 0.0, "p90": 0.0}
    assert second.rms == first.rms
    assert first.cosine.mean < 0.999


def test_layers_are_compared_as_hidden_states_say():
    model = small_model("flash_quad", final_norm=False)
    input_ids, mask = batch_of([random_tokens(9)])
    hidden_states = model(input_ids=input_ids, output_hidden_states=True).hidden_states
    measured = measure_layers(model, [(input_ids, mask)])
    for layer, before, after in zip(measured.layers, hidden_states[:-1], hidden_states[1:], strict=True):
        assert layer.cosine.mean == pytest.approx(torch.cosine_similarity(before, after, dim=-1).mean().item())
        assert layer.rms.mean == pytest.approx(after.square().mean(dim=-1).sqrt().mean().item())
    assert [layer.layer for layer in measured.layers] == [1, 2]
    assert measured.embeddings_rms.mean == pytest.approx(hidden_states[0].square().mean(dim=-1).sqrt().mean().item())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_changes_no_number(architecture):
    model = small_model(architecture)
    rows = [random_tokens(length, seed=length) for length in (19, 11, 4)]
    expected = numbers_of(measure_layers(model, [batch_of([row]) for row in rows]))
    for side in ("right", "left"):
        padded = numbers_of(measure_layers(model, [batch_of(rows, length=27, side=side)]))
        assert padded == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert len(expected) == 3 + 2 * 24


def test_uniform_attention_is_that_of_the_rows():
    model = small_model("flash_quad")
    measured = measure_layers(model, [batch_of([random_tokens(8)])])
    assert measured.uniform_attention.distance == pytest.approx((8**2 - 1) / (3 * 8))
    assert measured.uniform_attention.self_share == pytest.approx(1 / 8)


def test_the_model_is_left_without_hooks():
    model = small_model("flash")
    measure_layers(model, [batch_of([random_tokens(8)])])
    assert not any(layer._forward_hooks for layer in model.base_model.layers)


def test_numbers_that_are_not_finite_are_told():
    model = small_model("flash_quad")
    with torch.no_grad():
        model.base_model.layers[1].out_proj.bias[0] = float("inf")
    first, second = measure_layers(model, [batch_of([random_tokens(6)])]).layers
    assert first.finite
    assert not second.finite


def test_untrained_layers_of_the_earlier_recipe_are_the_identity_and_those_of_the_cured_are_not():
    sizes = {"vocab_size": 20, "hidden_size": 32, "num_hidden_layers": 4, "query_key_dim": 16}
    batch = batch_of([random_tokens(40, seed=seed) for seed in range(4)])
    torch.manual_seed(0)
    earlier = measure_layers(FLASHQuadModel(FLASHQuadConfig(**sizes)).eval(), [batch])
    cured = measure_layers(FLASHQuadModel(FLASHQuadConfig(**sizes, **CURED)).eval(), [batch])
    assert all(layer.cosine.mean > 0.999 and layer.update.mean < 1e-3 for layer in earlier.layers)
    assert all(layer.cosine.mean < 0.98 and layer.update.mean > 0.1 for layer in cured.layers)
