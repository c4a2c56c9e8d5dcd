"""What is reached without a neural network: the most frequent answer, and character n-grams with a linear model."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from flash.finetuning.problems.problem import Problem
from flash.tasks.examples import ChoiceExample, TextExample

MAJORITY, TFIDF = "most frequent", "character n-grams (TF-IDF)"
LARGEST_VOCABULARY = 50_000
MANY_TEXTS = 500  # n-grams that occur once are left out
INVERSE_PENALTIES = (1.0, 10.0)  # the better one on the dev file is taken


def baselines(problem: Problem, train: Sequence[Any], dev: Sequence[Any], test: Sequence[Any] = ()) -> dict[str, Any]:
    """Score both on the dev file, and on the test file if it has answers.

    Returns:
        ``{baseline: {"dev": scores, "test": scores}}``
    """
    predict = _PREDICTORS[problem.task.kind]
    splits = {"dev": dev} | ({"test": test} if test else {})
    results: dict[str, Any] = {}
    for name, candidates in predict(train, list(splits.values())).items():
        # of several, the best on the dev file
        scored = [
            {
                split: problem.scores(predictions, splits[split])
                for split, predictions in zip(splits, found, strict=True)
            }
            for found in candidates
        ]
        results[name] = max(scored, key=lambda scores: scores["dev"][problem.task.metric])
    return results


Found = dict[str, list[list[list[Any]]]]  # baseline -> variants -> splits -> predictions


def _classification(train: Sequence[TextExample], splits: list[Sequence[TextExample]]) -> Found:
    labels = [str(example.label) for example in train]
    most = Counter(labels).most_common(1)[0][0]
    features, *others = _features(train, splits)
    variants = []
    for penalty in INVERSE_PENALTIES:
        model = LogisticRegression(C=penalty, max_iter=200, random_state=0).fit(features, labels)
        variants.append([list(model.predict(other)) for other in others])
    return {MAJORITY: [[[most] * len(split) for split in splits]], TFIDF: variants}


def _regression(train: Sequence[TextExample], splits: list[Sequence[TextExample]]) -> Found:
    values = np.array([example.label for example in train], dtype=np.float64)
    features, *others = _features(train, splits)
    variants = []
    for penalty in INVERSE_PENALTIES:
        model = Ridge(alpha=1 / penalty, random_state=0).fit(features, values)
        variants.append([list(model.predict(other)) for other in others])
    mean = float(values.mean())
    return {"mean": [[[mean] * len(split) for split in splits]], TFIDF: variants}


def _features(train: Sequence[TextExample], splits: list[Sequence[TextExample]]) -> list[sp.csr_matrix]:
    """Weigh the n-grams of one text; of two, also those that differ and those that both have."""
    vectorizer = _vectorizer(len(train))
    vectorizer.fit([text for example in train for text in (example.text, example.pair) if text is not None])
    matrices = []
    for split in (train, *splits):
        first = vectorizer.transform([example.text for example in split])
        if split and split[0].pair is None:
            matrices.append(first)
            continue
        second = vectorizer.transform([example.pair or "" for example in split])
        both = first.multiply(second)
        alike = sp.csr_matrix(both.sum(axis=1))  # the cosine
        matrices.append(sp.hstack([first, second, abs(first - second), both, alike], format="csr"))
    return matrices


def _choice(train: Sequence[ChoiceExample], splits: list[Sequence[ChoiceExample]]) -> Found:
    """Choose the candidate whose n-grams are most like those of text and question."""
    vectorizer = _vectorizer(len(train)).fit(
        [text for example in train for text in (example.context, *example.candidates)]
    )
    most = Counter(example.answer for example in train).most_common(1)[0][0] or 0
    likest = []
    for split in splits:
        predictions = []
        for example in split:
            context = vectorizer.transform([f"{example.context}\n{example.question}"])
            predictions.append(int((vectorizer.transform(example.candidates) @ context.T).toarray().argmax()))
        likest.append(predictions)
    frequent = [[min(most, len(example.candidates) - 1) for example in split] for split in splits]
    return {MAJORITY: [frequent], TFIDF: [likest]}


_PREDICTORS: dict[str, Callable[[Sequence[Any], list[Sequence[Any]]], Found]] = {
    "classification": _classification,
    "regression": _regression,
    "choice": _choice,
}


KINDS_WITH_BASELINES = tuple(_PREDICTORS)


def _vectorizer(texts: int) -> TfidfVectorizer:
    least = 2 if texts >= MANY_TEXTS else 1
    return TfidfVectorizer(
        analyzer="char", ngram_range=(1, 3), min_df=least, max_features=LARGEST_VOCABULARY, sublinear_tf=True
    )
