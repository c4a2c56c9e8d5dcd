"""What makes no sense is refused by every architecture, in one line that names it and says what was needed."""

import pytest
import torch
from transformers import DynamicCache, EncoderDecoderCache, LlamaConfig, LlamaForCausalLM, StaticCache

import flash
from flash import FLASHConfig, FLASHQuadConfig, GAUAlphaConfig
from flash.errors import InputError
from flash.models.loading import load_masked_lm

from families import FAMILIES, GATED_FAMILIES, PREFIXES, VOCABULARY

SIZES = {"vocab_size": VOCABULARY, "hidden_size": 8, "num_hidden_layers": 2, "max_position_embeddings": 8}
CONFIGS = {
    "flash_quad": (FLASHQuadConfig, SIZES | {"query_key_dim": 4}),
    "flash": (FLASHConfig, SIZES | {"query_key_dim": 4, "chunk_size": 3}),
    "gau_alpha": (GAUAlphaConfig, SIZES | {"intermediate_size": 12, "attention_key_size": 4}),
}
IDS = torch.tensor([[3, 4, 5, 6, 7], [8, 9, 10, 11, 1]])
ROW_LABELS = torch.tensor([0, 2])
NAN, INF = float("nan"), float("inf")

for_each_family = pytest.mark.parametrize("family", FAMILIES)
for_each_gated_family = pytest.mark.parametrize("family", GATED_FAMILIES)


def config_of(family, **changes):
    config_class, settings = CONFIGS[family]
    return config_class(**(settings | changes))


def model_of(family, ending="Model", **changes):
    torch.manual_seed(0)
    return getattr(flash, PREFIXES[family] + ending)(config_of(family, **changes)).eval()


def llama():
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2)).eval()


def refusal_of(call, *args, **kwargs):
    """The message of the ``InputError`` that the call raises."""
    with pytest.raises(InputError) as refused:
        call(*args, **kwargs)
    message = str(refused.value)
    assert message.isprintable()  # one line
    return message


def assert_holds(message, parts):
    for part in parts:
        assert str(part) in message


# --- configurations

BUCKETED = {"relative_bias": "bucketed"}
ENTROPY = {"attention_function": "entropy_softmax", "score_scale": "inverse_sqrt_dim"}
BAD_SETTINGS = [
    (FAMILIES, {"vocab_size": 0}, ["vocab_size must be at least 1, got 0"]),
    (FAMILIES, {"hidden_size": -8}, ["hidden_size must be at least 1, got -8"]),
    (FAMILIES, {"num_hidden_layers": 0}, ["num_hidden_layers must be at least 1, got 0"]),
    (FAMILIES, {"type_vocab_size": 0}, ["type_vocab_size must be at least 1, got 0"]),
    (FAMILIES, {"max_position_embeddings": 0}, ["max_position_embeddings must be at least", "got 0"]),
    (FAMILIES, {"pad_token_id": 12}, ["pad_token_id must be below vocab_size (12)", "got 12", "None means"]),
    (FAMILIES, {"layer_norm_eps": -1.0}, ["layer_norm_eps must be above 0, got -1.0"]),
    (FAMILIES, {"layer_norm_eps": 0.0}, ["layer_norm_eps must be above 0, got 0.0", "0 / 0"]),
    (FAMILIES, {"layer_norm_eps": INF}, ["layer_norm_eps", "got inf"]),
    (GATED_FAMILIES, {"attention_norm_eps": 0.0}, ["attention_norm_eps must be above 0, got 0.0"]),
    (GATED_FAMILIES, {"attention_norm_eps": NAN}, ["attention_norm_eps must be above 0, got nan"]),
    (FAMILIES, {"initializer_range": INF}, ["initializer_range", "got inf"]),
    (GATED_FAMILIES, {"expansion_factor": NAN}, ["expansion_factor", "got nan of 8"]),
    (GATED_FAMILIES, {"expansion_factor": INF}, ["expansion_factor", "got inf of 8"]),
    (FAMILIES, {"layer_norm_eps": NAN}, ["layer_norm_eps", "got nan"]),
    (FAMILIES, {"initializer_range": -1.0}, ["initializer_range must not be negative, got -1.0"]),
    (FAMILIES, {"hidden_act": "swoosh"}, ["hidden_act must be one of", "silu", "got 'swoosh'"]),
    (FAMILIES, {"classifier_dropout": 1.0}, ["classifier_dropout must be at least 0 and below 1, got 1.0"]),
    (GATED_FAMILIES, {"query_key_dim": 0}, ["query_key_dim must be at least 1, got 0"]),
    (GATED_FAMILIES, {"query_key_dim": 5}, ["query_key_dim (s) must be even, got 5", "pairs"]),
    (GATED_FAMILIES, {"query_key_dim": 5, "rotary": False, "relative_bias": "rotary_product"}, ["must be even, got 5"]),
    (GATED_FAMILIES, {"expansion_factor": 0.1}, ["expansion_factor must give a width of at least 1, got 0.1 of 8"]),
    (GATED_FAMILIES, {"hidden_size": 7}, ["hidden_size must be even, got 7", "scaled_sinusoid=False does without"]),
    (GATED_FAMILIES, {"token_shift": 0.75}, ["token_shift must lie between 0 and 0.5, got 0.75", "two neighbours"]),
    (GATED_FAMILIES, {"token_shift": NAN}, ["token_shift must lie between 0 and 0.5, got nan"]),
    (GATED_FAMILIES, BUCKETED | {"relative_bias_buckets": 6}, ["relative_bias_buckets", "multiple of 4, got 6"]),
    (GATED_FAMILIES, BUCKETED | {"relative_bias_buckets": 0}, ["relative_bias_buckets", "multiple of 4, got 0"]),
    (GATED_FAMILIES, BUCKETED | {"relative_bias_buckets": 3, "causal": True}, ["multiple of 2, got 3"]),
    (GATED_FAMILIES, BUCKETED | {"relative_bias_max_distance": 8}, ["relative_bias_max_distance", "above 8", "got 8"]),
    (GATED_FAMILIES, {"norm_position": "post", "final_norm": True}, ["final_norm=True", "'post'", "final_norm=False"]),
    (GATED_FAMILIES, {"attention_function": "softmax"}, ["needs score_scale='inverse_sqrt_dim', got 'inverse_length'"]),
    (GATED_FAMILIES, ENTROPY | {"score_divisor": "row_sum"}, ["its sum already", "leave out score_divisor='row_sum'"]),
    (["flash_quad"], ENTROPY | {"max_position_embeddings": 1}, ["logarithm of the length, got 1"]),
    (["flash"], ENTROPY | {"chunk_size": 1}, ["logarithm of the length, got 1"]),
    (["flash"], {"chunk_size": 0}, ["chunk_size must be at least 1, got 0"]),
    (["gau_alpha"], {"max_position_embeddings": 1}, ["max_position_embeddings must be at least 2, got 1"]),
    (["gau_alpha"], {"attention_key_size": 5}, ["attention_key_size must be even, got 5", "pairs"]),
    (["gau_alpha"], {"intermediate_size": 0}, ["intermediate_size must be at least 1, got 0"]),
    (["gau_alpha"], {"use_bias": True}, ["use_bias must be False"]),
    (["gau_alpha"], {"attention_scale": False}, ["attention_scale must be True"]),
    (["gau_alpha"], {"embedding_size": 9}, ["embedding_size must equal hidden_size (8), got 9"]),
    (["gau_alpha"], {"hidden_dropout_prob": 1.5}, ["hidden_dropout_prob must be at least 0 and below 1, got 1.5"]),
]


@pytest.mark.parametrize(
    ("family", "changes", "parts"),
    [(family, changes, parts) for families, changes, parts in BAD_SETTINGS for family in families],
)
def test_a_configuration_that_no_model_can_have_is_refused(family, changes, parts):
    assert_holds(refusal_of(config_of, family, **changes), parts)
    # nor may settings over those of a folder make it
    config = config_of(family)
    assert_holds(refusal_of(config.from_dict, config.to_dict(), **changes), parts)


@for_each_gated_family
def test_a_masked_language_model_that_sees_one_side_only_is_refused(family):
    message = refusal_of(model_of, family, "ForMaskedLM", causal=True)
    assert_holds(message, ["it needs causal=False", "ForCausalLM"])


# --- inputs

BATCH, SHAPED = {"input_ids": IDS}, "(batch_size, sequence_length)"
BAD_INPUTS = [
    ({"input_ids": IDS + 1}, ["input_ids", "vocab_size - 1 = 11, got 12", "tokenizer", "resize_token_embeddings"]),
    ({"input_ids": IDS - 4}, ["input_ids must lie between 0", "got -3"]),
    ({"input_ids": IDS.double()}, ["input_ids must be integers, got torch.float64", "inputs_embeds"]),
    ({"input_ids": IDS[:, :0]}, ["input_ids", "at least one token, got (2, 0)"]),
    ({"input_ids": IDS[0]}, ["input_ids", SHAPED, "got (5,)"]),
    ({"input_ids": IDS[None]}, ["input_ids", SHAPED, "got (1, 2, 5)"]),
    ({"inputs_embeds": torch.zeros(2, 0, 8)}, ["inputs_embeds", "at least one token, got (2, 0, 8)"]),
    ({"inputs_embeds": torch.zeros(5, 8)}, ["inputs_embeds", "(batch_size, sequence_length, hidden_size)", "(5, 8)"]),
    ({}, ["give exactly one of input_ids and inputs_embeds"]),
    (BATCH | {"inputs_embeds": torch.zeros(2, 5, 8)}, ["give exactly one of input_ids and inputs_embeds"]),
    *(
        (BATCH | {"attention_mask": torch.ones(shape)}, ["attention_mask", f"{SHAPED} = (2, 5)", f"got {shape}"])
        for shape in [(2, 4), (2, 6), (5,), (1, 5), (5, 2), (2, 5, 5), (2, 1, 1, 5)]
    ),
    *(
        (BATCH | {"attention_mask": torch.where(IDS > 8, hidden, 0.0)}, ["attention_mask must be boolean", "float32"])
        for hidden in [-INF, torch.finfo(torch.float32).min, NAN, -1.0, 2.0]
    ),
    *(
        (BATCH | {"seq_idx": seq_idx}, ["seq_idx", f"{SHAPED} = (2, 5)", seq_idx.dtype, tuple(seq_idx.shape)])
        for seq_idx in [0 * IDS[0], 0 * IDS[:, :4], 0 * IDS[:1], 0.0 * IDS]
    ),
    ({"input_ids": IDS > 4}, ["must be integers, got torch.bool"]),
    ({"input_ids": IDS[:0]}, ["input_ids", "(0, 5)"]),
    ({"inputs_embeds": torch.zeros(2, 5, 7)}, ["inputs_embeds", "(2, 5, 7)"]),
    *(
        (BATCH | {"token_type_ids": types}, ["token_type_ids", part])
        for types, part in [(0 * IDS + 2, 2), (0 * IDS - 1, -1), (0 * IDS[:, :4], "(2, 4)"), (0.0 * IDS, "float32")]
    ),
    (BATCH | {"position_ids": IDS[:, :4]}, ["position_ids", "(2, 4)"]),
    (BATCH | {"position_ids": IDS - 4}, ["position_ids must not be negative, got -3"]),
]


@pytest.mark.parametrize(("inputs", "parts"), BAD_INPUTS)
@for_each_family
def test_an_input_that_makes_no_sense_is_refused(family, inputs, parts):
    assert_holds(refusal_of(model_of(family), **inputs), parts)


@pytest.mark.parametrize("ending", ["ForSequenceClassification", "ForQuestionAnswering", "ForMultipleChoice"])
@for_each_family
def test_a_head_with_one_answer_a_row_refuses_packed_rows(family, ending):
    input_ids = IDS[:, None] if ending == "ForMultipleChoice" else IDS
    message = refusal_of(model_of(family, ending), input_ids, seq_idx=torch.zeros_like(IDS))
    assert_holds(message, ["seq_idx", "one answer a row"])
    positions = torch.tensor([[0, 1, 0, 1, 2]])
    positions = positions[:, None] if ending == "ForMultipleChoice" else positions
    message = refusal_of(model_of(family, ending), input_ids, position_ids=positions.expand(input_ids.shape))
    assert_holds(message, ["position_ids", "begin anew", "one answer a row", "attention_mask"])
    assert model_of(family, ending)(
        input_ids, position_ids=positions.expand(input_ids.shape), attention_mask=torch.ones_like(input_ids)
    )


@for_each_family
def test_choices_without_an_axis_of_their_own_are_refused(family):
    message = refusal_of(model_of(family, "ForMultipleChoice"), IDS)
    assert_holds(message, ["(batch_size, choices, sequence_length)", "got (2, 5)"])


# --- caches


def cache_of(family, input_ids=IDS, **changes):
    return model_of(family, "ForCausalLM", **changes)(input_ids).past_key_values


@pytest.mark.parametrize("ending", ["Model", "ForMaskedLM"])
@for_each_family
def test_a_cache_for_a_model_that_sees_both_sides_is_refused(family, ending):
    message = refusal_of(model_of(family, ending), IDS, past_key_values=DynamicCache())
    assert_holds(message, ["past_key_values", "causal=True"])


@for_each_gated_family
def test_packed_sequences_behind_a_cache_are_refused(family):
    model, packed = model_of(family, "ForCausalLM"), {"seq_idx": torch.zeros_like(IDS)}
    assert_holds(refusal_of(model, IDS, **packed, past_key_values=cache_of(family)), ["seq_idx", "past_key_values"])
    outputs = model(IDS, **packed)
    assert outputs.past_key_values is None
    assert outputs.logits.isfinite().all()


@pytest.mark.parametrize("rows", [1, 3])
@for_each_gated_family
def test_a_cache_of_another_batch_size_is_refused(family, rows):
    cache = cache_of(family, IDS[:1].repeat(rows, 1))
    message = refusal_of(model_of(family, "ForCausalLM"), IDS, past_key_values=cache)
    assert_holds(message, [f"holds a batch of {rows}", "one of 2", "batch_repeat_interleave"])


@for_each_gated_family
def test_a_cache_that_another_architecture_filled_is_refused(family):
    (other_family,) = set(GATED_FAMILIES) - {family}
    for cache in (cache_of(other_family), llama()(IDS).past_key_values):
        message = refusal_of(model_of(family, "ForCausalLM"), IDS, past_key_values=cache)
        assert_holds(message, ["past_key_values was filled by another model", type(cache.layers[0]).__name__])


def test_a_recurrent_state_is_refused_where_keys_and_values_are_wanted():
    message = refusal_of(llama(), IDS, past_key_values=cache_of("flash"))
    assert_holds(message, ["a FLASH model's", "no keys and values"])


@for_each_gated_family
def test_a_cache_of_another_depth_is_refused(family):
    model = model_of(family, "ForCausalLM", num_hidden_layers=1)
    assert_holds(refusal_of(model, IDS, past_key_values=cache_of(family)), ["2 layers", "this model 1"])


@pytest.mark.parametrize(
    ("family", "changes", "length"),
    [
        ("flash", {"chunk_size": 2}, 1),
        ("flash", {"chunk_size": 2}, 2),
        ("flash", {"query_key_dim": 6}, 2),
        ("flash_quad", {"query_key_dim": 6}, 2),
    ],
)
def test_a_cache_of_a_model_of_other_sizes_is_refused(family, changes, length):
    model = model_of(family, "ForCausalLM", **changes)
    message = refusal_of(model, IDS[:, :length], past_key_values=cache_of(family))
    assert_holds(message, ["past_key_values", "another model"])


@for_each_gated_family
def test_a_cache_that_is_no_dynamic_cache_is_refused(family):
    model, static = model_of(family, "ForCausalLM"), StaticCache(config=llama().config, max_cache_len=10)
    for cache in (static, EncoderDecoderCache(DynamicCache(), DynamicCache()), ((IDS, IDS),) * 2):
        message = refusal_of(model, IDS, past_key_values=cache)
        assert_holds(message, ["must be a DynamicCache", f"got {type(cache).__name__}", "cache_implementation"])
    message = refusal_of(model.generate, IDS, cache_implementation="static", max_new_tokens=2)
    assert_holds(message, ["StaticCache", "cache_implementation"])


@for_each_gated_family
def test_a_cache_is_refused_while_layers_are_recomputed(family):
    cache, model = cache_of(family), model_of(family, "ForCausalLM").train()
    model.gradient_checkpointing_enable()
    message = refusal_of(model, IDS, past_key_values=cache)
    assert_holds(message, ["past_key_values", "gradient checkpointing recomputes layers"])
    # a user of generate passed none
    assert_holds(refusal_of(model.generate, IDS, max_new_tokens=2), ["model.eval()", "use_cache=False"])
    assert model.generate(IDS, max_new_tokens=2, use_cache=False).shape == (2, 7)


@for_each_gated_family
def test_behind_a_cache_the_mask_covers_what_is_cached_too(family):
    behind = {"attention_mask": torch.ones(2, 5), "past_key_values": cache_of(family)}
    message = refusal_of(model_of(family, "ForCausalLM"), IDS, **behind)
    assert_holds(message, ["(batch_size, cached + sequence_length) = (2, 10)", "got (2, 5)"])


@for_each_gated_family
def test_taking_back_tokens_that_a_cache_cannot_forget_is_refused(family):
    message = refusal_of(cache_of(family, token_shift=0.25).crop, -1)
    assert_holds(message, ["cannot forget tokens", "without an assistant"])


# --- labels

LANGUAGE_MODELS = [(family, "ForMaskedLM") for family in FAMILIES] + [(name, "ForCausalLM") for name in GATED_FAMILIES]
TOKENS = [
    (IDS + 1, ["between 0 and 11", "got 12", "-100"]),
    (0 * IDS - 1, ["between 0 and 11", "got -1"]),
    (IDS.float(), ["must be integers", "torch.float32"]),
    (IDS[:, :4], ["(2, 4)"]),
    (IDS.T, ["(5, 2)"]),
    (IDS.flatten(), ["(10,)"]),
]


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize(("labels", "parts"), TOKENS)
@pytest.mark.parametrize(("family", "ending"), LANGUAGE_MODELS)
def test_labels_of_a_language_model_that_do_not_fit_are_refused(family, ending, labels, parts, training):
    model = model_of(family, ending).train(training)
    assert_holds(refusal_of(model, IDS, labels=labels), ["labels", *parts])


@pytest.mark.parametrize(
    ("ending", "labels", "parts"),
    [
        ("ForSequenceClassification", ROW_LABELS + 1, ["between 0 and 2", "got 3"]),
        ("ForSequenceClassification", ROW_LABELS - 1, ["between 0 and 2", "got -1"]),
        ("ForSequenceClassification", ROW_LABELS.float(), ["(2, 3)", "got (2,)"]),
        ("ForSequenceClassification", ROW_LABELS.repeat(2), ["(4,)"]),
        ("ForSequenceClassification", ROW_LABELS[None], ["(1, 2)"]),
        ("ForTokenClassification", IDS, ["between 0 and 2", "got 11"]),
        ("ForTokenClassification", 0 * IDS - 5, ["between 0 and 2", "got -5"]),
        ("ForTokenClassification", 0.0 * IDS, ["must be integers", "torch.float32"]),
        ("ForTokenClassification", IDS[:, :4] % 3, ["(2, 4)"]),
        ("ForTokenClassification", IDS.flatten() % 3, ["(10,)"]),
        ("ForMultipleChoice", ROW_LABELS + 1, ["between 0 and 2", "the choices", "got 3"]),
        ("ForMultipleChoice", ROW_LABELS - 1, ["between 0 and 2", "got -1"]),
        ("ForMultipleChoice", ROW_LABELS.float(), ["must be integers", "torch.float32"]),
        ("ForMultipleChoice", ROW_LABELS.repeat(2), ["(4,)"]),
        ("ForMultipleChoice", ROW_LABELS[:, None], ["(2, 1)"]),
    ],
)
@for_each_family
def test_labels_of_a_classifier_that_do_not_fit_are_refused(family, ending, labels, parts):
    input_ids = IDS[:, None].expand(2, 3, 5) if ending == "ForMultipleChoice" else IDS
    message = refusal_of(model_of(family, ending, num_labels=3), input_ids, labels=labels)
    assert_holds(message, ["labels", *parts])


@pytest.mark.parametrize(
    ("problem_type", "num_labels", "shape"),
    [("regression", 1, (3,)), ("regression", 3, (2,)), ("multi_label_classification", 3, (3, 2))],
)
@for_each_family
def test_values_of_another_shape_than_the_logits_are_refused(family, problem_type, num_labels, shape):
    model = model_of(family, "ForSequenceClassification", num_labels=num_labels, problem_type=problem_type)
    message = refusal_of(model, IDS, labels=torch.ones(shape))
    assert_holds(message, ["labels must have the shape (2", f"got {shape}"])


@for_each_family
def test_class_ids_may_be_int32(family):
    model = model_of(family, "ForSequenceClassification", num_labels=3)
    losses = [model(IDS, labels=ROW_LABELS.to(dtype)).loss for dtype in (torch.int64, torch.int32)]
    assert torch.equal(*losses)


@pytest.mark.parametrize(
    ("positions", "part"),
    [
        (torch.tensor([-3, 1]), "-3"),
        (torch.tensor([0.0, 1.0]), "float32"),
        (torch.tensor([0, 1, 2]), "(3,)"),
    ],
)
@for_each_family
def test_answer_positions_that_do_not_fit_are_refused(family, positions, part):
    answers = {"start_positions": positions, "end_positions": positions}
    assert_holds(refusal_of(model_of(family, "ForQuestionAnswering"), IDS, **answers), ["start_positions", part])


@for_each_family
def test_a_batch_whose_answers_were_all_cut_off_has_a_finite_loss(family):
    beyond = torch.tensor([5, 9])
    outputs = model_of(family, "ForQuestionAnswering")(IDS, start_positions=beyond, end_positions=beyond)
    assert outputs.loss.isfinite()


# --- checkpoints


@pytest.mark.parametrize(("saved", "wanted"), [(a, b) for a in FAMILIES for b in FAMILIES if a != b])
def test_a_folder_of_another_architecture_is_refused_by_a_model_class(saved, wanted, tmp_path):
    model_of(saved, "ForMaskedLM").save_pretrained(tmp_path)
    model_class = getattr(flash, f"{PREFIXES[wanted]}ForMaskedLM")
    assert_holds(refusal_of(model_class.from_pretrained, tmp_path), [saved, wanted])


@for_each_family
def test_a_folder_is_loaded_as_the_architecture_that_it_holds(family, tmp_path):
    model = model_of(family, "ForMaskedLM")
    model.save_pretrained(tmp_path)
    loaded = load_masked_lm(str(tmp_path))
    assert type(loaded) is type(model)
    torch.testing.assert_close(loaded(IDS).logits, model(IDS).logits)


@pytest.mark.parametrize(("saved", "named"), [("flash", "flash_quad"), ("flash_quad", "flash")])
def test_a_folder_whose_config_names_another_architecture_is_refused(saved, named, tmp_path):
    model_of(saved, "ForMaskedLM").save_pretrained(tmp_path)
    config_of(named).save_pretrained(tmp_path)
    assert_holds(refusal_of(load_masked_lm, str(tmp_path)), [tmp_path, "its weights do not fit its config.json"])


@for_each_gated_family
def test_a_folder_of_a_causal_model_is_refused_where_masks_are_filled(family, tmp_path):
    model_of(family, "ForCausalLM").save_pretrained(tmp_path)
    assert_holds(refusal_of(load_masked_lm, str(tmp_path)), [tmp_path, "needs causal=False"])
