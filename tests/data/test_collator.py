import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from flash.corpus.tokenizer_loading import load_tokenizer
from flash.data.collator import WholeWordMaskCollator
from flash.data.pretraining_dataset import PretrainingDataset, load_prepared_folder, tokenize_dataset
from flash.errors import InputError

from toy_pretraining import MAX_LENGTH, word_numbers


@pytest.fixture(scope="module")
def tokenizer(toy_vocabulary):
    return load_tokenizer(toy_vocabulary)


@pytest.fixture
def dataset(toy_dataset, tokenizer):
    rows = load_prepared_folder(toy_dataset)
    return PretrainingDataset(tokenize_dataset(rows, folder=toy_dataset, tokenizer=tokenizer, max_length=MAX_LENGTH))


def unpadded(batch: dict[str, Tensor]) -> list[dict[str, list[int]]]:
    """Each row of a batch without its padding."""
    lengths = batch["attention_mask"].sum(dim=1).tolist()
    return [
        {name: batch[name][number, :length].tolist() for name in ("input_ids", "labels")}
        for number, length in enumerate(lengths)
    ]


def test_a_batch_is_three_int64_tensors_padded_to_its_longest_row(dataset, tokenizer):
    rows = dataset.__getitems__(range(5))
    lengths = rows.lengths.tolist()
    assert len(set(lengths)) > 1
    batch = WholeWordMaskCollator(tokenizer)(rows)
    assert sorted(batch) == ["attention_mask", "input_ids", "labels"]
    for tensor in batch.values():
        assert tensor.dtype == torch.int64
        assert tensor.shape == (5, max(lengths))
    assert batch["attention_mask"].tolist() == [[1] * n + [0] * (max(lengths) - n) for n in lengths]
    padding = batch["attention_mask"] == 0
    assert (batch["input_ids"][padding] == tokenizer.pad_token_id).all()
    assert (batch["labels"][padding] == -100).all()


@pytest.mark.parametrize(
    ("settings", "width"), [({"pad_to": MAX_LENGTH}, MAX_LENGTH), ({"pad_to": 61, "pad_to_multiple_of": 8}, 64)]
)
def test_padding_to_a_length_changes_nothing_but_the_padding(dataset, tokenizer, settings, width):
    rows = dataset.__getitems__([0, 1])
    batch = WholeWordMaskCollator(tokenizer, **settings)(rows)
    assert batch["input_ids"].shape == (2, width)
    assert unpadded(batch) == unpadded(WholeWordMaskCollator(tokenizer)(rows))


def test_the_padded_length_is_rounded_up(dataset, tokenizer):
    lengths = dataset.__getitems__(range(len(dataset))).lengths
    rows = dataset.__getitems__(np.flatnonzero(lengths % 8)[:3])
    batch = WholeWordMaskCollator(tokenizer, pad_to_multiple_of=8)(rows)
    assert batch["input_ids"].shape[1] == math.ceil(rows.lengths.max() / 8) * 8


def test_labels_are_the_text_and_ids_are_the_text_where_nothing_is_scored(dataset, tokenizer):
    rows = dataset.__getitems__(range(len(dataset)))
    true_ids = np.split(rows.input_ids, np.cumsum(rows.lengths)[:-1])
    for true, masked in zip(true_ids, unpadded(WholeWordMaskCollator(tokenizer)(rows)), strict=True):
        shown, labels = (np.array(masked[name]) for name in ("input_ids", "labels"))
        scored = labels != -100
        np.testing.assert_array_equal(shown[~scored], true[~scored])
        np.testing.assert_array_equal(labels[scored], true[scored])


def test_a_list_of_rows_gives_the_batch_of_the_rows_read_at_once(dataset, tokenizer):
    collator = WholeWordMaskCollator(tokenizer)
    one_by_one, at_once = collator([dataset[index] for index in (3, 1)]), collator(dataset.__getitems__([3, 1]))
    assert all(torch.equal(one_by_one[name], at_once[name]) for name in at_once)


@pytest.mark.parametrize("mask_ngrams", [1, 3])
def test_masking_later_hides_the_same_tokens(dataset, tokenizer, mask_ngrams):
    rows = dataset.__getitems__(range(6))
    settings = {"seed": 3, "mask_ngrams": mask_ngrams}
    later = WholeWordMaskCollator(tokenizer, mask_later=True, **settings)
    batch = later(rows)
    assert sorted(batch) == ["attention_mask", "input_ids", "row_keys", "word_starts"]
    masked, at_once = later.masker(batch), WholeWordMaskCollator(tokenizer, **settings)(rows)
    assert sorted(masked) == sorted(at_once)
    assert all(torch.equal(masked[name], at_once[name]) for name in at_once)


def test_a_row_is_masked_the_same_in_every_batch(dataset, tokenizer):
    collator = WholeWordMaskCollator(tokenizer, seed=3)
    together = unpadded(collator(dataset.__getitems__(range(6))))
    assert [unpadded(collator(dataset.__getitems__([index])))[0] for index in range(6)] == together
    assert unpadded(collator(dataset.__getitems__([4, 0, 2]))) == [together[index] for index in (4, 0, 2)]


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # more workers than cores are meant
@pytest.mark.parametrize("workers", [1, 3])
def test_masks_do_not_depend_on_the_number_of_workers(dataset, tokenizer, workers):
    collator = WholeWordMaskCollator(tokenizer, seed=3)
    alone, parallel = (
        list(DataLoader(dataset, batch_size=4, collate_fn=collator, num_workers=number)) for number in (0, workers)
    )
    assert len(alone) == len(parallel)
    for one, other in zip(alone, parallel, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_workers_that_outlive_an_epoch_draw_the_masks_of_the_next(dataset, tokenizer):
    collator = WholeWordMaskCollator(tokenizer)
    lasting = DataLoader(dataset, batch_size=8, collate_fn=collator, num_workers=1, persistent_workers=True)
    labels = []
    for epoch in (0, 1):
        dataset.use_masks_of_epoch(epoch)
        labels.append(torch.cat([batch["labels"].flatten() for batch in lasting]))
        fresh = DataLoader(dataset, batch_size=8, collate_fn=collator)
        assert torch.equal(labels[epoch], torch.cat([batch["labels"].flatten() for batch in fresh]))
    assert not torch.equal(*labels)


def test_masks_differ_between_seeds_epochs_and_rows(dataset, tokenizer):
    rows = dataset[int(dataset.__getitems__(range(len(dataset))).lengths.argmax())]
    variants = [
        (seed, replace(rows, epoch=epoch, numbers=np.array([number])))
        for seed, epoch, number in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    ]
    masks = [
        tuple(WholeWordMaskCollator(tokenizer, seed=seed, mask_probability=0.5)(rows)["labels"][0].tolist())
        for seed, rows in variants
    ]
    assert len(set(masks)) == len(masks)


def test_words_of_real_text_are_masked_whole_and_special_tokens_never(toy_dataset, dataset, tokenizer):
    texts = load_prepared_folder(toy_dataset)["text"]
    collator = WholeWordMaskCollator(tokenizer, mask_probability=0.3)
    broken = scored_words = 0
    for epoch in range(10):
        dataset.use_masks_of_epoch(epoch)
        masked = unpadded(collator(dataset.__getitems__(range(len(dataset)))))
        for text, row in zip(texts, masked, strict=True):
            numbers = word_numbers(text)
            spans = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
            word_of_token = np.array([numbers[start] for start, _ in spans])
            assert row["labels"][0] == row["labels"][-1] == -100
            assert (row["input_ids"][0], row["input_ids"][-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
            scored = np.array(row["labels"][1:-1]) != -100
            for word in np.unique(word_of_token[scored]):
                scored_words += 1
                broken += not scored[word_of_token == word].all()
    assert scored_words > 1000
    assert broken == 0


def test_real_text_is_scored_at_the_asked_rate(dataset, tokenizer):
    collator = WholeWordMaskCollator(tokenizer)
    scored = tokens = 0
    for epoch in range(40):
        dataset.use_masks_of_epoch(epoch)
        batch = collator(dataset.__getitems__(range(len(dataset))))
        scored += int((batch["labels"] != -100).sum())
        tokens += int(batch["attention_mask"].sum()) - 2 * len(dataset)
    # words are of at most five tokens ("running"), so a sum of them spreads at most that much wider than of tokens
    assert abs(scored / tokens - 0.15) < 5 * math.sqrt(5 * 0.15 * 0.85 / tokens)


def test_replacements_are_never_special_tokens(dataset, tokenizer):
    collator = WholeWordMaskCollator(tokenizer, mask_probability=0.9)
    special = set(tokenizer.all_special_ids) - {tokenizer.mask_token_id}
    replaced = []
    for epoch in range(30):
        dataset.use_masks_of_epoch(epoch)
        batch = collator(dataset.__getitems__(range(len(dataset))))
        changed = (
            (batch["labels"] != -100)
            & (batch["input_ids"] != batch["labels"])
            & (batch["input_ids"] != tokenizer.mask_token_id)
        )
        replaced += batch["input_ids"][changed].tolist()
    assert len(replaced) > 10 * len(tokenizer)
    assert not special & set(replaced)
    assert max(replaced) == len(tokenizer) - 1  # up to the last token of the vocabulary


@pytest.mark.parametrize("mask_probability", [0.0, 1.0, -0.1, float("nan")])
def test_a_rate_that_masks_nothing_or_all_is_refused(tokenizer, mask_probability):
    with pytest.raises(InputError, match=rf"mask_probability .* got {mask_probability}; 0\.15"):
        WholeWordMaskCollator(tokenizer, mask_probability=mask_probability)


def test_spans_of_no_words_are_refused(tokenizer):
    with pytest.raises(InputError, match="mask_ngrams must be at least 1, got 0"):
        WholeWordMaskCollator(tokenizer, mask_ngrams=0)
