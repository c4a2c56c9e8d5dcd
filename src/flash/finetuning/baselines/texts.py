"""Classes and values without a neural network: the most frequent one, the mean, and a linear model of n-grams."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression, Ridge

from flash.finetuning.baselines.found import MAJORITY, TFIDF, Found, vectorizer_for
from flash.tasks.examples import TextExample

INVERSE_PENALTIES = (1.0, 10.0)  # the better one on the dev file is taken


def predict_classes(train: Sequence[TextExample], splits: list[Sequence[TextExample]]) -> Found:
    """Take the most frequent class, and what logistic regression says."""
    labels = [str(example.label) for example in train]
    most = Counter(labels).most_common(1)[0][0]
    features, *others = _features(train, splits)
    variants = []
    for penalty in INVERSE_PENALTIES:
        model = LogisticRegression(C=penalty, max_iter=200, random_state=0).fit(features, labels)
        variants.append([list(model.predict(other)) for other in others])
    return {MAJORITY: [[[most] * len(split) for split in splits]], TFIDF: variants}


def predict_values(train: Sequence[TextExample], splits: list[Sequence[TextExample]]) -> Found:
    """Take the mean, and what ridge regression says."""
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
    vectorizer = vectorizer_for(len(train))
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
