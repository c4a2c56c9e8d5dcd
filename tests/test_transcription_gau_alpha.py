"""Facts about ``transcription_gau_alpha`` alone, and that it agrees with ``transcription_attention``."""

import pytest
import torch

from transcription import rotate
from transcription_attention import unit as family_unit
from transcription_gau_alpha import gated_attention_unit, masked_lm_logits, random_checkpoint, rotate_interleaved

ROUNDING = {"rtol": 1e-12, "atol": 1e-12}
HIDDEN, WIDE, KEY_DIM = 8, 16, 4


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def small_checkpoint(**sizes):
    defaults = {"vocab_size": 20, "hidden_size": HIDDEN, "num_hidden_layers": 2, "s": KEY_DIM, "seed": 0}
    return random_checkpoint(**(defaults | sizes))


@pytest.fixture(params=["softmax_plus", "softmax", "squared_relu"])
def normalization(request):
    return request.param


def test_interleaved_rotation_is_the_half_split_one_of_the_reordered_channels():
    query, key = normal(2, 6)
    reordered = torch.cat([query[0::2], query[1::2]])
    torch.testing.assert_close(rotate_interleaved(query, 7), rotate(reordered, 7), **ROUNDING)
    turned = [[rotate_interleaved(x, position) for position in range(9)] for x in (query, key)]
    for x, rotations in zip((query, key), turned, strict=True):
        torch.testing.assert_close(torch.stack([y.norm() for y in rotations]), x.norm().expand(9), **ROUNDING)
    torch.testing.assert_close(turned[0][1] @ turned[1][4], turned[0][5] @ turned[1][8], **ROUNDING)
    assert abs(turned[0][1] @ turned[1][4] - turned[0][4] @ turned[1][1]) > 1e-2


def test_padding_on_either_side_changes_no_logits(normalization):
    sentence, other = [5, 6, 7, 8], [3, 1, 4, 1, 5, 9, 2]
    checkpoint = small_checkpoint()
    alone, _, _ = masked_lm_logits(checkpoint, torch.tensor([sentence]), normalization=normalization)
    batch = torch.tensor([[0, *sentence, 0, 0], other])
    together, _, attentions = masked_lm_logits(checkpoint, batch, normalization=normalization)
    torch.testing.assert_close(together[:1, 1:5], alone, **ROUNDING)
    assert not attentions[0][0, [0, 5, 6]].any()
    assert not attentions[0][0, :, [0, 5, 6]].any()


def test_hidden_states_have_root_mean_square_one_and_give_the_logits(normalization):
    checkpoint, input_ids = small_checkpoint(), torch.tensor([[5, 6, 7, 8, 9]])
    logits, hidden_states, attentions = masked_lm_logits(checkpoint, input_ids, normalization=normalization)
    assert [tuple(hidden.shape) for hidden in hidden_states] == [(1, 5, HIDDEN)] * 3
    for hidden in hidden_states:
        torch.testing.assert_close(hidden.square().mean(-1), torch.ones(1, 5).double(), rtol=0, atol=1e-9)
    words = checkpoint["gau_alpha.embeddings.word_embeddings.weight"].double()
    torch.testing.assert_close(logits, hidden_states[-1] @ words.T, **ROUNDING)
    sums = torch.stack(attentions).sum(-1)
    assert (normalization != "squared_relu") == torch.allclose(sums, torch.ones_like(sums), rtol=0, atol=1e-12)


def test_softmax_plus_is_softmax_at_the_longest_length():
    checkpoint, input_ids = small_checkpoint(), torch.tensor([[5, 6, 7, 8, 9, 0]])
    plain, _, _ = masked_lm_logits(checkpoint, input_ids, normalization="softmax")
    full, _, _ = masked_lm_logits(checkpoint, input_ids, max_position_embeddings=5)
    default, _, _ = masked_lm_logits(checkpoint, input_ids)
    torch.testing.assert_close(full, plain, **ROUNDING)
    assert (default - plain).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("normalization", "function", "divisor"),
    [("softmax_plus", "entropy_softmax", "constant"), ("squared_relu", "squared_relu", "true_length")],
)
def test_a_unit_is_a_post_norm_unit_of_the_other_transcription(normalization, function, divisor):
    checkpoint, mask = small_checkpoint(), torch.tensor([[True] * 4 + [False] * 2, [True] * 6])
    prefix = "gau_alpha.encoder.layer.0.gau."
    layer = {name.removeprefix(prefix): value for name, value in checkpoint.items() if name.startswith(prefix)}
    x, reordered = normal(2, 6, HIDDEN), [0, 2, 1, 3]
    expected, expected_weights = gated_attention_unit(
        x, layer, mask=mask, normalization=normalization, max_position_embeddings=512, eps=1e-12, hidden_act="silu"
    )
    rows = [*range(2 * WIDE), *(2 * WIDE + channel for channel in reordered)]
    named = {"norm.weight": torch.ones(HIDDEN), "in_proj.weight": layer["i_dense.weight"][rows]}
    named |= {"in_proj.bias": torch.zeros(len(rows)), "out_proj.bias": torch.zeros(HIDDEN)}
    named |= {"out_proj.weight": layer["o_dense.weight"], "offset_scale.offset": torch.zeros(2, KEY_DIM)}
    gains = torch.stack([layer["q_scaleoffset.weight"], layer["k_scaleoffset.weight"]])
    named["offset_scale.gain"] = gains[:, reordered]
    options = {"attention_function": function, "score_scale": "inverse_sqrt_dim", "score_divisor": divisor}
    options |= {"norm_position": "post", "norm_type": "rms_norm", "eps": 1e-12, "length": 512}
    output, matrix = family_unit(x, named, mask=mask, bias=torch.zeros(6, 6), **options)
    torch.testing.assert_close(output, expected, **ROUNDING)
    torch.testing.assert_close(matrix, expected_weights, **ROUNDING)


def test_every_entry_of_a_checkpoint_matters_and_has_its_published_name():
    checkpoint, input_ids = small_checkpoint(num_hidden_layers=1), torch.tensor([[5, 6, 7, 8]])
    layer = "gau_alpha.encoder.layer.0.gau."
    assert {name: tuple(value.shape) for name, value in checkpoint.items()} == {
        "gau_alpha.embeddings.word_embeddings.weight": (20, HIDDEN),
        "gau_alpha.embeddings.token_type_embeddings.weight": (2, HIDDEN),
        f"{layer}i_dense.weight": (2 * WIDE + KEY_DIM, HIDDEN),
        f"{layer}o_dense.weight": (HIDDEN, WIDE),
        f"{layer}q_scaleoffset.weight": (KEY_DIM,),
        f"{layer}k_scaleoffset.weight": (KEY_DIM,),
        "cls.predictions.decoder.weight": (20, HIDDEN),
    }
    logits, _, _ = masked_lm_logits(checkpoint, input_ids)
    for name, value in checkpoint.items():
        other, _, _ = masked_lm_logits(checkpoint | {name: 1.05 * value}, input_ids)
        assert (other - logits).abs().max() > 1e-3, name


def test_autograd_agrees_with_finite_differences(normalization):
    checkpoint = small_checkpoint(num_hidden_layers=1, vocab_size=4, hidden_size=4, s=2)
    names = sorted(checkpoint)

    def logits(*values):
        chosen = dict(zip(names, values, strict=True))
        return masked_lm_logits(chosen, torch.tensor([[1, 3, 2, 0]]), normalization=normalization)[0]

    assert torch.autograd.gradcheck(logits, [checkpoint[name].double().requires_grad_() for name in names])


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="s must be even to be rotated in pairs, got 3"):
        small_checkpoint(s=3)
    with pytest.raises(ValueError, match="softmax_plus, softmax or squared_relu, got 'relu'"):
        masked_lm_logits(small_checkpoint(), torch.tensor([[1, 2]]), normalization="relu")
