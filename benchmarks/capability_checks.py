"""What a model class may be able to do: one function a capability, which raises where it cannot.

A function returns nothing; ``NotApplicable`` says that the class has no such thing, ``InputError`` that the library
refuses it, and any other exception that it does not work. Each one looks at a result and not only for an exception.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from capability_expectations import HALF, NotApplicable, expect, expect_changed, expect_close, expect_same, run
from capability_subjects import CHUNK, LAYERS, LENGTH, LONGEST, PAD, ROWS, VOCABULARY, Subject, answer


def loss(subject: Subject) -> None:
    """A finite loss, and a finite gradient for every parameter."""
    model, inputs = subject.build().train(), subject.inputs()
    _loss_of(subject, model, inputs).backward()
    for name, parameter in model.named_parameters():
        expect(parameter.grad is not None and parameter.grad.isfinite().all(), f"no finite gradient for {name}")


def inputs_embeds(subject: Subject) -> None:
    """Word embeddings in place of ids give the same."""
    model, inputs = subject.build(), subject.inputs()
    embeds = model.get_input_embeddings()(inputs["input_ids"])
    given = run(model, inputs_embeds=embeds, attention_mask=inputs["attention_mask"])
    expect_same(given, run(model, **inputs), "outputs of inputs_embeds")


def position_ids(subject: Subject) -> None:
    """The default positions, given, change nothing; others do."""
    model, inputs = subject.build(), subject.inputs()
    positions = torch.arange(LENGTH).expand_as(inputs["input_ids"])
    default = run(model, **inputs)
    expect_same(run(model, **inputs, position_ids=positions), default, "outputs with the default positions given")
    if model.base_model.embeddings.position_embeddings is None:
        raise NotApplicable("no embedding of positions, and attention sees distances only")
    expect_changed(run(model, **inputs, position_ids=positions.flip(-1)), default, "other positions")


def token_type_ids(subject: Subject) -> None:
    """Zeros change nothing, ones do."""
    model, inputs = subject.build(), subject.inputs()
    types = torch.zeros_like(inputs["input_ids"])
    default = run(model, **inputs)
    expect_same(run(model, **inputs, token_type_ids=types), default, "outputs with token_type_ids 0")
    expect_changed(run(model, **inputs, token_type_ids=types + 1), default, "token_type_ids 1")


def hidden_states(subject: Subject) -> None:
    """One for the embeddings and one a layer; the last one is what heads see."""
    model, inputs = subject.build(), subject.inputs()
    states = model(**inputs, output_hidden_states=True).hidden_states
    expect(len(states) == LAYERS + 1, f"{len(states)} hidden states of {LAYERS} layers")
    last = model.base_model(**_flat(inputs)).last_hidden_state
    expect_same(states[-1], last, "the last hidden state")


def selected_hidden_states(subject: Subject) -> None:
    """A number or a list of numbers keeps those layers only."""
    model, inputs = subject.build(), subject.inputs()
    states = model(**inputs, output_hidden_states=True).hidden_states
    for selection, kept in ((1, [1]), ([0, -1], [0, LAYERS])):
        selected = model(**inputs, output_hidden_states=selection).hidden_states
        found = [i for i, state in enumerate(selected) if state is not None]
        expect(found == kept, f"output_hidden_states={selection} keeps {found}")
        for i in kept:
            expect_same(selected[i], states[i], f"hidden state {i}")


def attentions(subject: Subject) -> None:
    """The weights of each layer, in the shape that docs promise."""
    model, inputs = subject.build(), subject.inputs()
    weights = model(**inputs, output_attentions=True).attentions
    expect(len(weights) == LAYERS, f"{len(weights)} attentions of {LAYERS} layers")
    rows = inputs["input_ids"].numel() // LENGTH
    shape = (rows, -(-LENGTH // CHUNK), CHUNK, CHUNK) if subject.family == "FLASH" else (rows, LENGTH, LENGTH)
    for layer in weights:
        expect(tuple(layer.shape) == shape, f"attentions have the shape {tuple(layer.shape)}, not {shape}")
        expect((layer >= 0).all() and layer.sum() > 0, "attentions are negative, or all 0")


def return_tuple(subject: Subject) -> None:
    """The same outputs as a tuple, hidden states included."""
    model, inputs = subject.build(), subject.inputs()
    expected = model(**inputs, output_hidden_states=True, **_no_cache(subject)).to_tuple()
    given = model(**inputs, output_hidden_states=True, return_dict=False, **_no_cache(subject))
    expect(isinstance(given, tuple) and len(given) == len(expected), "not the tuple of the outputs")
    expect_same(given[0], expected[0], "the first output")
    for state, other in zip(given[-1], expected[-1], strict=True):
        expect_same(state, other, "hidden states")


def gradient_checkpointing(subject: Subject) -> None:
    """Layers run a second time in the backward pass, and the gradients are the same bit for bit."""
    inputs = subject.inputs()
    gradients = []
    for recompute in (False, True):
        model = subject.build().train()
        runs: list[int] = []
        model.base_model.layers[0].in_proj.register_forward_hook(lambda *_, runs=runs: runs.append(1))
        if recompute:
            model.gradient_checkpointing_enable()
        outputs = model(**inputs, **subject.labels(inputs["input_ids"]))
        (outputs.last_hidden_state.square().sum() if subject.ending == "Model" else outputs.loss).backward()
        expect(len(runs) == 1 + recompute, f"a layer ran {len(runs)} times")
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        expect((plain is None) == (recomputed is None), "a gradient is missing")
        if plain is not None:
            expect_same(recomputed, plain, "gradients")


def resize_token_embeddings(subject: Subject) -> None:
    """Old tokens keep their outputs, new ones can be used and scored."""
    model, inputs = subject.build(), subject.inputs()
    before = run(model, **inputs)
    model.resize_token_embeddings(VOCABULARY + 3)
    expect(model.config.vocab_size == VOCABULARY + 3, "config.vocab_size did not follow")
    after = run(model, **inputs)
    if subject.ending in ("ForMaskedLM", "ForCausalLM"):
        expect(after.shape[-1] == VOCABULARY + 3, f"logits of {after.shape[-1]} tokens")
        after = after[..., :VOCABULARY]
    expect_close(after, before, "outputs of old tokens")
    expect(run(model, input_ids=inputs["input_ids"] + 3).isfinite().all(), "outputs of new tokens are not finite")


def export(subject: Subject) -> None:
    """``torch.export`` of the whole forward pass, padding in the batch, gives the same."""
    model, inputs = subject.build(), _padded(subject)
    program = torch.export.export(model, (), kwargs=inputs | _no_cache(subject), strict=False)
    expect_close(answer(program.module()(**inputs, **_no_cache(subject))), run(model, **inputs), "exported outputs")


def export_any_shape(subject: Subject) -> None:
    """One exported program serves other numbers of rows and tokens, up to the trained length."""
    _exported_for_other_shapes(subject, LENGTH + CHUNK + 1)


def export_beyond_training(subject: Subject) -> None:
    """One program exported below the trained length serves longer inputs than that."""
    _exported_for_other_shapes(subject, LONGEST + CHUNK + 1)


def compile_whole(subject: Subject) -> None:
    """``torch.compile(fullgraph=True)``, padding in the batch, gives the same."""
    model, inputs = subject.build(), _padded(subject)
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend=compile_backend(subject))
    with torch.inference_mode():
        outputs = compiled(**inputs, **_no_cache(subject))
    expect_close(answer(outputs), run(model, **inputs), "compiled outputs")


def compile_backend(subject: Subject) -> str:
    """Name the backend: heads add a matrix product to graphs that the base model has compiled for real."""
    return "inductor" if subject.ending == "Model" else "aot_eager"


def bfloat16(subject: Subject) -> None:
    """The model cast as a whole."""
    _half(subject, torch.bfloat16)


def float16(subject: Subject) -> None:
    """The model cast as a whole."""
    _half(subject, torch.float16)


def meta_device(subject: Subject) -> None:
    """Built without memory on the meta device, then given its weights."""
    model, inputs = subject.build(), subject.inputs()
    with torch.device("meta"):
        empty = subject.model_class(subject.config()).eval()
    empty.load_state_dict(model.state_dict(), assign=True)
    left = [name for name, x in (*empty.named_parameters(), *empty.named_buffers()) if x.is_meta]
    expect(not left, f"still on the meta device: {', '.join(left)}")
    expect_same(run(empty, **inputs), run(model, **inputs), "outputs")


def save_and_load(subject: Subject) -> None:
    """Every weight and output bit for bit, with no missing and no unexpected key."""
    _saved_and_loaded(subject)


def sharded_saving(subject: Subject) -> None:
    """The same from several files."""
    _saved_and_loaded(subject, max_shard_size="4KB")


def left_padding(subject: Subject) -> None:
    """Padding on the left changes no real token's output."""
    model, inputs = subject.build(), subject.inputs()
    alone, padded = run(model, **inputs), run(model, **_pad_left(inputs, 3))
    expect_close(padded[:, 3:] if subject.answers_per_token else padded, alone, "outputs of real tokens")


def packed_sequences(subject: Subject) -> None:
    """Two sequences in one row have the outputs that they have alone."""
    model = subject.build()
    parts = [subject.inputs(5, rows=1)["input_ids"], subject.inputs(7, rows=1, seed=1)["input_ids"]]
    seq_idx = torch.tensor([[0] * 5 + [1] * 7])
    together = run(model, input_ids=torch.cat(parts, dim=-1), seq_idx=seq_idx, **_no_cache(subject))
    alone = [run(model, input_ids=part) for part in parts]
    expect_close(together, torch.cat(alone, dim=1), "outputs of packed sequences")


def greedy(subject: Subject) -> None:
    """A left-padded batch with a cache gives what each row gives alone, token by token, without one."""
    model, inputs = _generator(subject), _pad_left(subject.inputs(), 3)
    generated = model.generate(**inputs, max_new_tokens=6, do_sample=False)[:, LENGTH + 3 :]
    ids = subject.inputs()["input_ids"]
    for _ in range(6):
        # a mask, since the token 0 may be generated
        logits = run(model, input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
        ids = torch.cat((ids, logits[:, -1:].argmax(dim=-1)), dim=1)
    expect(generated.tolist() == ids[:, LENGTH:].tolist(), "other tokens than without a cache")


def sample(subject: Subject) -> None:
    """The same seed gives the same tokens, with and without a cache; another seed others."""
    model, inputs = _generator(subject), subject.inputs()
    drawn = []
    for seed, use_cache in ((0, True), (0, False), (1, True)):
        torch.manual_seed(seed)
        drawn.append(model.generate(**inputs, max_new_tokens=12, do_sample=True, use_cache=use_cache).tolist())
    expect(drawn[0] == drawn[1], "other tokens than without a cache")
    expect(drawn[0] != drawn[2], "another seed draws the same")


def beam_search(subject: Subject) -> None:
    """The same beams with and without a cache, scored by what the model says of them."""
    model, inputs = _generator(subject), subject.inputs()
    options = {"max_new_tokens": 6, "num_beams": 3, "do_sample": False, "output_scores": True}
    found = model.generate(**inputs, **options, return_dict_in_generate=True)
    plain = model.generate(**inputs, **options, return_dict_in_generate=True, use_cache=False)
    expect(found.sequences.tolist() == plain.sequences.tolist(), "other tokens than without a cache")
    mask = torch.ones_like(found.sequences)
    logits = run(model, input_ids=found.sequences, attention_mask=mask, use_cache=False)
    scores = logits.log_softmax(dim=-1)[:, LENGTH - 1 : -1].gather(2, found.sequences[:, LENGTH:, None]).sum(dim=1)
    expect_close(found.sequences_scores, scores[:, 0] / 6, "scores of the beams")


def remote_code(subject: Subject) -> None:
    """A process that never imports flash loads the folder with ``trust_remote_code=True``: the same outputs."""
    model, inputs = subject.build(), subject.inputs()
    auto = subject.auto_class.__name__
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(subject.model_class, "_registered_auto_class", None),
    ):
        subject.model_class.register_for_auto_class(auto)
        model.save_pretrained(folder)
        save_file(inputs, Path(folder) / "inputs.st")
        process = subprocess.run(
            [sys.executable, "-c", _LOADS_REMOTE_CODE, folder, auto],
            env=os.environ | {"HF_MODULES_CACHE": f"{folder}/modules", "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        expect(process.returncode == 0, process.stderr.strip().rpartition("\n")[2])
        found = load_file(Path(folder) / "outputs.st")["answer"]
    expect_close(found, run(model, **inputs), "outputs")


_LOADS_REMOTE_CODE = """
import sys
import torch, transformers
from safetensors.torch import load_file, save_file

folder, auto = sys.argv[1:]
assert "flash" not in sys.modules
model = getattr(transformers, auto).from_pretrained(folder, trust_remote_code=True).eval()
assert type(model).__module__.startswith("flash."), type(model)
with torch.inference_mode():
    outputs = model(**load_file(f"{folder}/inputs.st"))
if "start_logits" in outputs:
    answer = torch.stack((outputs.start_logits, outputs.end_logits), dim=-1)
else:
    answer = outputs.logits if "logits" in outputs else outputs.last_hidden_state
save_file({"answer": answer}, f"{folder}/outputs.st")
"""

CHECKS: dict[str, Callable[[Subject], None]] = {
    "loss, a gradient for every parameter": loss,
    "`inputs_embeds`": inputs_embeds,
    "`position_ids`": position_ids,
    "`token_type_ids`": token_type_ids,
    "`output_hidden_states=True`": hidden_states,
    "`output_hidden_states=1` and `=[0, -1]`": selected_hidden_states,
    "`output_attentions`": attentions,
    "`return_dict=False`": return_tuple,
    "gradient checkpointing": gradient_checkpointing,
    "`resize_token_embeddings`": resize_token_embeddings,
    "`torch.export`": export,
    "`torch.export`, other rows and length": export_any_shape,
    "... length beyond `max_position_embeddings`": export_beyond_training,
    "`torch.compile(fullgraph=True)`": compile_whole,
    "bf16": bfloat16,
    "fp16": float16,
    "meta device, then `load_state_dict`": meta_device,
    "save and load, bit for bit": save_and_load,
    "sharded saving": sharded_saving,
    "left padding changes nothing": left_padding,
    "packed sequences (`seq_idx`)": packed_sequences,
    "`generate`, greedy": greedy,
    "`generate`, sampling": sample,
    "`generate`, beam search": beam_search,
    "`trust_remote_code=True`": remote_code,
}


def _loss_of(subject: Subject, model: PreTrainedModel, inputs: dict[str, Tensor]) -> Tensor:
    labels = subject.labels(inputs["input_ids"])
    if not labels:
        raise NotApplicable("a model without a head has no loss")
    value = model(**inputs, **labels).loss
    expect(value is not None and value.isfinite(), "the loss is not finite")
    return value


def _exported_for_other_shapes(subject: Subject, length: int) -> None:
    model, inputs, extra = subject.build(), _padded(subject), _no_cache(subject)
    auto = torch.export.Dim.AUTO
    shapes: dict[str, Any] = {name: {0: auto, x.dim() - 1: auto} for name, x in inputs.items()}
    program = torch.export.export(
        model, (), kwargs=inputs | extra, dynamic_shapes=shapes | dict.fromkeys(extra), strict=False
    )
    other = _padded(subject, length=length, rows=ROWS + 1)
    expect_close(answer(program.module()(**other, **extra)), run(model, **other), "exported outputs")


def _half(subject: Subject, dtype: torch.dtype) -> None:
    model, inputs = subject.build(), subject.inputs()
    exact = run(model, **inputs)
    found = run(model.to(dtype), **inputs)
    expect(found.dtype == dtype, f"outputs are {found.dtype}")
    error = (found.float() - exact).norm() / exact.norm()
    expect(error < HALF, f"relative error above {HALF}")


def _saved_and_loaded(subject: Subject, **options: Any) -> None:
    model, inputs = subject.build(), subject.inputs()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, **options)
        files = len(list(Path(folder).glob("*.safetensors")))
        expect((files > 1) == bool(options), f"{files} files of weights")
        loaded, info = subject.auto_class.from_pretrained(folder, output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        expect(not info[kind], f"{kind}: {info[kind]}")
    expect(type(loaded) is subject.model_class, f"loaded a {type(loaded).__name__}")
    weights = loaded.state_dict()
    for name, weight in model.state_dict().items():
        expect_same(weights[name], weight, name)
    for parameter in loaded.parameters():
        # weights mapped from a file may lie unaligned in memory, where CPU kernels add in another order
        parameter.data = parameter.data.clone()
    expect_same(run(loaded.eval(), **inputs), run(model, **inputs), "outputs")


def _generator(subject: Subject) -> PreTrainedModel:
    if not subject.generates:
        raise NotApplicable("only causal language models generate")
    return subject.build()


def _no_cache(subject: Subject) -> dict[str, bool]:
    # a cache is no tensor: a graph, and a tuple compared entry by entry, do without
    return {"use_cache": False} if subject.generates else {}


def _pad_left(inputs: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    fill = {"input_ids": PAD, "attention_mask": 0}
    return {name: torch.nn.functional.pad(x, (count, 0), value=fill[name]) for name, x in inputs.items()}


def _padded(subject: Subject, length: int = LENGTH, rows: int = ROWS) -> dict[str, Tensor]:
    """A batch whose first row is padded on the right and whose last one on the left."""
    inputs = subject.inputs(length, rows=rows)
    for x in inputs.values():
        x[0, ..., -2:] = 0
        x[-1, ..., :3] = 0
    return inputs


def _flat(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Choices as rows of their own, for a model without a head."""
    return {name: x.reshape(-1, x.shape[-1]) for name, x in inputs.items()}
