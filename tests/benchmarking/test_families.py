import pytest
import torch

from flash.benchmarking.families import FAMILIES, build, count_parameters, equal_parameters, matched_width
from flash.benchmarking.sizes import SIZES


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_the_parameters_of_flash_quad_within_three_percent(family, size):
    own, target = equal_parameters(family, SIZES[size])
    assert 0.97 <= own / target <= 1.03
    with torch.device("meta"):
        model = build(family, SIZES[size], length=512)
    # all of them: what is not counted are tables of positions
    tables = sum(p.numel() for name, p in model.named_parameters() if "position" in name or "relative" in name)
    assert own <= model.num_parameters() <= own + tables


@pytest.mark.parametrize("family", FAMILIES)
def test_the_count_does_not_depend_on_the_length(family):
    with torch.device("meta"):
        short, long = (count_parameters(build(family, SIZES["tiny"], length)) for length in (128, 512))
    assert short == long


def test_two_units_stand_for_one_transformer_layer():
    for size in SIZES.values():
        with torch.device("meta"):
            depths = {family: build(family, size, 128).config.num_hidden_layers for family in FAMILIES}
        assert {depths[name] for name in ("flash-quad", "flash", "earlier")} == {size.units}
        assert {depths[name] for name in ("bert", "modernbert", "modernbert-local")} == {size.units / 2}


def test_the_width_of_a_transformers_mlp_suits_a_gpu():
    assert matched_width("bert", SIZES["small"]) % 64 == matched_width("modernbert", SIZES["small"]) % 64 == 0


def test_transformer_plus_plus_sees_the_whole_text_in_every_layer_and_the_published_one_in_every_third():
    with torch.device("meta"):
        layers = {name: build(name, SIZES["tiny"], 128).config.layer_types for name in FAMILIES if "modern" in name}
    assert set(layers["modernbert"]) == {"full_attention"}
    assert layers["modernbert-local"].count("full_attention") == len(layers["modernbert-local"]) / 3


def test_peers_use_fused_attention():
    with torch.device("meta"):
        peers = [build(name, SIZES["tiny"], 128) for name, family in FAMILIES.items() if not family.gated]
    assert {model.config._attn_implementation for model in peers} == {"sdpa"}
