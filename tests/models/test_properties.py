"""What every architecture keeps under every setting: padding, batching, packing, causality, caching, saving.

All weights are large (``families``), so a token that leaks cannot hide in a tolerance.
"""

import copy
import itertools
import tempfile

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import DynamicCache

from families import (
    GATED_FAMILIES,
    LONGEST_TEXT,
    assert_same,
    collate,
    direction,
    examples,
    gradients,
    inputs_of,
    join,
    models,
    padding,
    paddings,
    random_text,
    seeds,
    texts,
)

# The same sums in another order; the roundings, amplified by a squared score or the norm of a small sum.
FLOAT64 = 1e-9
FLOAT32 = 1e-4

causal_models = models(families=GATED_FAMILIES, causal=st.just(True))
causal_language_models = models("ForCausalLM", families=GATED_FAMILIES)


def hidden_of(model, **inputs):
    return model(**inputs).last_hidden_state


def apart(model, rows):
    """The output of each text alone."""
    return [hidden_of(model, **inputs_of(row))[0] for row in rows]


def total(outputs, rows):
    """A loss over the real tokens of each text, given the output of each."""
    pairs = zip(outputs, rows, strict=True)
    return sum((output * direction(output, row, seed)).sum() for seed, (output, row) in enumerate(pairs))


def assert_same_texts(actual, expected, rows, tolerance):
    for one, other, row in zip(actual, expected, rows, strict=True):
        assert_same(one[row.mask], other[row.mask], tolerance)


# --- padding and batching


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, FLOAT64), (torch.float32, FLOAT32)])
@examples(80)
@given(model=models(), text=texts(), left=paddings, right=paddings)
def test_padding_changes_no_real_token(dtype, tolerance, model, text, left, right):
    model = model.to(dtype)
    inputs, (place,) = collate([text], [left], right)
    with torch.no_grad():
        assert_same_texts([hidden_of(model, **inputs)[0, place]], apart(model, [text]), [text], tolerance)


@examples(60)
@given(model=models(), text=texts(), left=paddings, right=paddings)
def test_padding_changes_no_gradient(model, text, left, right):
    inputs, (place,) = collate([text], [left], right)
    expected = gradients(model, total(apart(model, [text]), [text]))
    assert_same(gradients(model, total([hidden_of(model, **inputs)[0, place]], [text])), expected, FLOAT64)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@examples(40)
@given(model=models(), text=texts(), left=paddings, right=paddings, seed=seeds)
def test_what_stands_in_a_padded_place_has_no_influence(dtype, model, text, left, right, seed):
    model = model.to(dtype)
    mask = join(padding(left), text, padding(right)).mask
    inputs = inputs_of(random_text(mask, seed)) | {"attention_mask": mask[None]}
    other = inputs_of(random_text(mask, seed + 1))
    for name in ("input_ids", "token_type_ids"):
        other[name] = torch.where(mask, inputs[name], other[name])
    with torch.no_grad():
        before, after = hidden_of(model, **inputs), hidden_of(model, **(inputs | other))
    assert torch.equal(after[0, mask], before[0, mask])


@examples(60)
@given(model=models(), rows=st.lists(st.tuples(texts(), paddings), min_size=2, max_size=4))
def test_a_batch_equals_its_rows_one_by_one(model, rows):
    rows, lefts = zip(*rows, strict=True)
    inputs, places = collate(rows, lefts)
    outputs = hidden_of(model, **inputs)
    together = [output[place] for output, place in zip(outputs, places, strict=True)]
    expected = apart(model, rows)
    assert_same_texts(together, expected, rows, FLOAT64)
    assert_same(gradients(model, total(together, rows)), gradients(model, total(expected, rows)), FLOAT64)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@examples(40)
@given(model=models(), text=texts(), length=st.integers(1, LONGEST_TEXT), alone=st.booleans())
def test_a_row_of_nothing_but_padding_gives_finite_outputs_and_gradients(dtype, model, text, length, alone):
    model = model.to(dtype)
    rows = [padding(length)] if alone else [padding(length), text]
    inputs, _ = collate(rows, [0] * len(rows))
    output = hidden_of(model, **inputs)
    assert output.isfinite().all()
    for name, gradient in gradients(model, output.sum()).items():
        assert gradient.isfinite().all(), name


# --- causality


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@examples(60)
@given(model=causal_models, text=texts(), left=paddings, seed=seeds, data=st.data())
def test_a_causal_output_ignores_everything_after_it_bit_for_bit(dtype, model, text, left, seed, data):
    model = model.to(dtype)
    known = left + data.draw(st.integers(1, len(text)))
    text = join(padding(left), text)
    mask = text.mask
    other = random_text(torch.cat([mask[:known], ~mask[known:]]), seed)
    changed = {
        name: torch.cat([getattr(text, name)[:known], getattr(other, name)[known:]])
        for name in ("input_ids", "token_type_ids", "mask")
    }
    with torch.no_grad():
        before = hidden_of(model, **inputs_of(text))
        after = hidden_of(
            model,
            input_ids=changed["input_ids"][None],
            token_type_ids=changed["token_type_ids"][None],
            attention_mask=changed["mask"][None],
        )
    real = mask[:known]
    assert torch.equal(after[0, :known][real], before[0, :known][real])


@examples(60)
@given(model=causal_models, text=texts(), left=paddings, data=st.data())
def test_the_gradient_of_a_causal_output_at_later_tokens_is_exactly_zero(model, text, left, data):
    model = model.float()
    known = left + data.draw(st.integers(1, len(text)))
    text = join(padding(left), text)
    inputs = inputs_of(text)
    embeds = model.get_input_embeddings()(inputs.pop("input_ids")).detach().requires_grad_()
    inputs["attention_mask"] = text.mask[None]
    output = hidden_of(model, inputs_embeds=embeds, **inputs)[0]
    loss = (output * direction(output, text))[:known].sum()
    (gradient,) = torch.autograd.grad(loss, embeds)
    assert not gradient[0, known:].any()
    assert gradient[0, :known].any()


@examples(60)
@given(model=causal_models, text=texts(), left=paddings, data=st.data())
def test_a_causal_output_is_that_of_the_prefix_alone(model, text, left, data):
    known = left + data.draw(st.integers(1, len(text)))
    text = join(padding(left), text)
    inputs = inputs_of(text)
    prefix = {name: value[:, :known] for name, value in inputs.items()}
    with torch.no_grad():
        whole, alone = hidden_of(model, **inputs)[0, :known], hidden_of(model, **prefix)[0]
    assert_same(whole[text.mask[:known]], alone[text.mask[:known]], FLOAT64)


# --- packing


def pack(rows):
    """Inputs with ``seq_idx`` for rows of (padding before it, text), and where each text lies."""
    width = max(sum(gap + len(text) for gap, text in row) for row in rows)
    packed, numbers, places = [], [], []
    for index, row in enumerate(rows):
        parts, seq_idx = [], []
        for number, (gap, text) in enumerate(row):
            seq_idx += [-1] * gap
            places.append((index, slice(len(seq_idx), len(seq_idx) + len(text))))
            seq_idx += [7 - 3 * number] * len(text)
            parts += [padding(gap, number), text]
        parts.append(padding(width - len(seq_idx)))
        packed.append(join(*parts))
        numbers.append(seq_idx + [-2] * (width - len(seq_idx)))
    return inputs_of(*packed) | {"seq_idx": torch.tensor(numbers)}, places


@examples(80)
@given(
    model=models(),
    rows=st.lists(
        st.lists(st.tuples(st.sampled_from([0, 0, 2]), texts(longest=7)), min_size=1, max_size=3),
        min_size=1,
        max_size=2,
    ),
)
def test_packed_sequences_equal_the_same_sequences_apart(model, rows):
    inputs, places = pack(rows)
    outputs = hidden_of(model, use_cache=False, **inputs)
    packed = [outputs[index, place] for index, place in places]
    sequences = [text for row in rows for _, text in row]
    expected = apart(model, sequences)
    assert_same_texts(packed, expected, sequences, FLOAT64)
    assert_same(gradients(model, total(packed, sequences)), gradients(model, total(expected, sequences)), FLOAT64)


@pytest.mark.parametrize(
    "numbered",
    [True, False],
    ids=["positions given", "positions counted"],
)
@examples(60)
@given(model=models(), first=texts(longest=7), second=texts(longest=7), left=st.integers(1, 3))
def test_padding_may_share_the_number_of_the_packed_sequence_behind_it(numbered, model, first, second, left):
    inputs = inputs_of(join(padding(left, 0), first, padding(left, 1), second))
    inputs["seq_idx"] = torch.tensor([[0] * (left + len(first)) + [1] * (left + len(second))])
    if numbered:
        positions = [[0] * left, range(len(first)), [0] * left, range(len(second))]
        inputs["position_ids"] = torch.tensor([[*itertools.chain(*positions)]])
    with torch.no_grad():
        output = hidden_of(model, use_cache=False, **inputs)[0]
        packed = [output[left : left + len(first)], output[-len(second) :]]
        assert_same_texts(packed, apart(model, [first, second]), [first, second], FLOAT64)


def real_text(length, seed):
    return random_text(torch.ones(length, dtype=torch.bool), seed)


@examples(60)
@given(model=models(), lengths=st.tuples(st.integers(2, 7), st.integers(1, 7)), seed=seeds)
def test_positions_that_begin_anew_pack_as_transformers_packs(model, lengths, seed):
    sequences = [real_text(length, seed + number) for number, length in enumerate(lengths)]
    inputs = inputs_of(join(*sequences))
    assert "attention_mask" not in inputs
    positions = torch.tensor([[*range(lengths[0]), *range(lengths[1])]])
    with torch.no_grad():
        packed = hidden_of(model, **inputs, position_ids=positions)[0].split(lengths)
        assert_same_texts(packed, apart(model, sequences), sequences, FLOAT64)


@examples(30)
@given(model=models(), length=st.integers(1, 7), start=st.integers(0, 3), step=st.integers(0, 2), seed=seeds)
def test_positions_that_do_not_begin_anew_pack_nothing(model, length, start, step, seed):
    inputs = inputs_of(real_text(length, seed)) | {"position_ids": start + step * torch.arange(length)[None]}
    with torch.no_grad():
        masked = hidden_of(model, **inputs, attention_mask=torch.ones(1, length, dtype=torch.long))
        assert_same(hidden_of(model, **inputs), masked, FLOAT64)


# --- lengths


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@examples(40)
@given(model=models(), times=st.integers(2, 4), seed=seeds)
def test_a_text_longer_than_max_position_embeddings_has_finite_outputs_and_gradients(dtype, model, times, seed):
    model = model.to(dtype)
    length = times * model.config.max_position_embeddings + 1
    output = hidden_of(model, **inputs_of(random_text(torch.ones(length, dtype=torch.bool), seed)))
    assert output.shape == (1, length, model.config.hidden_size)
    assert output.isfinite().all()
    for name, gradient in gradients(model, output.sum()).items():
        assert gradient.isfinite().all(), name


# --- generation


@st.composite
def batches_in_pieces(draw):
    """Rows with padding before them, and the borders of the pieces in which they are given."""
    rows, lefts = zip(*draw(st.lists(st.tuples(texts(), paddings), min_size=1, max_size=3)), strict=True)
    inputs, _ = collate(rows, lefts)
    width = inputs["input_ids"].shape[1]
    borders = sorted({0, width, *draw(st.lists(st.integers(1, width), max_size=5))})
    return inputs, list(itertools.pairwise(borders))


def piece_of(inputs, start, end):
    """The arguments for tokens ``start`` to ``end`` behind a cache of those before."""
    piece = {name: value[:, start:end] for name, value in inputs.items()}
    if "attention_mask" in inputs:
        piece["attention_mask"] = inputs["attention_mask"][:, :end]
    return piece


def step_by_step(model, inputs, pieces, cache=None):
    outputs = []
    for start, end in pieces:
        result = model(**piece_of(inputs, start, end), past_key_values=cache, use_cache=True)
        cache = result.past_key_values
        outputs.append(result.logits)
        assert cache.get_seq_length() == end
    return torch.cat(outputs, dim=1)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, FLOAT64), (torch.float32, FLOAT32)])
@examples(60)
@given(model=causal_language_models, batch=batches_in_pieces())
def test_step_by_step_equals_all_at_once(dtype, tolerance, model, batch):
    model = model.to(dtype)
    inputs, pieces = batch
    real = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).bool()
    with torch.no_grad():
        at_once = model(**inputs, use_cache=False).logits
        assert_same(step_by_step(model, inputs, pieces)[real], at_once[real], tolerance)
        one_by_one = [(t, t + 1) for t in range(real.shape[1])]
        assert_same(step_by_step(model, inputs, one_by_one)[real], at_once[real], tolerance)


@examples(40)
@given(model=causal_language_models, batch=batches_in_pieces())
def test_gradients_through_a_cache_are_those_of_all_at_once(model, batch):
    inputs, pieces = batch
    real = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).bool()
    at_once = model(**inputs, use_cache=False).logits[real]
    stepped = step_by_step(model, inputs, pieces)[real]
    cotangent = torch.randn(at_once.shape, dtype=at_once.dtype, generator=torch.Generator().manual_seed(0))
    expected = gradients(model, (at_once * cotangent).sum())
    assert_same(gradients(model, (stepped * cotangent).sum()), expected, FLOAT64)


@examples(25)
@given(model=causal_language_models, batch=batches_in_pieces(), beams=st.integers(1, 3))
def test_generating_with_and_without_a_cache_gives_the_same_tokens(model, batch, beams):
    inputs, _ = batch
    options = {"max_new_tokens": 6, "do_sample": False, "num_beams": beams, "pad_token_id": 0}
    options |= {"input_ids": inputs["input_ids"], "attention_mask": inputs.get("attention_mask")}
    if options["attention_mask"] is None:
        options["attention_mask"] = torch.ones_like(options["input_ids"])
    with_cache, without = (model.generate(use_cache=use_cache, **options) for use_cache in (True, False))
    assert with_cache.shape[1] == inputs["input_ids"].shape[1] + 6
    assert torch.equal(with_cache, without)


@examples(40)
@given(
    model=causal_language_models,
    batch=batches_in_pieces(),
    repeats=st.integers(1, 3),
    chosen=st.lists(st.integers(0, 2), min_size=1, max_size=4),
    name=st.sampled_from(["reorder_cache", "batch_select_indices"]),
)
def test_selecting_rows_of_a_cache_selects_those_of_the_batch(model, batch, repeats, chosen, name):
    inputs, pieces = batch
    assume(len(pieces) > 1)
    batch_size, border = inputs["input_ids"].shape[0], pieces[0][1]
    indices = torch.tensor(chosen) % (batch_size * repeats)
    rows = torch.arange(batch_size).repeat_interleave(repeats)[indices]
    selected = {key: value[rows] for key, value in inputs.items()}
    with torch.no_grad():
        cache = model(**piece_of(inputs, 0, border), use_cache=True).past_key_values
        cache.batch_repeat_interleave(repeats)
        getattr(cache, name)(indices)
        actual = step_by_step(model, selected, pieces[1:], cache)
        expected = step_by_step(model, selected, pieces)[:, border:]
    real = selected.get("attention_mask", torch.ones_like(selected["input_ids"]))[:, border:].bool()
    assert_same(actual[real], expected[real], FLOAT64)


@examples(15)
@given(model=causal_language_models, batch=batches_in_pieces())
def test_a_cache_that_generate_makes_is_filled_like_our_own(model, batch):
    inputs, pieces = batch
    with torch.no_grad():
        own = step_by_step(model, inputs, pieces)
        given_one = step_by_step(model, inputs, pieces, DynamicCache(config=model.config))
    assert torch.equal(given_one, own)


# --- saving


@pytest.mark.parametrize("ending", ["Model", "ForMaskedLM", "ForSequenceClassification"])
@examples(10)
@given(data=st.data(), text=texts())
def test_a_saved_model_gives_the_same_bits(ending, data, text):
    model = data.draw(models(ending))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        loaded, report = type(model).from_pretrained(folder, dtype="auto", output_loading_info=True)
        # parameters mapped from a file begin anywhere in memory, where matrix products may round otherwise
        loaded = copy.deepcopy(loaded)
    assert not any(report.values()), report
    with torch.no_grad():
        before, after = model(**inputs_of(text))[0], loaded(**inputs_of(text))[0]
    assert before.dtype == torch.float64
    assert torch.equal(after, before)
