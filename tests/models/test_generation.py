"""``generate()`` of the causal language models, and what their caches hold."""

import copy

import pytest
import torch
from transformers import DynamicCache

from flash import FLASHConfig, FLASHForCausalLM, FLASHQuadConfig, FLASHQuadForCausalLM

from helpers import CURED, EXACT, VOCABULARY, random_tokens

CHUNK = 4
SIZES = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2, "query_key_dim": 8, "eos_token_id": None}
FAMILIES = {
    "flash_quad": lambda **changes: FLASHQuadForCausalLM(FLASHQuadConfig(**(SIZES | CURED | changes))),
    "flash": lambda **changes: FLASHForCausalLM(FLASHConfig(chunk_size=CHUNK, **(SIZES | CURED | changes))),
}
for_each_family = pytest.mark.parametrize("family", FAMILIES)


def random_model(family, **changes):
    """A model that does not repeat the last token, as a tied one of random weights does."""
    torch.manual_seed(0)
    model = FAMILIES[family](tie_word_embeddings=False, **changes).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "relative_bias" in name or "offset" in name or "lm_head" in name:
                parameter.normal_()
    return model


def prompts():
    """Three prompts of different lengths, padded on the left."""
    input_ids = random_tokens(3, 10)
    input_ids[0, :6], input_ids[1, :3] = 0, 0
    return {"input_ids": input_ids, "attention_mask": (input_ids != 0).long()}


@for_each_family
@pytest.mark.parametrize(
    "options",
    [{}, {"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}, {"do_sample": True, "num_return_sequences": 2}],
    ids=["greedy", "beams", "two beams", "sampling"],
)
def test_the_cache_changes_nothing_that_is_generated(family, options):
    model = random_model(family)
    options = {"do_sample": False, "max_new_tokens": 3 * CHUNK, **options}
    generated = []
    for use_cache in (True, False):
        torch.manual_seed(0)
        generated.append(model.generate(**prompts(), use_cache=use_cache, **options))
    assert torch.equal(*generated)
    assert generated[0].shape == (3 * options.get("num_return_sequences", 1), 10 + 3 * CHUNK)
    assert len(set(generated[0][:, 10:].flatten().tolist())) > 3


@for_each_family
def test_a_padded_prompt_is_continued_as_it_is_alone(family):
    model = random_model(family)
    batch = model.generate(**prompts(), max_new_tokens=9, do_sample=False)
    for row, length in enumerate([4, 7, 10]):
        alone = model.generate(prompts()["input_ids"][row : row + 1, -length:], max_new_tokens=9, do_sample=False)
        assert torch.equal(alone[0], batch[row, -length - 9 :])


@for_each_family
@pytest.mark.parametrize("prefill", range(1, 2 * CHUNK + 2))
def test_each_step_has_the_logits_of_the_whole_after_a_prefill_of_any_length(family, prefill):
    model = random_model(family)
    inputs = prompts()
    with torch.no_grad():
        whole = model(**inputs, use_cache=False).logits
        outputs = model(
            inputs["input_ids"][:, :prefill], attention_mask=inputs["attention_mask"][:, :prefill], use_cache=True
        )
        logits = [outputs.logits]
        for position in range(prefill, 10):
            outputs = model(
                inputs["input_ids"][:, position : position + 1],
                attention_mask=inputs["attention_mask"][:, : position + 1],
                past_key_values=outputs.past_key_values,
                use_cache=True,
            )
            logits.append(outputs.logits)
    real = inputs["attention_mask"].bool()
    steps = torch.cat(logits, dim=1)[real]
    assert ((steps - whole[real]).norm() / whole[real].norm()).item() < 1e-5
    assert outputs.past_key_values.get_seq_length() == 10


@for_each_family
def test_the_cache_that_a_user_made_is_used(family):
    model = random_model(family)
    input_ids = random_tokens(2, 6)
    cache = DynamicCache()
    first = model(input_ids[:, :4], past_key_values=cache, use_cache=True)
    assert first.past_key_values is cache
    assert cache.get_seq_length() == 4
    second = model(input_ids[:, 4:], past_key_values=cache)
    whole = model(input_ids, use_cache=False).logits
    torch.testing.assert_close(torch.cat((first.logits, second.logits), dim=1), whole, rtol=1e-4, atol=1e-4)
    # and generate goes on from it
    generated = model.generate(
        torch.cat((input_ids, random_tokens(2, 1, seed=3)), dim=1),
        past_key_values=cache,
        max_new_tokens=3,
        do_sample=False,
    )
    again = model.generate(generated[:, :7], max_new_tokens=3, do_sample=False)
    assert torch.equal(generated, again)


@for_each_family
def test_rows_of_a_cache_can_be_selected_repeated_and_forgotten(family):
    model = random_model(family)
    inputs, token = prompts(), random_tokens(3, 1, seed=2)

    def after(change, rows):
        cache = model(**inputs, use_cache=True).past_key_values
        change(cache)
        mask = torch.cat((inputs["attention_mask"], torch.ones(3, 1, dtype=torch.long)), dim=1)[rows]
        return model(token[rows], attention_mask=mask, past_key_values=cache).logits

    order = torch.tensor([2, 0])
    everything = after(lambda cache: None, torch.arange(3))
    torch.testing.assert_close(after(lambda cache: cache.batch_select_indices(order), order), everything[order])
    torch.testing.assert_close(after(lambda cache: cache.reorder_cache(order), order), everything[order])
    twice = torch.tensor([0, 0, 1, 1, 2, 2])
    torch.testing.assert_close(after(lambda cache: cache.batch_repeat_interleave(2), twice), everything[twice])
    cache = model(**inputs, use_cache=True).past_key_values
    cache.reset()
    assert cache.get_seq_length() == 0
    torch.testing.assert_close(
        model(**inputs, past_key_values=cache).logits, model(**inputs, use_cache=False).logits, rtol=1e-4, atol=1e-4
    )


def bytes_of(cache):
    return sum(
        x.nbytes
        for layer in cache.layers
        for x in (layer.state.tensors() if hasattr(layer, "state") else [layer.keys, layer.values])
    )


def test_the_state_of_flash_does_not_grow_and_the_cache_of_flash_quad_does():
    sizes = {}
    for family in FAMILIES:
        model = random_model(family)
        sizes[family] = [bytes_of(model(random_tokens(1, n), use_cache=True).past_key_values) for n in (5, 50, 500)]
    assert len(set(sizes["flash"])) == 1
    small, middle, large = sizes["flash_quad"]
    assert (middle, large) == (10 * small, 100 * small)


@torch.no_grad()
def test_the_cache_of_flash_quad_is_not_copied_for_every_token():
    model = random_model("flash_quad")
    input_ids = random_tokens(2, 40)
    cache = model(input_ids[:, :9], use_cache=True).past_key_values
    places, logits = [], []
    for position in range(9, 40):
        logits.append(model(input_ids[:, position : position + 1], past_key_values=cache).logits)
        places.append(cache.layers[0].keys.data_ptr())
    assert 1 < len(set(places)) < 9  # 31 tokens, room for a quarter more each time
    whole = model(input_ids, use_cache=False).logits[:, 9:]
    torch.testing.assert_close(torch.cat(logits, dim=1), whole, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_two_continuations_of_one_cache_do_not_write_over_each_other():
    model = random_model("flash_quad")
    input_ids = random_tokens(1, 20)
    cache = model(input_ids, use_cache=True).past_key_values
    model(input_ids[:, :1], past_key_values=cache)
    copied = copy.deepcopy(cache)
    for other, token in ((cache, 3), (copied, 7)):
        model(torch.tensor([[token]]), past_key_values=other)
    for other, token in ((cache, 3), (copied, 7)):
        text = torch.cat((input_ids, input_ids[:, :1], torch.tensor([[token, 5]])), dim=1)
        expected = model(text, use_cache=False).logits[:, -1:]
        logits = model(torch.tensor([[5]]), past_key_values=other).logits
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


@for_each_family
def test_sums_and_keys_of_a_half_precision_model(family):
    model = random_model(family).bfloat16()
    cache = model(**prompts(), use_cache=True).past_key_values
    if family == "flash":
        assert cache.layers[0].state.sums.dtype == torch.float32
        assert cache.layers[0].state.chunk.values.dtype == torch.bfloat16
    else:
        assert cache.layers[0].keys.dtype == torch.bfloat16
    assert model.generate(**prompts(), max_new_tokens=6).shape == (3, 16)


def test_flash_quad_without_token_shift_forgets_tokens_for_an_assistant():
    model = random_model("flash_quad", token_shift=0.0)
    input_ids = random_tokens(1, 9)
    cache = model(input_ids, use_cache=True).past_key_values
    cache.crop(-4)
    assert cache.get_seq_length() == 5
    torch.testing.assert_close(
        model(input_ids[:, 5:], past_key_values=cache).logits,
        model(input_ids, use_cache=False).logits[:, 5:],
        rtol=1e-4,
        atol=1e-4,
    )
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": 1}  # looking up asks for one
    looked_up = model.generate(input_ids, prompt_lookup_num_tokens=2, **options)
    assert torch.equal(looked_up, model.generate(input_ids, **options))


@pytest.mark.parametrize(("family", "reason"), [("flash_quad", "token_shift"), ("flash", "recurrent state")])
def test_what_cannot_forget_says_so(family, reason):
    model = random_model(family)
    cache = model(random_tokens(1, 9), use_cache=True).past_key_values
    with pytest.raises(ValueError, match=f"{reason}.* cannot forget tokens; generate without an assistant"):
        cache.crop(-4)


@for_each_family
def test_a_cache_that_would_not_be_offloaded_is_refused(family):
    # it is read and written by the layers themselves, past the methods that move it
    model = random_model(family)
    with pytest.raises(ValueError, match="stays on its device: leave out offloading"):
        model.generate(random_tokens(1, 5), cache_implementation="offloaded", max_new_tokens=2)
    with pytest.raises(ValueError, match="stays on its device"):
        model(random_tokens(1, 5), past_key_values=DynamicCache(offloading=True))


@for_each_family
def test_embeddings_as_a_prompt_are_continued_too(family):
    model = random_model(family)
    input_ids = random_tokens(2, 7)
    embeddings = model.get_input_embeddings()(input_ids)
    new = model.generate(inputs_embeds=embeddings, max_new_tokens=5, do_sample=False)
    whole = model.generate(input_ids, max_new_tokens=5, do_sample=False)
    assert torch.equal(new, whole[:, 7:])


@for_each_family
def test_only_the_logits_that_are_kept_are_computed(family):
    model = random_model(family)
    inputs = prompts() | {"use_cache": False}
    everything = model(**inputs).logits
    torch.testing.assert_close(model(**inputs, logits_to_keep=2).logits, everything[:, -2:], **EXACT)
    some = torch.tensor([0, 5])
    torch.testing.assert_close(model(**inputs, logits_to_keep=some).logits, everything[:, some], **EXACT)


@for_each_family
def test_a_causal_model_leaves_the_given_configuration_alone_and_saves_its_own(family, tmp_path):
    model = random_model(family)
    config = type(model.config)(**SIZES)
    causal = type(model)(config)
    assert (config.causal, causal.config.causal) == (False, True)
    causal.save_pretrained(tmp_path)
    assert type(config).from_pretrained(tmp_path).causal
    assert type(model.base_model).from_pretrained(tmp_path).causal


@for_each_family
def test_training_keeps_no_cache(family):
    model = random_model(family)
    input_ids = random_tokens(2, 6)
    assert model(input_ids).past_key_values is not None
    assert model(input_ids, use_cache=False).past_key_values is None
    assert model.train()(input_ids, labels=input_ids).past_key_values is None


@for_each_family
def test_without_a_mask_every_token_is_real_the_padding_token_too_for_it_may_have_been_generated(family):
    model = random_model(family)
    input_ids = random_tokens(2, 9)
    input_ids[0, 3] = input_ids[1, 0] = model.config.pad_token_id
    for use_cache in (False, True):
        found, expected, hidden = (
            model(input_ids, attention_mask=mask, use_cache=use_cache).logits
            for mask in (None, torch.ones_like(input_ids), (input_ids != 0).long())
        )
        torch.testing.assert_close(found, expected, **EXACT)
        assert (found - hidden)[:, -1].abs().max() > 1e-3


@for_each_family
def test_the_loss_scores_the_next_token(family):
    model = random_model(family)
    input_ids = random_tokens(2, 6)
    labels = input_ids.clone()
    labels[0, :3] = -100
    outputs = model(input_ids, labels=labels)
    log_probabilities = outputs.logits[:, :-1].log_softmax(-1).gather(-1, input_ids[:, 1:, None])[..., 0]
    scored = labels[:, 1:] != -100
    torch.testing.assert_close(outputs.loss, -log_probabilities[scored].mean())
    halves = model(input_ids, labels=labels, num_items_in_batch=2 * scored.sum()).loss
    torch.testing.assert_close(halves, outputs.loss / 2)


@for_each_family
def test_padding_inside_a_prompt_keeps_its_place_as_in_a_forward_pass(family):
    # the second turn of a conversation, behind a first one that was padded
    model = random_model(family)
    input_ids = random_tokens(2, 12)
    mask = torch.ones_like(input_ids)
    mask[0, 4:7], mask[1, :2] = 0, 0
    expected = model(input_ids, attention_mask=mask, use_cache=False).logits[:, -1]
    first = model.generate(
        input_ids,
        attention_mask=mask,
        max_new_tokens=6,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
    )
    torch.testing.assert_close(first.logits[0], expected, rtol=1e-4, atol=1e-4)
    again = model.generate(input_ids, attention_mask=mask, max_new_tokens=6, do_sample=False, use_cache=False)
    assert torch.equal(first.sequences, again)


@for_each_family
def test_a_cache_made_in_inference_mode_is_continued_outside(family):
    model = random_model(family)
    input_ids = random_tokens(2, 8)
    with torch.inference_mode():
        cache = model(input_ids[:, :5], use_cache=True).past_key_values
        model(input_ids[:, 5:6], past_key_values=cache)
    with torch.no_grad():
        model(input_ids[:, 6:7], past_key_values=cache)
        last = model(input_ids[:, 7:], past_key_values=cache).logits
        whole = model(input_ids, use_cache=False).logits
    torch.testing.assert_close(last, whole[:, 7:], rtol=1e-4, atol=1e-4)


@for_each_family
def test_settings_that_only_a_causal_model_cannot_have_are_refused_when_it_is_made(family):
    # 16 distances have a bucket of their own in a causal model, 8 on either side of another one
    config = type(random_model(family).config)(**SIZES, relative_bias="bucketed", relative_bias_max_distance=10)
    with pytest.raises(ValueError, match=r"relative_bias_max_distance must be above 16.* got 10"):
        FAMILIES[family](relative_bias="bucketed", relative_bias_max_distance=10)
    assert not config.causal
