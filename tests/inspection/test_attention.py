import pytest
import torch

from flash import FLASHConfig, FLASHModel, FLASHQuadModel
from flash.inspection.attention import attention_statistics, rows_of_real_tokens
from flash.layers.gated_unit import TokenContext
from flash.layers.mixed_chunk_unit import ChunkContext
from flash.ops.chunk_layout import left_aligned_layout

from helpers import CURED, EARLIER, FLOAT32, random_tokens, tiny_config

close = torch.testing.assert_close


def all_real(rows, length):
    return torch.ones(rows, length, dtype=torch.bool)


@pytest.mark.parametrize("length", [1, 2, 7, 16])
@pytest.mark.parametrize("size", [1e-6, 1.0, 30.0])
def test_uniform_attention_has_all_keys_and_the_mean_distance_of_two_positions(length, size):
    statistics = attention_statistics(torch.full((3, length, length), size), all_real(3, length))
    close(statistics.effective_keys, torch.ones(3 * length), **FLOAT32)
    close(statistics.self_share, torch.full((3 * length,), 1 / length), **FLOAT32)
    close(statistics.distance.mean(), torch.tensor((length**2 - 1) / (3 * length)), **FLOAT32)
    i = torch.arange(length)
    right = length - 1 - i
    by_row = (i * (i + 1) + right * (right + 1)) / (2 * length)
    close(statistics.distance, by_row.repeat(3), **FLOAT32)
    assert not statistics.zero_share.any()
    assert not statistics.empty.any()


def test_attention_to_oneself_has_no_distance_and_one_key():
    statistics = attention_statistics(3 * torch.eye(5)[None], all_real(1, 5))
    assert statistics.distance.tolist() == [0.0] * 5
    assert statistics.self_share.tolist() == [1.0] * 5
    close(statistics.effective_keys, torch.full((5,), 1 / 5))
    close(statistics.zero_share, torch.full((5,), 4 / 5))


def test_a_row_over_some_keys_alone_counts_these():
    weights = torch.zeros(1, 4, 4)
    weights[0, 1] = torch.tensor([1.0, 0.0, 0.0, 3.0])
    statistics = attention_statistics(weights, all_real(1, 4))
    entropy = -(0.25 * torch.tensor(0.25).log() + 0.75 * torch.tensor(0.75).log())
    assert statistics.distance[1] == pytest.approx(0.25 * 1 + 0.75 * 2)
    assert statistics.effective_keys[1] == pytest.approx(entropy.exp().item() / 4)
    assert statistics.zero_share[1] == 0.5


def test_a_row_without_weight_is_counted_and_has_no_distance():
    weights = torch.ones(1, 3, 3)
    weights[0, 1] = 0.0
    statistics = attention_statistics(weights, all_real(1, 3))
    assert statistics.empty.tolist() == [0.0, 1.0, 0.0]
    assert statistics.zero_share.tolist() == [0.0, 1.0, 0.0]
    assert statistics.distance.isnan().tolist() == [False, True, False]


def test_weights_at_padding_do_not_count():
    real = torch.tensor([[False, True, True, True, False]])
    weights = torch.full((1, 5, 5), 100.0)
    weights[:, 1:4, 1:4] = 1.0
    statistics = attention_statistics(weights, real)
    alone = attention_statistics(torch.ones(1, 3, 3), all_real(1, 3))
    for name, expected in vars(alone).items():
        close(getattr(statistics, name), expected)


@pytest.mark.parametrize("side", ["none", "left", "right"])
def test_distances_within_chunks_are_those_of_tokens_counted_one_by_one(side):
    config = FLASHConfig(**(tiny_config(**CURED).to_dict() | {"chunk_size": 4, "model_type": "flash"}))
    model = FLASHModel(config).eval()
    lengths = [11, 6] if side != "none" else [11, 11]
    input_ids, mask = torch.zeros(2, 11, dtype=torch.long), torch.zeros(2, 11, dtype=torch.bool)
    for row, length in enumerate(lengths):
        columns = slice(11 - length, 11) if side == "left" else slice(length)
        input_ids[row, columns] = random_tokens(length, seed=row)
        mask[row, columns] = True
    context = model.make_context(TokenContext(None, mask), (2, 11), None)
    assert isinstance(context, ChunkContext)
    weights = model(input_ids=input_ids, attention_mask=mask, output_attentions=True).attentions[0].detach()
    statistics = attention_statistics(*rows_of_real_tokens(weights, context))

    expected = []
    for row, length in enumerate(lengths):
        for i in range(length):
            chunk, begin = i // 4, 4 * (i // 4)
            keys = range(begin, min(begin + 4, length))
            row_weights = [weights[row, chunk, i - begin, j - begin].item() for j in keys]
            distance = sum(w * abs(i - j) for w, j in zip(row_weights, keys, strict=True))
            expected.append(distance / sum(row_weights) if sum(row_weights) else float("nan"))
    close(statistics.distance, torch.tensor(expected), equal_nan=True, **FLOAT32)
    assert len(expected) == sum(lengths)


def test_slots_follow_the_layout_where_padding_stands_on_the_left():
    mask = torch.tensor([[False, False, True, True, True, True]])
    context = ChunkContext(None, mask, layout=left_aligned_layout(mask))
    rows, real = rows_of_real_tokens(torch.ones(1, 2, 3, 3), context)
    assert rows.shape == (2, 3, 3)
    assert real.tolist() == [[True, True, True], [True, False, False]]


@pytest.mark.parametrize("settings", [EARLIER, CURED], ids=["earlier", "cured"])
def test_weights_of_all_pairs_need_no_rearranging(settings):
    model = FLASHQuadModel(tiny_config(**settings)).eval()
    weights = model(input_ids=random_tokens(2, 5), output_attentions=True).attentions[0]
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    rows, real = rows_of_real_tokens(weights, TokenContext(None, mask))
    assert rows is weights or torch.equal(rows, weights)
    assert torch.equal(real, mask)


def test_a_context_without_a_mask_is_refused():
    with pytest.raises(ValueError, match="pass the model an attention_mask"):
        rows_of_real_tokens(torch.ones(1, 2, 2), TokenContext())
