"""From examples to model inputs and back: nothing is lost on the way, whatever the length."""

import numpy as np
import pytest
import tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from flash.finetuning.problems import problem_of
from flash.finetuning.problems.problem import Answers, log_softmax
from flash.tasks.examples import ChoiceExample, Entity, EntityExample, TextExample
from flash.tasks.loading import load_split
from flash.tasks.task import load_task

from toy_pretraining import SENTENCES, toy_tokenizer
from toy_tasks import TASK_OF, rows_of, write_rows

TEXT = "".join(SENTENCES[:8])


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return toy_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def entity_problem():
    return problem_of(load_task("cluener"), ("a", "b"))


def certain_tags(tags):
    """Logits that leave no doubt of the tags of each window, padded as Trainer does."""
    logits = np.full((len(tags), max(map(len, tags)), 5), -100.0)
    for window, row in zip(logits, tags, strict=True):
        window[: len(row)] = 30.0 * np.eye(5)[row]
    return logits


def certain_labels(encoded):
    """Logits that leave no doubt of the labels."""
    return certain_tags([[max(tag, 0) for tag in row["labels"]] for row in encoded.features.rows])


@st.composite
def entities_of(draw, text):
    """Entities of the text that do not overlap."""
    bounds = sorted(draw(st.sets(st.integers(0, len(text)), min_size=2, max_size=12)))
    pairs = zip(bounds[::2], bounds[1::2], strict=False)
    return tuple(Entity(start, end, draw(st.sampled_from("ab"))) for start, end in pairs)


@pytest.fixture(scope="module")
def byte_level_tokenizer():
    """As ModernBERT's: a Chinese character is several tokens, and a space belongs to the word behind it."""
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    backend.train_from_iterator(["hello London", "running"], trainer)
    ends = [(name, backend.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    backend.post_processor = tokenizers.processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


@pytest.mark.parametrize(
    ("text", "entities"),
    [
        ("苹果牛奶很好", (Entity(0, 2, "a"), Entity(2, 4, "a"))),
        ("hello London", (Entity(6, 12, "b"),)),
        ("在London和Paris", (Entity(1, 7, "a"), Entity(8, 13, "b"))),
    ],
)
def test_tags_of_bytes_give_the_entities_back(text, entities, byte_level_tokenizer):
    problem = entity_problem()
    encoded = problem.encode([EntityExample(0, text, entities)], byte_level_tokenizer, 64)
    assert problem.answers(certain_labels(encoded), encoded).predictions == [entities]


@settings(deadline=None, max_examples=60)
@given(data=st.data(), length=st.integers(3, len(TEXT)), max_length=st.sampled_from((12, 20, 64, 200)))
def test_tags_give_the_entities_back(data, length, max_length, tokenizer):
    text = TEXT[:length]
    example = EntityExample(0, text, data.draw(entities_of(text)))
    problem = entity_problem()
    encoded = problem.encode([example], tokenizer, max_length)
    assert all(len(row["labels"]) <= max_length for row in encoded.features.rows)
    (found,) = problem.answers(certain_labels(encoded), encoded).predictions
    # an entity that is longer than a window's reach may come back in parts; shorter ones whole
    assert set(found) >= {entity for entity in example.entities if entity.end - entity.start <= max_length // 4 - 1}
    covered = {place for entity in found for place in range(entity.start, entity.end)}
    assert covered == {place for entity in example.entities for place in range(entity.start, entity.end)}


def test_of_overlapping_entities_the_longest_is_tagged_and_the_others_are_counted(tokenizer):
    inner, outer, apart = Entity(2, 4, "b"), Entity(0, 4, "a"), Entity(4, 6, "b")
    problem = entity_problem()
    for entities in ((inner, outer, apart, apart), (outer, inner, Entity(3, 4, "a"), apart)):
        encoded = problem.encode([EntityExample(0, "今天的天气很", entities)], tokenizer, 32)
        assert problem.answers(certain_labels(encoded), encoded).predictions == [(outer, apart)]
        assert encoded.overlapping == len(set(entities)) - 2


def test_an_entity_of_which_the_model_doubts_the_label_comes_back_whole(tokenizer):
    problem = entity_problem()
    encoded = problem.encode([EntityExample(0, "今天的天气", None)], tokenizer, 32)
    probabilities = np.full((1, 7, 5), 0.01)  # O B-a I-a B-b I-b
    probabilities[0, 1:4, 0] = 0.05
    probabilities[0, 1, [1, 3]] = 0.6, 0.3
    probabilities[0, 2, [2, 4]] = 0.3, 0.6  # token by token this would be an a, and a b without its beginning
    probabilities[0, 3, [2, 4]] = 0.3, 0.6
    probabilities[0, [0, 4, 5, 6], 0] = 0.9
    logits = problem.reduce_logits(torch.tensor(probabilities).log()).numpy()
    assert problem.answers(logits, encoded).predictions == [(Entity(0, 3, "b"),)]


def test_where_windows_overlap_the_one_in_whose_middle_a_token_stands_says(tokenizer):
    problem = entity_problem()
    encoded = problem.encode([EntityExample(0, TEXT[:60], None)], tokenizer, 24)
    assert len(encoded.windows) > 2
    # each window takes its first two and last two tokens for an entity, and is right nowhere
    tags = [[0] * len(window.offsets) for window in encoded.windows]
    for row in tags:
        row[1], row[2], row[-3], row[-2] = 1, 2, 1, 2
    (found,) = problem.answers(certain_tags(tags), encoded).predictions
    first, last = encoded.windows[0].offsets[1], encoded.windows[-1].offsets[-2]
    assert [(entity.start, entity.end) for entity in found] == [
        (first[0], encoded.windows[0].offsets[2][1]),
        (encoded.windows[-1].offsets[-3][0], last[1]),
    ]


@pytest.mark.parametrize("kind", TASK_OF)
def test_texts_are_tokenized_some_at_a_time_to_the_same_inputs(kind, tokenizer, tmp_path, monkeypatch):
    task = load_task(TASK_OF[kind])
    examples = load_split(write_rows(tmp_path / "train.json", rows_of(kind, 11)), task).examples
    labels = {"classification": ("101", "102"), "pair": ("0", "1"), "entities": ("food", "place")}
    problem = problem_of(task, labels.get(kind, ()))
    at_once = problem.encode(examples, tokenizer, 16, training=True)
    monkeypatch.setattr("flash.finetuning.problems.problem.TEXTS_AT_A_TIME", 4)
    in_parts = problem.encode(examples, tokenizer, 16, training=True)
    assert in_parts.features.rows == at_once.features.rows
    assert in_parts.lengths == at_once.lengths
    assert in_parts.windows == at_once.windows


def test_a_value_that_means_no_label_to_the_stock_trainer_counts_as_one(tokenizer):
    examples = [TextExample(i, "天", None, label) for i, label in enumerate(("-100", "-100.0", "3"))]
    problem = problem_of(load_task("value"))
    labels = [row["labels"] for row in problem.encode(examples, tokenizer, 16, training=True).features.rows]
    assert (torch.tensor(labels) != -100).all()  # in float32, as batches hold them
    assert labels == pytest.approx([-100, -100, 3], rel=1e-6)
    assert problem.scores([-100.0, -100.0, 3.0], examples)["r2"] == 1.0


def test_texts_are_cut_and_counted(tokenizer):
    problem = problem_of(load_task("tnews"), ("x", "y"))
    encoded = problem.encode([TextExample(0, "今天", None, "y"), TextExample(1, TEXT, None, "x")], tokenizer, 16)
    assert encoded.cut == 1
    assert encoded.lengths[0] == 4
    assert encoded.lengths[1] > 16
    assert [len(row["input_ids"]) for row in encoded.features.rows] == [4, 16]
    assert [row["labels"] for row in encoded.features.rows] == [1, 0]


def test_pairs_are_told_apart_and_cut_at_the_longer(tokenizer):
    problem = problem_of(load_task("afqmc"), ("0", "1"))
    encoded = problem.encode([TextExample(0, "今天", TEXT, "1")], tokenizer, 16)
    (row,) = encoded.features.rows
    assert row["input_ids"][:4] == tokenizer("今天")["input_ids"]
    assert row["token_type_ids"] == [0] * 4 + [1] * 12


def test_a_split_without_answers_has_no_labels(tokenizer):
    problem = problem_of(load_task("tnews"), ("x", "y"))
    encoded = problem.encode([TextExample(0, "今天", None, None)], tokenizer, 16)
    assert "labels" not in encoded.features.rows[0]


def test_candidates_that_are_not_there_are_not_compared(tokenizer):
    problem = problem_of(load_task("choice"))
    examples = [
        ChoiceExample(0, "今天", "？", ("好", "冷"), 1),
        ChoiceExample(1, "今天", "？", ("好", "冷", "大"), 0),
    ]
    encoded = problem.encode(examples, tokenizer, 16)
    batch = problem.collator(tokenizer, None)(encoded.features.rows)
    assert batch["input_ids"].shape[:2] == (2, 3)
    assert batch["is_candidate"].tolist() == [[True, True, False], [True, True, True]]
    logits = torch.tensor([[0.0, 1.0, 100.0], [2.0, 0.0, 0.0]])
    expected = torch.nn.functional.cross_entropy(logits[:1, :2], torch.tensor([1]))
    expected = expected + torch.nn.functional.cross_entropy(logits[1:], torch.tensor([0]))
    torch.testing.assert_close(problem.loss(logits, batch), expected)
    assert problem.answers(logits.numpy(), encoded).predictions == [1, 0]


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0], ids=["first", "in the middle", "last"])
@pytest.mark.parametrize("candidates", [("好", "冷"), ("好", TEXT)], ids=["short", "longer than half"])
@pytest.mark.parametrize("name", ["tokenizer", "byte_level_tokenizer"])
def test_a_long_text_keeps_its_blank_for_every_candidate(name, candidates, place, request):
    tokenizer = request.getfixturevalue(name)
    before = round(place * 6)
    text = TEXT * before + "____" + TEXT * (6 - before)
    encoded = problem_of(load_task("chid")).encode([ChoiceExample(0, text, "", candidates, 0)], tokenizer, 32)
    around = tokenizer.tokenize("____")
    assert encoded.cut == 1
    for ids in encoded.features.rows[0]["input_ids"]:
        tokens = tokenizer.convert_ids_to_tokens(ids)
        assert len(ids) <= 32
        assert any(tokens[place : place + len(around)] == around for place in range(len(tokens)))
    assert around[0] not in tokenizer.tokenize(TEXT)  # it is nowhere else


def test_lengths_of_choices_are_those_of_the_uncut_texts(tokenizer):
    long = ChoiceExample(0, TEXT * 6 + "____", "", ("好", "冷冷"), 0)
    examples = [long, ChoiceExample(1, "短", "问", ("好", "冷"), 0)]
    encoded = problem_of(load_task("choice")).encode(examples, tokenizer, 32)
    wholes = [
        [tokenizer(f"{each.question} {candidate}", each.context)["input_ids"] for candidate in each.candidates]
        for each in examples
    ]
    assert encoded.lengths == [max(map(len, whole)) for whole in wholes]
    assert encoded.cut == 1


def test_a_class_comes_with_its_probability_and_a_mistake_is_the_loss(tokenizer):
    problem = problem_of(load_task("tnews"), ("x", "y", "z"))
    encoded = problem.encode([TextExample(0, "今天", None, "x"), TextExample(1, "天气", None, "z")], tokenizer, 16)
    logits = np.array([[2.0, 0.0, 1.0], [0.0, 3.0, 1.0]])
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    answers = problem.answers(logits, encoded)
    assert answers.predictions == ["x", "y"]
    assert answers.confidences == pytest.approx([probabilities[0, 0], probabilities[1, 1]])
    losses = [-np.log(probabilities[0, 0]), -np.log(probabilities[1, 2])]
    assert problem.mistakes(logits, answers, encoded) == pytest.approx(losses)


def test_so_does_a_choice_among_the_candidates_that_there_are(tokenizer):
    problem = problem_of(load_task("choice"))
    examples = [ChoiceExample(0, "今天", "？", ("好", "冷"), 0), ChoiceExample(1, "今天", "？", ("好", "冷", "大"), 2)]
    encoded = problem.encode(examples, tokenizer, 16)
    logits = np.array([[0.0, 1.0, 100.0], [0.0, 0.0, 2.0]])
    first, second = (np.exp(row) / np.exp(row).sum() for row in (logits[0, :2], logits[1]))
    answers = problem.answers(logits, encoded)
    assert answers.predictions == [1, 2]
    assert answers.confidences == pytest.approx([first[1], second[2]])
    assert problem.mistakes(logits, answers, encoded) == pytest.approx([-np.log(first[0]), -np.log(second[2])])


def test_mistakes_about_values_are_squares_and_about_entities_those_missed_and_made_up(tokenizer):
    values = problem_of(load_task("stsb"))
    encoded = values.encode([TextExample(0, "今天", "天气", 2.0), TextExample(1, "好", "冷", 4.0)], tokenizer, 16)
    logits = np.array([[1.5], [1.0]])
    assert values.mistakes(logits, values.answers(logits, encoded), encoded) == [0.25, 9.0]
    entities = entity_problem()
    right = (Entity(0, 2, "a"), Entity(3, 4, "b"))
    encoded = entities.encode([EntityExample(0, "今天的天气", right)], tokenizer, 16)
    answers = Answers([(Entity(0, 2, "a"), Entity(3, 5, "b"), Entity(2, 3, "a"))], [None])
    assert entities.mistakes(None, answers, encoded) == [3.0]


def test_class_weights_weigh_the_loss():
    problem = problem_of(load_task("tnews"), ("x", "y"))
    problem.class_weights = [1.0, 3.0]
    logits, labels = torch.tensor([[0.0, 1.0], [2.0, 0.0]]), torch.tensor([0, 1])
    one_by_one = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(problem.loss(logits, {"labels": labels}), one_by_one[0] + 3 * one_by_one[1])


def test_log_probabilities_are_those_of_torch():
    logits = np.array([[1000.0, 999.0], [-5.0, 3.0]])
    expected = torch.log_softmax(torch.tensor(logits), dim=-1).numpy()
    np.testing.assert_allclose(log_softmax(logits), expected, rtol=1e-12)
