"""A model and text -> everything that is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from flash.corpus.documents import ReadingSettings
from flash.corpus.embedded import embedded_corpus
from flash.corpus.input_files import printable
from flash.corpus.progress import WorkProgress
from flash.corpus.tokenizer_loading import tokenizer_description
from flash.errors import InputError
from flash.inspection.findings import find_warnings
from flash.inspection.layers import StackMeasures, measure_layers
from flash.inspection.lengths import LONGEST, LengthMeasures, lengths_to_measure, measure_lengths, tokens_to_encode
from flash.inspection.loading import load_model_and_tokenizer, untrained_like
from flash.inspection.sentences import MaskedSentence, draw_sentences
from flash.inspection.texts import PASSAGE_TOKENS, SPECIAL_TOKEN_COUNT, Texts, read_texts
from flash.models.base_configuration import own_settings

FORMAT_VERSION = 1
_DEFAULT_MAX_LENGTH = 512
_MIN_MAX_LENGTH = PASSAGE_TOKENS + SPECIAL_TOKEN_COUNT
_MAX_SEED = 2**63 - 1  # PyTorch takes no higher one
_SENTENCES = 32
_TOKENS_PER_BATCH = 2_048


@dataclass(frozen=True)
class InspectionSettings:
    """What decides the numbers, beside model and text.

    Args:
        max_length: Tokens of a row at most, and of a padded sentence; None for the model's
            ``max_position_embeddings``, at least 32 and at most 512. From 32 to 8,192.
        rows: Number of rows that layers are measured on.
        seed: Of the rows, the sentences, their masks and the untrained model.
        compare_with_untrained: Measure a freshly initialised model of the same configuration too.
        reading: How files are read.
    """

    max_length: int | None = None
    rows: int = 64
    seed: int = 2022
    compare_with_untrained: bool = True
    reading: ReadingSettings = field(default_factory=ReadingSettings)

    def __post_init__(self) -> None:
        if self.max_length is not None and self.max_length < _MIN_MAX_LENGTH:
            raise InputError(
                f"max_length must be at least {_MIN_MAX_LENGTH}, got {self.max_length}: sentences have up "
                f"to {PASSAGE_TOKENS} tokens, [CLS] and [SEP]"
            )
        if self.max_length is not None and self.max_length > LONGEST:
            raise InputError(
                f"max_length must be at most {LONGEST}, got {self.max_length}: all attention weights of a row are held"
            )
        if self.rows < 1:
            raise InputError(f"rows must be at least 1, got {self.rows}; 64 is usual")
        if not 0 <= self.seed <= _MAX_SEED:
            raise InputError(f"seed must lie between 0 and 2^63 - 1, got {self.seed}")


@dataclass(frozen=True)
class ModelMeasures:
    """What was measured of one model."""

    stack: StackMeasures
    lengths: list[LengthMeasures]


@dataclass(frozen=True)
class Inspection:
    """All measures of a model, and what they were taken with; `to_dict` gives what ``inspection.json`` holds."""

    model: dict[str, Any]
    tokenizer: dict[str, Any]
    settings: dict[str, Any]
    text: dict[str, Any]
    versions: dict[str, str]
    trained: ModelMeasures
    untrained: ModelMeasures | None
    warnings: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary that JSON can hold; every number is finite or None. See docs/inspect.md."""
        return {"format_version": FORMAT_VERSION, **asdict(self)}


def inspect_model(
    name: str,
    inputs: Sequence[str | Path] = (),
    settings: InspectionSettings | None = None,
    *,
    tokenizer: str | None = None,
) -> Inspection:
    """Measure what every layer of a masked language model does, and how its predictions bear other lengths.

    The model runs in float32, on a GPU where there is one.

    Args:
        name: Hub id or folder of a FLASH-Quad, FLASH or GAU-alpha masked language model with its tokenizer.
        inputs: Files or folders of text, as for `flash.corpus.prepare`; none for the corpus that comes along.
        settings: What decides the numbers.
        tokenizer: Another tokenizer: hub id, folder or vocab.txt.

    Raises:
        InputError: No such model or one of another kind, no file, or no text long enough.
    """
    settings = settings or InspectionSettings()
    paths = [Path(path) for path in inputs] or [embedded_corpus()]
    # the corpus that comes along lies elsewhere on every machine
    named = [printable(path) for path in paths] if inputs else [paths[0].name]
    model, loaded_tokenizer = load_model_and_tokenizer(name, tokenizer=tokenizer)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    longest = model.config.max_position_embeddings
    max_length = settings.max_length or max(_MIN_MAX_LENGTH, min(longest, _DEFAULT_MAX_LENGTH))
    texts = read_texts(
        paths,
        loaded_tokenizer,
        max_length=max_length,
        rows=settings.rows,
        stream_tokens=8 * longest,
        seed=settings.seed,
        reading=settings.reading,
    )
    sentences = draw_sentences(texts, loaded_tokenizer, count=_SENTENCES, seed=settings.seed, inputs=", ".join(named))
    lengths = lengths_to_measure(max_length, longest, len(texts.stream) + SPECIAL_TOKEN_COUNT)

    models = [model]
    if settings.compare_with_untrained:
        models.append(untrained_like(model, seed=settings.seed))
    row_tokens = sum(len(row) for row in texts.rows)
    total = len(models) * (row_tokens + tokens_to_encode(sentences, max_length, lengths))
    with WorkProgress("inspect", total, log_interval=1, unit="tokens") as progress:
        measures = [
            _measure(one, loaded_tokenizer, texts, sentences, max_length, lengths, progress.advance) for one in models
        ]
    return Inspection(
        model=_model_description(name, model),
        tokenizer=tokenizer_description(loaded_tokenizer, tokenizer or name),
        settings={
            "max_length": max_length,
            "rows": settings.rows,
            "seed": settings.seed,
            "compare_with_untrained": settings.compare_with_untrained,
        },
        text={
            "inputs": named,
            "documents": texts.documents,
            "rows": len(texts.rows),
            "tokens": row_tokens,
            "sentences": len(sentences),
            "masked_tokens": int(sum((sentence.labels >= 0).sum() for sentence in sentences)),
            "stream_tokens": len(texts.stream),
        },
        versions={name: version(name) for name in ("flashquad", "torch", "transformers", "tokenizers")},
        trained=measures[0],
        untrained=measures[1] if len(measures) > 1 else None,
        warnings=find_warnings(measures[0].stack, measures[0].lengths),
    )


def _measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    texts: Texts,
    sentences: Sequence[MaskedSentence],
    max_length: int,
    lengths: Sequence[int],
    on_tokens: Callable[[int], object],
) -> ModelMeasures:
    return ModelMeasures(
        stack=measure_layers(model, _batches(texts.rows, tokenizer.pad_token_id, on_tokens)),
        lengths=measure_lengths(
            model, tokenizer, sentences, texts.stream, max_length=max_length, lengths=lengths, on_tokens=on_tokens
        ),
    )


def _batches(
    rows: Sequence[NDArray[np.int64]], pad_token_id: int, on_tokens: Callable[[int], object]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pad rows of like length together, a few thousand tokens a batch."""
    ordered = sorted(rows, key=len, reverse=True)
    while ordered:
        length = len(ordered[0])
        size = max(1, _TOKENS_PER_BATCH // length)
        batch, ordered = ordered[:size], ordered[size:]
        input_ids = torch.full((len(batch), length), pad_token_id)
        attention_mask = torch.zeros_like(input_ids)
        for index, row in enumerate(batch):
            input_ids[index, : len(row)] = torch.from_numpy(row)
            attention_mask[index, : len(row)] = 1
        yield input_ids, attention_mask
        on_tokens(sum(map(len, batch)))


def _model_description(name: str, model: PreTrainedModel) -> dict[str, Any]:
    config = model.config
    plain = {setting.name for setting in fields(config)}  # without what belongs to the class
    return {
        "name": name,
        "model_type": config.model_type,
        "class": type(model).__name__,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "configuration": {
            setting: getattr(config, setting) for setting in own_settings(type(config)) if setting in plain
        },
    }
