"""What every class of every architecture does like any model of transformers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from accelerate import cpu_offload
from accelerate.utils import send_to_device
from torch import nn

import flash

from every_class import CLASSES, ENDINGS, FAMILIES, build, example, for_every_class, for_every_head, scores
from families import randomize
from helpers import EXACT, FLOAT32, VOCABULARY, random_tokens


def test_every_public_class_is_tested_here():
    configs = {f"{family}Config" for family in FAMILIES}
    assert set(flash.__all__) == {family + ending for family, ending in CLASSES} | configs


@for_every_class
def test_the_auto_classes_know_it(family, ending, tmp_path):
    model = build(family, ending)
    auto_class = getattr(transformers, "AutoModel" + ending.removeprefix("Model"))
    assert type(auto_class.from_config(model.config)) is type(model)
    model.save_pretrained(tmp_path)
    assert type(auto_class.from_pretrained(tmp_path)) is type(model)
    assert type(transformers.AutoConfig.from_pretrained(tmp_path)) is type(model.config)


@for_every_class
def test_saved_and_loaded_it_is_the_same_bit_for_bit_whole_or_in_shards(family, ending, tmp_path):
    model = build(family, ending)
    inputs = example(ending).inputs
    expected = scores(model(**inputs))
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "shards", max_shard_size="8KB")
    shards = json.loads((tmp_path / "shards" / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(shards.values())) > 1
    for folder in ("whole", "shards"):
        again, report = type(model).from_pretrained(tmp_path / folder, output_loading_info=True)
        assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        for (name, new), old in zip(again.state_dict().items(), model.state_dict().values(), strict=True):
            assert torch.equal(new, old), name
        # loaded tensors may lie otherwise in memory, for which a matrix product may sum in another order
        torch.testing.assert_close(scores(again.eval()(**inputs)), expected, **FLOAT32)


@for_every_class
def test_built_on_the_meta_device_it_takes_weights_and_lacks_none(family, ending):
    model = build(family, ending)
    with torch.device("meta"):
        empty = type(model)(model.config)
    assert {p.device.type for p in empty.parameters()} == {"meta"}
    empty.load_state_dict(model.state_dict(), assign=True)
    empty.tie_weights()
    assert not any(t.is_meta for t in [*empty.parameters(), *empty.buffers()])
    inputs = example(ending).inputs
    assert torch.equal(scores(empty.eval()(**inputs)), scores(model(**inputs)))


@for_every_head
def test_its_loss_reaches_every_parameter(family, ending):
    model = build(family, ending).train()
    case = example(ending)
    outputs = model(**case.inputs, **case.labels)
    assert outputs.loss.isfinite()
    assert outputs.loss.shape == ()
    outputs.loss.backward()
    untouched = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()}
    assert not untouched
    assert "loss" not in model(**case.inputs)


@for_every_class
def test_embeddings_in_place_of_ids_give_the_same(family, ending):
    model = build(family, ending)
    inputs = example(ending).inputs
    expected = scores(model(**inputs))
    embeddings = model.get_input_embeddings()(inputs["input_ids"])
    rest = {name: value for name, value in inputs.items() if name != "input_ids"}
    assert torch.equal(scores(model(inputs_embeds=embeddings, **rest)), expected)


@for_every_class
def test_token_types_and_positions_are_read(family, ending):
    model = build(family, ending)
    inputs = example(ending).inputs
    expected = scores(model(**inputs))
    others = inputs | {"token_type_ids": 1 - inputs["token_type_ids"]}
    assert not torch.equal(scores(model(**others)), expected)
    far = torch.arange(9).expand(inputs["input_ids"].shape) + 50
    changed = not torch.equal(scores(model(**inputs, position_ids=far)), expected)
    assert changed == (family != "GAUAlpha")  # which has no sinusoid: distances are all it knows


@for_every_class
def test_hidden_states_and_attentions_come_when_asked_for(family, ending):
    model = build(family, ending)
    model.config.attention_backend = "reference"  # the one that has the weights
    inputs = example(ending).inputs
    rows = 6 if ending == "ForMultipleChoice" else 3
    plain = model(**inputs)
    assert plain.hidden_states is None
    assert plain.attentions is None
    outputs = model(**inputs, output_hidden_states=True, output_attentions=True)
    assert [tuple(h.shape) for h in outputs.hidden_states] == [(rows, 9, 16)] * 3
    # nine tokens in chunks of four
    attention = (rows, 3, 4, 4) if family == "FLASH" else (rows, 9, 9)
    assert [tuple(a.shape) for a in outputs.attentions] == [attention] * 2
    assert torch.equal(scores(outputs), scores(plain))
    (last,) = (h for h in model(**inputs, output_hidden_states=-1).hidden_states if h is not None)
    assert torch.equal(last, outputs.hidden_states[-1])
    some = model(**inputs, output_hidden_states=[0, 2]).hidden_states
    assert [h is None for h in some] == [False, True, False]
    sum(h.square().mean() for h in outputs.hidden_states).backward()
    assert model.get_input_embeddings().weight.grad.abs().max() > 0


@for_every_class
def test_a_tuple_holds_what_the_named_output_holds(family, ending):
    model = build(family, ending)
    case = example(ending)
    named = model(**case.inputs, **case.labels, output_hidden_states=True)
    plain = model(**case.inputs, **case.labels, output_hidden_states=True, return_dict=False)
    assert type(plain) is tuple
    expected = named.to_tuple()
    assert len(plain) == len(expected)
    for ours, theirs in zip(plain, expected, strict=True):
        torch.testing.assert_close(ours, theirs, **EXACT)


@for_every_class
def test_a_configuration_may_ask_for_tuples(family, ending):
    model = build(family, ending, return_dict=False)
    inputs = example(ending).inputs
    assert type(model(**inputs)) is tuple
    assert torch.equal(model(**inputs)[0], model(**inputs, return_dict=True)[0])


@for_every_class
def test_use_cache_may_be_said_where_there_is_no_cache(family, ending):
    model = build(family, ending)
    inputs = example(ending).inputs | {"use_cache": False}
    assert torch.equal(scores(model(**inputs)), scores(model(**example(ending).inputs)))


@for_every_class
def test_gradient_checkpointing_computes_each_layer_twice_and_changes_no_gradient(family, ending):
    case = example(ending)
    gradients = []
    for checkpointing in (False, True):
        # dropout would draw other numbers
        dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0} if family == "GAUAlpha" else {}
        model = build(family, ending, classifier_dropout=0.0, **dropout).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        passes = []
        for layer in model.base_model.layers:
            layer.in_proj.register_forward_hook(lambda *_, passes=passes: passes.append(1))
        scores(model(**case.inputs)).square().mean().backward()
        assert len(passes) == (4 if checkpointing else 2)
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(*gradients, **FLOAT32)


@for_every_class
def test_more_tokens_can_be_embedded_and_scored(family, ending):
    model = build(family, ending)
    case = example(ending)
    before = scores(model(**case.inputs))
    model.resize_token_embeddings(VOCABULARY + 5)
    assert model.config.vocab_size == VOCABULARY + 5
    assert model.get_input_embeddings().weight.shape[0] == VOCABULARY + 5
    after = scores(model(**case.inputs))
    if ending.endswith("LM"):
        assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
        assert after.shape[-1] == VOCABULARY + 5
        after = after[..., :VOCABULARY]
    torch.testing.assert_close(after, before, **EXACT)
    case.inputs["input_ids"] = torch.where(case.inputs["input_ids"] == 3, VOCABULARY + 4, case.inputs["input_ids"])
    assert scores(model(**case.inputs, **case.labels)).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@for_every_class
def test_half_precision_is_finite_with_its_gradients(family, ending, dtype):
    model = build(family, ending).to(dtype)
    case = example(ending)
    outputs = model(**case.inputs, **case.labels)
    assert scores(outputs).dtype == dtype
    assert scores(outputs).isfinite().all()
    scores(outputs).float().square().mean().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    "names",
    [
        ["FLASHQuadForMaskedLM", "FLASHForCausalLM"],
        pytest.param([family + ending for family, ending in CLASSES], marks=pytest.mark.slow),
    ],
    ids=["two", "all"],
)
def test_it_compiles_into_one_graph_that_trains(names):
    script = Path(__file__).with_name("compile_every_class.py")
    paths = os.pathsep.join(str(folder) for folder in (script.parent, script.parent.parent))
    environment = os.environ | {"PYTHONPATH": paths}
    ran = subprocess.run([sys.executable, script, *names], capture_output=True, text=True, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr
    errors = dict(line.split() for line in ran.stdout.splitlines())
    assert list(errors) == names
    assert max(map(float, errors.values())) < 1e-5


@pytest.mark.usefixtures("without_shape_checks")
@for_every_class
def test_it_exports_for_any_length_and_padding(family, ending):
    model = build(family, ending)
    model.config.attention_backend = "reference"  # what a graph for other programs has, at padding too
    inputs = example(ending).inputs
    free = {
        name: {value.dim() - 1: torch.export.Dim.AUTO} if isinstance(value, torch.Tensor) else None
        for name, value in inputs.items()
    }
    exported = torch.export.export(model, (), inputs, dynamic_shapes=free).module()
    torch.testing.assert_close(scores(exported(**inputs)), scores(model(**inputs)), **FLOAT32)
    # beyond the trained length of 16, other padding
    longer = {
        name: value.repeat(*([1] * (value.dim() - 1)), 3)[..., :22] if isinstance(value, torch.Tensor) else value
        for name, value in inputs.items()
    }
    torch.testing.assert_close(scores(exported(**longer)), scores(model(**longer)), **FLOAT32)


@pytest.mark.parametrize("family", FAMILIES)
def test_encoders_with_different_heads_share_their_weights(family, tmp_path):
    build(family, "ForMaskedLM").save_pretrained(tmp_path)
    states = []
    for ending in ENDINGS:
        if (family, ending) not in CLASSES or ending == "ForCausalLM":
            continue
        model = getattr(flash, family + ending).from_pretrained(tmp_path).eval()
        states.append(model.base_model(example("Model").inputs["input_ids"]).last_hidden_state)
    assert all(torch.equal(state, states[0]) for state in states)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_head_is_a_linear_map_of_the_vectors_it_is_said_to_read(family):
    inputs = example("Model").inputs
    states = build(family, "Model")(**inputs).last_hidden_state
    first = states[torch.arange(3), torch.tensor([0, 2, 0])]  # the second row is padded on the left
    for ending, vectors in (
        ("ForSequenceClassification", first),
        ("ForTokenClassification", states),
    ):
        model = build(family, ending)
        model.base_model.load_state_dict(build(family, "Model").state_dict())
        head: nn.Linear = model.classifier.out_proj
        torch.testing.assert_close(model(**inputs).logits, head(vectors), **EXACT)
    reader = build(family, "ForQuestionAnswering")
    reader.base_model.load_state_dict(build(family, "Model").state_dict())
    outputs = reader(**inputs)
    spans = reader.qa_outputs(states)
    assert torch.equal(outputs.start_logits, spans[..., 0])
    assert torch.equal(outputs.end_logits, spans[..., 1])


@pytest.mark.parametrize("family", ["FLASHQuad", "FLASH"])
def test_a_causal_classifier_reads_the_last_real_token(family):
    model = build(family, "ForSequenceClassification", causal=True)
    inputs = example("Model").inputs
    states = model.base_model(**inputs, use_cache=False).last_hidden_state
    last = states[torch.arange(3), torch.tensor([6, 8, 8])]
    torch.testing.assert_close(model(**inputs).logits, model.classifier.out_proj(last), **EXACT)


@pytest.mark.parametrize("family", FAMILIES)
def test_choices_are_scored_as_rows_of_their_own(family):
    model = build(family, "ForMultipleChoice")
    inputs = example("ForMultipleChoice").inputs
    logits = model(**inputs).logits
    assert logits.shape == (3, 2)
    one = model(**{name: value[1:2, 1:2] for name, value in inputs.items()}).logits
    torch.testing.assert_close(one[0, 0], logits[1, 1], **FLOAT32)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("family", FAMILIES)
def test_one_graph_serves_whole_and_short_chunks(family):
    model = build(family, "ForMaskedLM")
    model.config.attention_backend = "reference"  # what a graph for other programs has, at padding too
    inputs = {"input_ids": random_tokens(2, 6), "attention_mask": torch.ones(2, 6, dtype=torch.long)}
    # in FLASH the solver of torch cannot prove what holds for every length from a chunk on, so a named range is refused
    length = torch.export.Dim.AUTO if family == "FLASH" else torch.export.Dim("length", min=2, max=512)
    exported = torch.export.export(model, (), inputs, dynamic_shapes={name: {1: length} for name in inputs}).module()
    for n in (4, 5, 7, 8, 12, 21):  # chunks have four tokens
        other = {"input_ids": random_tokens(2, n, seed=n), "attention_mask": torch.ones(2, n, dtype=torch.long)}
        other["attention_mask"][0, : n // 2] = 0
        torch.testing.assert_close(exported(**other).logits, model(**other).logits, **FLOAT32)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_layers_know_of_the_tokens_moves_between_devices_with_them(family):
    model = build(family, "Model")
    seen = []
    for layer in model.layers:
        layer.register_forward_pre_hook(lambda module, args: seen.append(args[1]))
    model(**example("Model").inputs)
    packed = send_to_device((seen[0],), "meta")[0].sequences
    if family != "GAUAlpha":  # whose softmax has the reference only
        assert packed.cumulative_lengths.is_meta
        assert packed.runs == seen[0].sequences.runs
    model.config.attention_backend = "reference"
    seen.clear()
    model(**example("Model").inputs)
    (moved,) = send_to_device((seen[0],), "meta")
    assert type(moved) is type(seen[0])
    assert moved.mask.is_meta
    assert all(x.is_meta for x in moved.rotary)
    if family == "FLASH":
        assert moved.layout.slots.is_meta
        assert moved.layout.length == seen[0].layout.length
    else:
        assert moved.pairs.is_meta


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("family", FAMILIES)
def test_weights_kept_elsewhere_change_nothing(family, backend):
    model = build(family, "ForMaskedLM")
    randomize(model, torch.Generator().manual_seed(0))  # first values, 0 and 1, would hide what is left out
    model.config.attention_backend = backend
    inputs = example("ForMaskedLM").inputs
    whole = inputs | {name: torch.ones_like(inputs[name]) for name in ("input_ids", "attention_mask")}
    expected = [scores(model(**batch)) for batch in (inputs, whole)]
    cpu_offload(model, torch.device("cpu"))
    assert all(parameter.is_meta for parameter in model.parameters())
    for batch, scored in zip((inputs, whole), expected, strict=True):
        torch.testing.assert_close(scores(model(**batch)), scored, **FLOAT32)


@pytest.mark.parametrize("family", ["FLASHQuad", "FLASH"])
def test_a_model_whose_weights_are_kept_elsewhere_generates_the_same(family):
    model = build(family, "ForCausalLM")
    randomize(model, torch.Generator().manual_seed(0))
    tokens = random_tokens(2, 6)
    expected = model.generate(tokens, max_new_tokens=6, do_sample=False)
    cpu_offload(model, torch.device("cpu"))
    assert torch.equal(model.generate(tokens, max_new_tokens=6, do_sample=False), expected)
