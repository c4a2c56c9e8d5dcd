"""The stretch of a text that answers a question, in windows that overlap so that no answer is lost between two."""

import logging
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from transformers import AutoModelForQuestionAnswering, BatchEncoding, PreTrainedTokenizerFast

from flash.errors import InputError
from flash.finetuning.problems.problem import (
    Answers,
    Encoded,
    Features,
    Problem,
    all_answered,
    log_softmax,
    rows_of,
    slices,
    token_counts,
)
from flash.tasks.examples import Answer, ReadingExample
from flash.tasks.metrics import reading_scores

MOST_QUESTION = 0.5  # of an input; what is longer is cut
OVERLAP = 0.5  # of a window's share of the text
BEFORE_ANSWER = 16  # characters that an answer's own window begins before it, where there is room
BEST_STARTS = 20  # each is paired with the best end in its reach, so that there is always an answer
SHORTEST_REACH, REACH = 64, 2  # tokens that an answer may always have; times the longest one of the training file

logger = logging.getLogger(__name__)


@dataclass
class _Window:
    """A question with a stretch of its text: the example's index, and the text's tokens and their characters."""

    owner: int
    first: int
    last: int  # the last token of the text, inclusive; before ``first`` where there is none
    offsets: list[tuple[int, int]]
    start: int  # characters of the stretch, with those that no token is made of where the text begins or ends with them
    end: int


class ReadingProblem(Problem):
    """Point at the first and at the last token of the answer."""

    auto_class: ClassVar[Any] = AutoModelForQuestionAnswering
    outputs: ClassVar[int] = 2
    reads_windows: ClassVar[bool] = True

    def config_settings(self) -> dict[str, Any]:
        """Say that there are two outputs, whatever number the checkpoint was trained for last."""
        return {"num_labels": 2}

    @property
    def most_answer_tokens(self) -> int:
        """Tokens of the longest answer that is given: twice those of the longest one trained on, 64 at least."""
        return max(SHORTEST_REACH, REACH * self.measured.get("longest_answer_tokens", 0))

    def encode(
        self,
        examples: Sequence[ReadingExample],
        tokenizer: PreTrainedTokenizerFast,
        max_length: int,
        *,
        training: bool = False,
    ) -> Encoded:
        """Tokenize question and text, in windows that overlap by half, and find the first answer's tokens.

        In training an answer that no window holds in whole gets a window of its own; one that is longer than any
        window is not learned, and counted as ``cut``. Else a question is counted if no window holds any answer to it.
        """
        if not examples:
            return Encoded(examples, Features([]), [])
        most = int(MOST_QUESTION * max_length)
        questions = [_shortened(example.question, tokenizer, most) for example in examples]
        if shortened := sum(kept != each.question for kept, each in zip(questions, examples, strict=True)):
            logger.warning(
                "%s of %s questions are longer than %d tokens, half of an input, and lose their end; raise "
                "--max_seq_length to keep them whole",
                f"{shortened:,}",
                f"{len(examples):,}",
                most,
            )
        longest_question = max(token_counts(tokenizer, questions, add_special_tokens=False))
        room = max_length - longest_question - tokenizer.num_special_tokens_to_add(pair=True)
        if room < 1:
            raise InputError(f"--max_seq_length {max_length} leaves no room for a text behind a question; pass more")
        settings = {"truncation": "only_second", "max_length": max_length, "return_offsets_mapping": True}
        contexts = [example.context for example in examples]
        rows: list[dict[str, Any]] = []
        windows: list[_Window] = []
        for some in slices(len(examples)):
            batch = tokenizer(
                questions[some],
                contexts[some],
                stride=int(OVERLAP * room),
                return_overflowing_tokens=True,
                **settings,
            )
            owners = [some.start + owner for owner in batch.pop("overflow_to_sample_mapping")]
            found_rows, found_windows = _windows(batch, owners, dict.fromkeys(owners, 0), contexts)
            rows += found_rows
            windows += found_windows
        lengths = token_counts(tokenizer, [example.question for example in examples], contexts)
        encoded = Encoded(examples, Features(rows), lengths, windows=windows)
        if all_answered(examples, [example.answers for example in examples]):
            lost = _label(encoded, rows, windows)
            if not training:
                lost = _unreachable(encoded, lost)
            elif lost:
                answers = [examples[owner].answers[0] for owner in lost]  # type: ignore[index]
                starts = [
                    # tokens are no more than characters, so that the answer still fits behind them
                    max(answer.start - max(min(BEFORE_ANSWER, room - len(answer.text)), 0), 0)
                    for answer in answers
                ]
                from_there = [contexts[owner][start:] for owner, start in zip(lost, starts, strict=True)]
                more = tokenizer([questions[owner] for owner in lost], from_there, **settings)
                extra_rows, extra_windows = _windows(more, lost, dict(zip(lost, starts, strict=True)))
                lost = _label(encoded, extra_rows, extra_windows)
                rows += extra_rows
                windows += extra_windows
                # that there is no answer would be the wrong thing to learn
                never = set(lost)
                learned = [place for place, window in enumerate(windows) if window.owner not in never]
                encoded.features = Features(rows := [rows[place] for place in learned])
                encoded.windows = [windows[place] for place in learned]
                if not rows:
                    raise InputError(
                        f"--max_seq_length {max_length}: no window holds the answer to any of {len(examples):,} "
                        "questions of the training file; pass more"
                    )
            encoded.cut = len(lost)
            if training:
                # [CLS] in the windows without the answer counts as 1
                spans = [row["end_positions"] - row["start_positions"] + 1 for row in rows]
                self.measured["longest_answer_tokens"] = max(spans, default=1)
        return encoded

    def label_names(self) -> list[str]:
        """Name the positions."""
        return ["start_positions", "end_positions"]

    @property
    def has_own_loss(self) -> bool:
        """Never: the models average over questions, of which each batch has as many."""
        return False

    def answers(self, logits: Any, encoded: Encoded) -> Answers:
        """Take the best pair of start and end over all windows of a text, of at most ``most_answer_tokens``."""
        best: list[tuple[float, str]] = [(-np.inf, "")] * len(encoded.examples)
        starts, ends = logits
        for window, start_logits, end_logits in zip(encoded.windows, starts, ends, strict=True):
            if window.last < window.first:
                continue
            # against all tokens of the window, so that windows can be compared
            length = len(window.offsets)
            start_scores, end_scores = log_softmax(start_logits[:length]), log_softmax(end_logits[:length])
            places = np.arange(window.first, window.last + 1)
            likely_starts = places[np.argsort(-start_scores[places], kind="stable")[:BEST_STARTS]]
            for start in likely_starts:
                in_reach = end_scores[start : min(start + self.most_answer_tokens, window.last + 1)]
                end = start + int(in_reach.argmax())
                score = start_scores[start] + end_scores[end]
                if score > best[window.owner][0]:
                    context = encoded.examples[window.owner].context
                    text = context[window.offsets[start][0] : window.offsets[end][1]]
                    best[window.owner] = (score, text)
        return Answers([text for _, text in best], [float(np.exp(score)) for score, _ in best])

    def scores(self, predictions: Sequence[str], examples: Sequence[ReadingExample]) -> dict[str, float]:
        """Return exact match and F1."""
        return reading_scores(predictions, [example.answers or () for example in examples])

    def mistakes(self, logits: Any, answers: Answers, encoded: Encoded) -> list[float]:
        """Return what each answer lacks of an F1 of 1."""
        pairs = zip(answers.predictions, encoded.examples, strict=True)
        return [1.0 - reading_scores([text], [example.answers])["answer_f1"] for text, example in pairs]


def _shortened(question: str, tokenizer: PreTrainedTokenizerFast, most: int) -> str:
    batch = tokenizer(question, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    offsets = batch["offset_mapping"]
    return question if len(offsets) <= most else question[: offsets[most - 1][1]]


def _windows(
    batch: BatchEncoding, owners: Sequence[int], starts: Mapping[int, int], contexts: Sequence[str] | None = None
) -> tuple[list[dict[str, Any]], list[_Window]]:
    """Take a batch apart into inputs and windows.

    Args:
        owners: Index of each row's example; rows of one stand together, in the order of the text.
        starts: Character of its text that each example was tokenized from.
        contexts: The texts, where the rows hold all of them.
    """
    offsets = batch.pop("offset_mapping")
    rows = rows_of(batch)
    windows = []
    for index, (owner, spans) in enumerate(zip(owners, offsets, strict=True)):
        shifted = [(start + starts[owner], end + starts[owner]) for start, end in spans]
        of_context = [place for place, side in enumerate(batch.sequence_ids(index)) if side == 1]
        first, last = (of_context[0], of_context[-1]) if of_context else (1, 0)
        window = _Window(owner, first, last, shifted, shifted[first][0], shifted[last][1])
        if index == 0 or owners[index - 1] != owner:
            window.start = starts[owner]
        if contexts is not None and (index + 1 == len(owners) or owners[index + 1] != owner):
            window.end = len(contexts[owner])
        windows.append(window)
    return rows, windows


def _label(encoded: Encoded, rows: list[dict[str, Any]], windows: list[_Window]) -> list[int]:
    """Point at the first answer in the windows that hold it in whole, at [CLS] in the others.

    Returns:
        The examples whose answer no window holds.
    """
    found = set()
    for row, window in zip(rows, windows, strict=True):
        span = _tokens_of(encoded.examples[window.owner].answers[0], window)
        row["start_positions"], row["end_positions"] = span or (0, 0)
        if span is not None:
            found.add(window.owner)
    return sorted({window.owner for window in windows} - found)


def _unreachable(encoded: Encoded, owners: Sequence[int]) -> list[int]:
    """Keep of the examples those to which no window holds any answer."""
    left = set(owners)
    for window in encoded.windows:
        if window.owner in left:
            others = encoded.examples[window.owner].answers[1:]
            if any(_tokens_of(answer, window) is not None for answer in others):
                left.remove(window.owner)
    return sorted(left)


def _tokens_of(answer: Answer, window: _Window) -> tuple[int, int] | None:
    """Find an answer's first and last token in a window; None where it does not hold the answer in whole."""
    # blanks and characters that no tokenizer keeps may stand at the ends
    seen = [place for place, character in enumerate(answer.text) if not _is_unseen(character)]
    start, end = answer.start + min(seen, default=0), answer.start + max(seen, default=-1) + 1
    inside = [
        place
        for place in range(window.first, window.last + 1)
        if window.offsets[place][0] < end and window.offsets[place][1] > start
    ]
    if not inside:
        return None
    first, last = inside[0], inside[-1]
    # in whole: the window reaches to the answer's ends, and what lies between them and these tokens is no token
    begins = window.start <= start or first > window.first
    ends = window.end >= end or last < window.last
    return (first, last) if begins and ends else None


def _is_unseen(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) in ("Cc", "Cf")
