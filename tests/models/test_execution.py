"""Every backend of the attention, and leaving padding out, give what the reference gives."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flash import (
    FLASHConfig,
    FLASHForCausalLM,
    FLASHForMaskedLM,
    FLASHModel,
    FLASHQuadConfig,
    FLASHQuadForCausalLM,
    FLASHQuadForMaskedLM,
    FLASHQuadModel,
    GAUAlphaConfig,
    GAUAlphaModel,
)
from flash.errors import InputError
from flash.models.execution import warn_of_missing_kernels
from flash.models.token_packing import pack_tokens
from flash.ops.backends import choose_backend

from helpers import CURED, FLOAT64, few_examples, normal, random_tokens

CPU = torch.device("cpu")
CUDA = torch.device("cuda")
SIZES = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2, "query_key_dim": 8, "max_position_embeddings": 16}


FAMILIES = {
    "flash_quad": (FLASHQuadConfig, FLASHQuadForMaskedLM, FLASHQuadForCausalLM),
    "flash": (FLASHConfig, FLASHForMaskedLM, FLASHForCausalLM),
}


def both(settings, family="flash_quad"):
    """The same model with the reference and with blocks, in float64."""
    configuration, *classes = FAMILIES[family]
    settings = SIZES | ({"chunk_size": 4} if family == "flash" else {}) | settings
    model = classes[settings.get("causal", False)](configuration(**settings)).double()
    with torch.no_grad():
        for seed, parameter in enumerate(model.parameters()):
            parameter.add_(normal(*parameter.shape, seed=seed), alpha=0.3)
    other = copy.deepcopy(model)
    model.config.attention_backend, other.config.attention_backend = "reference", "blocked"
    return model.eval(), other.eval()


SETTINGS = [
    CURED,
    {},
    {"score_divisor": "true_length", "token_shift": 0.25},
    {"score_scale": "inverse_sqrt_dim", "score_divisor": "row_sum", "relative_bias": "bucketed"},
    {"score_divisor": "true_length", "score_scale": "inverse_sqrt_dim", "relative_bias": "rotary_product"},
]


def batches():
    tokens = random_tokens(3, 11)
    mask = torch.ones_like(tokens)
    mask[0, 7:], mask[1, :3] = 0, 0
    holes = mask.clone()
    holes[2, 5] = 0
    segments = torch.tensor([[0] * 4 + [1] * 7, [3] * 11, [0] * 1 + [5] * 9 + [0]])
    return {
        "no padding": {"input_ids": tokens},
        "all real": {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)},
        "padding": {"input_ids": tokens, "attention_mask": mask},
        "packed": {"input_ids": tokens, "seq_idx": segments},
        "packed and padded": {"input_ids": tokens, "seq_idx": segments, "attention_mask": mask},
        "padding inside": {"input_ids": tokens, "attention_mask": holes},
    }


# see test_an_explicit_wish_that_cannot_be_met_says_why
REFUSED = ("flash", "padding inside")
COMPUTED = [(family, kind) for family in FAMILIES for kind in batches() if (family, kind) != REFUSED]


@pytest.mark.parametrize(("family", "kind"), COMPUTED)
@pytest.mark.parametrize("settings", SETTINGS)
def test_hidden_states_logits_and_gradients_are_those_of_the_reference(settings, family, kind):
    batch = batches()[kind]
    real = batch.get("attention_mask", torch.ones_like(batch["input_ids"])).bool()
    labels = torch.where(real, batch["input_ids"], -100)
    results = []
    for model in both(settings, family):
        outputs = model(**batch, labels=labels, output_hidden_states=True)
        gradients = torch.autograd.grad(outputs.loss, list(model.parameters()), materialize_grads=True)
        results.append([outputs.logits[real], *(state[real] for state in outputs.hidden_states), *gradients])
    torch.testing.assert_close(results[1], results[0], **FLOAT64)


@pytest.mark.parametrize("family", ["flash_quad", "flash"])
def test_a_causal_model_gives_the_same_too(family):
    tokens = random_tokens(2, 11)
    mask = torch.ones_like(tokens)
    mask[0, 8:] = 0
    for batch in ({}, {"attention_mask": mask}):
        reference, blocked = both({**CURED, "causal": True}, family)
        blocked.config.attention_backend = "auto"
        for training in (False, True):
            found, expected = (
                model.train(training)(input_ids=tokens, use_cache=False, **batch).logits[mask.bool()]
                for model in (blocked, reference)
            )
            torch.testing.assert_close(found, expected, **FLOAT64)


@pytest.mark.parametrize("family", ["flash_quad", "flash"])
@pytest.mark.parametrize("kind", ["padding", "packed"])
def test_one_row_of_positions_stands_for_all_rows(family, kind):
    positions = torch.arange(11).flip(0)[None]
    for model in both(CURED, family):
        found, expected = (
            model(**batches()[kind], position_ids=given).logits for given in (positions, positions.expand(3, 11))
        )
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_what_is_padding_is_zero_where_it_was_left_out():
    _, model = both(CURED)
    mask = torch.tensor([[1] * 6 + [0] * 5])
    states = model(random_tokens(1, 11), attention_mask=mask, output_hidden_states=True).hidden_states
    assert all(not state[0, 6:].any() for state in states)
    assert all(state.shape == (1, 11, 16) for state in states)


def test_auto_gives_attention_weights_when_they_are_asked_for():
    reference, model = both(CURED)
    model.config.attention_backend = "auto"
    batch = batches()["padding"]
    found, expected = (m(**batch, output_attentions=True).attentions for m in (model, reference))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("build", "batch", "message"),
    [
        (lambda: FLASHQuadModel(FLASHQuadConfig(**SIZES)), {"output_attentions": True}, "attention weights"),
        (
            lambda: FLASHQuadModel(
                FLASHQuadConfig(**SIZES, attention_function="softmax", score_scale="inverse_sqrt_dim")
            ),
            {},
            "attention function 'softmax'",
        ),
        (
            lambda: FLASHModel(FLASHConfig(**SIZES, chunk_size=4)),
            {"attention_mask": torch.tensor([[1, 0, 1, 1]])},
            "padding inside a sequence",
        ),
        (
            lambda: GAUAlphaModel(
                GAUAlphaConfig(
                    vocab_size=20,
                    hidden_size=16,
                    num_hidden_layers=1,
                    intermediate_size=32,
                    attention_key_size=8,
                    normalization="squared_relu",
                )
            ).train(),
            {},
            "dropout of attention weights",
        ),
    ],
)
def test_an_explicit_wish_that_cannot_be_met_says_why(build, batch, message):
    model = build()
    model.config.attention_backend = "blocked"
    with pytest.raises(InputError, match=message):
        model(random_tokens(1, 4), **batch)
    model.config.attention_backend = "auto"
    model(random_tokens(1, 4), **batch)


@pytest.mark.parametrize(
    ("length", "batch", "message"),
    [
        (6, {}, "a length that is no multiple of the chunk size in a compiled graph"),
        (8, {"attention_mask": torch.ones(1, 8, dtype=torch.bool)}, "a padding mask in a compiled graph"),
        (8, {"seq_idx": torch.zeros(1, 8, dtype=torch.long)}, r"packed rows \(seq_idx\) in a compiled graph"),
    ],
)
def test_what_a_graph_of_flash_cannot_know_is_named(length, batch, message, monkeypatch):
    model = FLASHModel(FLASHConfig(**SIZES, chunk_size=4, pad_token_id=None, attention_backend="blocked"))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    with pytest.raises(InputError, match=message):
        model(random_tokens(1, length), **batch)


@pytest.mark.parametrize("model_class", [FLASHQuadModel, FLASHModel, GAUAlphaModel])
def test_a_trace_that_would_keep_the_padding_of_its_example_is_refused(model_class):
    model = model_class(model_class.config_class(vocab_size=20, hidden_size=16, num_hidden_layers=1)).eval()
    tokens = random_tokens(2, 5)
    with pytest.raises(InputError, match=r"torch\.jit\.trace would keep the padding.*; use torch\.export"):
        torch.jit.trace(model, (tokens, torch.ones_like(tokens)), strict=False)


def test_graphs_are_few_over_many_lengths():
    script = Path(__file__).with_name("compile_lengths.py")
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    graphs = dict(line.split() for line in ran.stdout.splitlines())
    # one for the first length and one for any; of FLASH, each for whole chunks, short ones, and less than a chunk
    assert int(graphs["flash-quad"]) <= 2
    assert int(graphs["flash"]) <= 6


@pytest.mark.parametrize("backend", ["fused", "materialized"])
def test_the_kernels_name_what_they_lack_on_a_cpu(monkeypatch, backend):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    model = FLASHQuadModel(FLASHQuadConfig(**SIZES, attention_backend=backend))
    with pytest.raises(
        InputError, match=rf"attention_backend='{backend}' cannot run: (triton is not|the kernels need)"
    ):
        model(random_tokens(1, 4))


@pytest.mark.skipif(torch.cuda.is_available(), reason="in the interpreter of Triton, which runs where no GPU is")
@pytest.mark.parametrize("family", ["flash_quad", "flash"])
@pytest.mark.parametrize("backend", ["fused", "materialized"])
def test_a_model_on_the_kernels_computes_what_the_reference_does(family, backend, monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    batch = batches()["padding"]
    real = batch["attention_mask"].bool()
    reference, model = (model.float() for model in both(CURED, family))
    model.config.attention_backend = backend
    results = []
    for one in (model, reference):
        outputs = one(**batch, labels=torch.where(real, batch["input_ids"], -100))
        results.append([outputs.logits[real], *torch.autograd.grad(outputs.loss, list(one.parameters()))])
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-4)


def test_auto_leaves_to_blocks_what_the_kernels_do_not_take():
    device = torch.device("cuda")
    for dtype, key_dim in ((torch.float64, 64), (torch.bfloat16, 512)):
        assert choose_backend("auto", device=device, dtype=dtype, key_dim=key_dim) == "blocked"
        with pytest.raises(InputError, match="attention_backend='fused' cannot run"):
            choose_backend("fused", device=device, dtype=dtype, key_dim=key_dim)


def test_the_backend_is_a_setting_of_a_run_and_not_saved(tmp_path):
    model = FLASHQuadModel(FLASHQuadConfig(**SIZES, attention_backend="blocked"))
    model.save_pretrained(tmp_path)
    assert "attention_backend" not in (tmp_path / "config.json").read_text()
    assert FLASHQuadModel.from_pretrained(tmp_path).config.attention_backend == "auto"
    again = FLASHQuadModel.from_pretrained(tmp_path, attention_backend="reference")
    assert again.config.attention_backend == "reference"


def test_an_unknown_backend_is_refused():
    with pytest.raises(Exception, match="attention_backend"):
        FLASHQuadConfig(**SIZES, attention_backend="flash_attention_3")


@few_examples
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6), st.integers(0, 3)), min_size=1, max_size=5))
def test_packing_keeps_every_real_token_once_and_in_order(rows):
    width = max(sum(row) for row in rows) + 1
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for row, (before, real, _) in zip(mask, rows, strict=True):
        row[before : before + real] = True
    packing = pack_tokens(mask, None, tuple(mask.shape), CPU)
    if not mask.any():
        assert packing is None
        return
    assert packing.sequences.lengths == sorted(mask.sum(dim=1)[mask.any(dim=1)].tolist())
    tokens = torch.arange(mask.numel()).view(mask.shape)
    packed = packing.pack(tokens)[0]
    assert sorted(packed.tolist()) == tokens[mask].tolist()
    assert (packed.diff()[packing.sequences.numbers().diff() == 0] == 1).all()
    assert torch.equal(packing.unpack(packed[None]), tokens * mask)


def test_training_on_a_gpu_that_cannot_run_the_kernels_says_so(monkeypatch, caplog):
    pytest.importorskip("triton", reason="without it nothing else is asked")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    for config, device in [
        (FLASHQuadConfig(), CPU),
        (FLASHQuadConfig(attention_backend="blocked"), CUDA),
        (FLASHQuadConfig(attention_function="softmax", score_scale="inverse_sqrt_dim"), CUDA),
        (GAUAlphaConfig(), CUDA),
    ]:
        warn_of_missing_kernels(config, device)
    assert not caplog.messages
    warn_of_missing_kernels(FLASHConfig(), CUDA)
    (message,) = caplog.messages
    assert "blocks in plain PyTorch" in message
    assert "need compute capability 8.0, Tesla T4 has 7.5" in message
