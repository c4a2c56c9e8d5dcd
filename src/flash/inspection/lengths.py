"""What predictions for the same masked sentences lose by padding and inside longer inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from flash.inspection.distribution import Distribution, describe
from flash.inspection.sentences import MaskedSentence, PlacedSentences, place_alone, place_padded, place_within
from flash.inspection.stream import cosine_similarity
from flash.inspection.texts import SPECIAL_TOKEN_COUNT

# Bounds the work of one length: at long ones the first few sentences stand for all.
TOKENS_PER_LENGTH = 16_384
_TOKENS_PER_BATCH = 4_096
_SHORTEST = 64
# A score matrix of float32 with so many rows takes 256 MiB, and a layer holds a few.
LONGEST = 8_192
# Longer than trained: up to so many times max_position_embeddings.
_STRETCH = (1, 2, 4, 8)


@dataclass(frozen=True)
class LengthMeasures:
    """Predictions for the same masked tokens in one kind of input; see docs/inspect.md for the meaning of each number.

    Args:
        setting: ``alone``, ``padded_right``, ``padded_left`` or ``within``.
        length: Tokens of an input, padding counted; their mean where sentences stand alone.
        sentences: Number of them; at long inputs the first few of all.
        masked_tokens: Number of the tokens scored.
        loss: Mean cross-entropy at the masked tokens, in nats.
        accuracy: Share of the masked tokens whose most probable prediction is right.
        loss_change: Loss less that of the same sentences alone, in nats.
        loss_change_error: Standard error of that difference over the masked tokens; None for a single one.
        hidden_cosine: Cosine similarity of the final hidden states of the sentence's tokens to those of it alone.
        kl_divergence: Of the predictions for it alone from these, ``sum p_alone log(p_alone / p)``, mean over the
            masked tokens, in nats.
        distinct_predictions: Number of different most probable tokens, over the number of masked tokens.
        distinct_alone: The same where these sentences stand alone.
    """

    setting: str
    length: float
    sentences: int
    masked_tokens: int
    loss: float | None
    accuracy: float
    loss_change: float | None
    loss_change_error: float | None
    hidden_cosine: Distribution
    kl_divergence: float | None
    distinct_predictions: float
    distinct_alone: float


@dataclass(frozen=True)
class _Prediction:
    """What a model makes of one sentence.

    Args:
        hidden_states: Of its tokens, without [CLS] and [SEP], ``(tokens, d)``.
        log_probabilities: At its masked tokens, ``(masked, vocab_size)``, float64.
        labels: The true ids there, ``(masked,)``.
    """

    hidden_states: Tensor
    log_probabilities: Tensor
    labels: Tensor


def lengths_to_measure(max_length: int, max_position_embeddings: int, stream_tokens: int) -> list[int]:
    """List the lengths of inputs around a sentence, ascending.

    Powers of two from 64 to ``max_length``, this itself, and 1, 2, 4 and 8 times ``max_position_embeddings`` where that
    is more, or 8,192 in the place of what is longer; none longer than the text has tokens for.
    """
    lengths = {max_length, *(min(stretch * max_position_embeddings, LONGEST) for stretch in _STRETCH)}
    lengths = {length for length in lengths if length >= max_length}
    power = _SHORTEST
    while power < max_length:
        lengths.add(power)
        power *= 2
    longest = min(stream_tokens, LONGEST)
    return sorted(length for length in lengths if _SHORTEST <= length <= longest)


def sentences_at(length: int, count: int) -> int:
    """Count the sentences that are placed in inputs of a length: all, or as many as the bound on the work allows."""
    return min(count, max(1, TOKENS_PER_LENGTH // length))


def tokens_to_encode(sentences: Sequence[MaskedSentence], max_length: int, lengths: Sequence[int]) -> int:
    """Count the tokens that `measure_lengths` gives to the model, padding included."""
    padded = 2 * max_length * sentences_at(max_length, len(sentences))
    within = sum(length * sentences_at(length, len(sentences)) for length in lengths)
    alone = sum(len(sentence.masked_ids) + SPECIAL_TOKEN_COUNT for sentence in sentences)
    return alone + padded + within


@torch.inference_mode()
def measure_lengths(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    sentences: Sequence[MaskedSentence],
    stream: NDArray,
    *,
    max_length: int,
    lengths: Sequence[int],
    on_tokens: Callable[[int], object] = lambda count: None,
) -> list[LengthMeasures]:
    """Score the masked tokens of the same sentences in every setting.

    Args:
        model: A masked language model of this package in evaluation mode.
        tokenizer: Its tokenizer.
        sentences: What is scored.
        stream: The text that the sentences are from.
        max_length: Length that sentences are padded to.
        lengths: Lengths of inputs with other text around a sentence.
        on_tokens: Called with the number of tokens encoded.
    """
    alone = [
        prediction
        for sentence in sentences
        for prediction in _predict(model, [sentence], place_alone(sentence, tokenizer), on_tokens)
    ]
    mean_length = sum(len(sentence.masked_ids) for sentence in sentences) / len(sentences) + SPECIAL_TOKEN_COUNT
    results = [_compare("alone", mean_length, alone, alone)]

    def measure(setting: str, length: int, place: Callable[[Sequence[MaskedSentence]], PlacedSentences]) -> None:
        some = sentences[: sentences_at(length, len(sentences))]
        predictions: list[_Prediction] = []
        for batch in _batches(some, length):
            predictions.extend(_predict(model, batch, place(batch), on_tokens))
        results.append(_compare(setting, length, predictions, alone))

    for side in ("right", "left"):
        measure(f"padded_{side}", max_length, partial(place_padded, tokenizer=tokenizer, length=max_length, side=side))
    for length in lengths:
        measure("within", length, partial(place_within, stream=stream, tokenizer=tokenizer, length=length))
    return results


def _batches(sentences: Sequence[MaskedSentence], length: int) -> Iterator[Sequence[MaskedSentence]]:
    size = max(1, _TOKENS_PER_BATCH // length)
    for begin in range(0, len(sentences), size):
        yield sentences[begin : begin + size]


def _predict(
    model: PreTrainedModel,
    sentences: Sequence[MaskedSentence],
    placed: PlacedSentences,
    on_tokens: Callable[[int], object],
) -> list[_Prediction]:
    device = model.device
    final = model.base_model(
        input_ids=placed.input_ids.to(device), attention_mask=placed.attention_mask.to(device)
    ).last_hidden_state
    on_tokens(placed.input_ids.numel())
    predictions = []
    for row, (sentence, begin) in enumerate(zip(sentences, placed.begins, strict=True)):
        hidden_states = final[row, begin : begin + len(sentence.masked_ids)].clone()
        labels = torch.from_numpy(sentence.labels)
        scored = labels >= 0
        # logits of the scored tokens alone: those of a long input would not fit
        logits = model.lm_head(hidden_states[scored.to(device)])
        log_probabilities = logits.cpu().double().log_softmax(dim=-1)
        predictions.append(_Prediction(hidden_states.cpu(), log_probabilities, labels[scored]))
    return predictions


def _compare(
    setting: str, length: float, predictions: Sequence[_Prediction], all_alone: Sequence[_Prediction]
) -> LengthMeasures:
    alone = all_alone[: len(predictions)]
    labels = torch.cat([prediction.labels for prediction in predictions])
    here, there = (torch.cat([p.log_probabilities for p in some]) for some in (predictions, alone))  # (masked, v)
    losses, losses_alone = (-x.gather(1, labels[:, None])[:, 0] for x in (here, there))
    change = losses - losses_alone
    best, best_alone = here.argmax(dim=-1), there.argmax(dim=-1)
    cosines = torch.cat(
        [cosine_similarity(p.hidden_states, a.hidden_states) for p, a in zip(predictions, alone, strict=True)]
    )
    divergences = (there.exp() * (there - here)).sum(dim=-1)
    return LengthMeasures(
        setting=setting,
        length=length,
        sentences=len(predictions),
        masked_tokens=len(labels),
        loss=_finite(losses.mean()),
        accuracy=(best == labels).double().mean().item(),
        loss_change=_finite(change.mean()),
        loss_change_error=_finite(change.std() / len(change) ** 0.5) if len(change) > 1 else None,
        hidden_cosine=describe(cosines),
        kl_divergence=_finite(divergences.mean()),
        distinct_predictions=len(best.unique()) / len(best),
        distinct_alone=len(best_alone.unique()) / len(best_alone),
    )


def _finite(x: Tensor) -> float | None:
    return x.item() if x.isfinite() else None
