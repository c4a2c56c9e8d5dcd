"""Scores of answers against what is right, one function for each kind of task."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, f1_score

from flash.tasks.examples import Answer, Entity

# What CMRC 2018's scores leave out; other signs, such as a percent sign, count.
PUNCTUATION = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
_CHINESE = "\u4e00-\u9fa5"
_SIGNS = ';@#$%&?!\\[\\](){}<>"'
# a Chinese character; a run of others, with commas before digits and full stops that do not end it; a sign
_UNIT = re.compile(
    rf"[{_CHINESE}]|\.{{3}}"
    rf"|(?:[^\s{_CHINESE}{_SIGNS},.]|,(?=\d)|\.(?!\.\.)(?![\])}}>\"']*\s*(?:[{_CHINESE}]|$)))+"
    rf"|[{_SIGNS},.]"
)


def classification_scores(predicted: Sequence[str], right: Sequence[str]) -> dict[str, float]:
    """Return accuracy and the mean of the classes' F1, over the classes that occur on either side."""
    return {
        "accuracy": float(accuracy_score(right, predicted)),
        "macro_f1": float(f1_score(right, predicted, average="macro")),
    }


def regression_scores(predicted: Sequence[float], right: Sequence[float]) -> dict[str, float]:
    """Return the correlations of ranks and of values, 0 where one side is constant and they are not defined; and R².

    R² is 1 less the squared errors over those of the mean: values that are right but for their unit have none.
    """
    from scipy.stats import rankdata

    a, b = np.asarray(predicted, dtype=np.float64), np.asarray(right, dtype=np.float64)
    around_mean = np.square(b - b.mean()).sum()
    r2 = float(1.0 - np.square(a - b).sum() / around_mean) if around_mean > 0 else 0.0
    return {"spearman": _correlation(rankdata(a), rankdata(b)), "pearson": _correlation(a, b), "r2": r2}


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def entity_scores(
    predicted: Sequence[Sequence[Entity]], right: Sequence[Sequence[Entity]], labels: Sequence[str]
) -> dict[str, float]:
    """Return precision, recall and F1 of whole entities, start, end and label right, and the mean of the labels' F1.

    The last one is what the benchmark CLUENER ranks by.
    """
    found, sought, hits = Counter[str](), Counter[str](), Counter[str]()
    for ours, theirs in zip(predicted, right, strict=True):
        found.update(entity.label for entity in set(ours))
        sought.update(entity.label for entity in set(theirs))
        hits.update(entity.label for entity in set(ours) & set(theirs))
    precision, recall, f1 = _precision_recall_f1(hits.total(), found.total(), sought.total())
    by_label = [_precision_recall_f1(hits[label], found[label], sought[label])[2] for label in labels]
    return {
        "entity_f1": f1,
        "entity_precision": precision,
        "entity_recall": recall,
        "entity_macro_f1": sum(by_label) / len(by_label) if by_label else 0.0,
    }


def entity_report(
    predicted: Sequence[Sequence[Entity]], right: Sequence[Sequence[Entity]], labels: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return precision, recall, F1 and number of the entities of each label."""
    report = {}
    for label in labels:
        ours = [{entity for entity in entities if entity.label == label} for entities in predicted]
        theirs = [{entity for entity in entities if entity.label == label} for entities in right]
        hits = sum(len(a & b) for a, b in zip(ours, theirs, strict=True))
        sought = sum(map(len, theirs))
        precision, recall, f1 = _precision_recall_f1(hits, sum(map(len, ours)), sought)
        report[label] = {"precision": precision, "recall": recall, "f1-score": f1, "support": sought}
    return report


def _precision_recall_f1(hits: int, found: int, sought: int) -> tuple[float, float, float]:
    precision = hits / found if found else 0.0
    recall = hits / sought if sought else 0.0
    return precision, recall, 2 * hits / (found + sought) if found + sought else 0.0


def reading_scores(predicted: Sequence[str], right: Sequence[Sequence[Answer]]) -> dict[str, float]:
    """Return exact match and F1 as CMRC 2018 defines them (arXiv 1810.07366, section 4): the best over the answers.

    Case does not count, nor does the punctuation of ``PUNCTUATION``. F1 is of the longest common substring, in units:
    Chinese characters, and in what is between them words, numbers and signs.
    """
    exact, overlap = [], []
    for ours, answers in zip(predicted, right, strict=True):
        bare, units = _bare(ours), _units(ours)
        exact.append(max(float(bare == _bare(answer.text)) for answer in answers))
        overlap.append(max(_substring_f1(units, _units(answer.text)) for answer in answers))
    return {"answer_f1": _mean(overlap), "exact_match": _mean(exact)}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _bare(text: str) -> str:
    return "".join(character for character in text.lower().strip() if character not in PUNCTUATION)


def _units(text: str) -> list[str]:
    """Cut into Chinese characters and, between them, what nltk's Treebank rules give, apostrophes and ``..`` aside."""
    return _UNIT.findall(_bare(text))


def _substring_f1(ours: list[str], theirs: list[str]) -> float:
    common = _longest_common_substring(ours, theirs)
    return 2 * common / (len(ours) + len(theirs)) if common else 0.0


def _longest_common_substring(a: list[str], b: list[str]) -> int:
    longest, before = 0, [0] * (len(b) + 1)
    for unit in a:
        row = [0] * (len(b) + 1)
        for j, other in enumerate(b, start=1):
            if unit == other:
                row[j] = before[j - 1] + 1
                longest = max(longest, row[j])
        before = row
    return longest


def choice_scores(predicted: Sequence[int], right: Sequence[int]) -> dict[str, float]:
    """Return the share of right choices."""
    return {"accuracy": _mean([float(ours == theirs) for ours, theirs in zip(predicted, right, strict=True)])}


def mean_and_spread(values: Sequence[float]) -> dict[str, Any]:
    """Return mean and standard deviation of the runs, the latter None of a single one."""
    array = np.asarray(values, dtype=np.float64)
    return {
        "mean": float(array.mean()),
        "std": float(array.std(ddof=1)) if len(array) > 1 else None,
        "values": [float(value) for value in array],
    }
