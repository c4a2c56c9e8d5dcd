"""The closed-form cost model is what PyTorch counts."""

import pytest

from model_costs import (
    CHUNK,
    MODELS,
    Size,
    counted_flops,
    equal_length,
    flash,
    flash_flops,
    flops_rows,
    transformer_flops,
)

SMALL = Size(hidden_size=64, units=2, query_key_dim=16)


@pytest.mark.parametrize("length", [96, 2 * CHUNK])
@pytest.mark.parametrize("name", MODELS)
def test_the_formula_is_the_count(name: str, length: int):
    build, formula = MODELS[name]
    assert counted_flops(build(SMALL).base_model, length) == formula(SMALL, length) * length


def test_a_short_last_chunk_is_paid_for_in_full():
    model = flash(SMALL).base_model
    attention = SMALL.units * 2 * CHUNK * (SMALL.query_key_dim + SMALL.inner_dim)
    linear = SMALL.units * 4 * SMALL.query_key_dim * SMALL.inner_dim
    padding = CHUNK - 1
    expected = flash_flops(SMALL, CHUNK + 1) * (CHUNK + 1) + padding * (attention + linear)
    assert counted_flops(model, CHUNK + 1) == expected


def test_the_models_of_a_size_have_as_many_parameters():
    counts = [build(Size(256, 2)).num_parameters() for build, _ in MODELS.values()]
    assert max(counts) < 1.01 * min(counts)


def test_the_crossing_is_where_flash_becomes_the_cheaper_one():
    length = equal_length(SMALL)
    assert flash_flops(SMALL, length) <= transformer_flops(SMALL, length)
    assert flash_flops(SMALL, length - 1) > transformer_flops(SMALL, length - 1)


def test_a_row_gives_the_ratio_to_the_transformer():
    rows = {row[0]: row[1:] for row in flops_rows(SMALL, [128])}
    assert rows["Transformer"][0].endswith("(1.00)")
    assert all(row[-1] == "0.0%" for row in rows.values())
