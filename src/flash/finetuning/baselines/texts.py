"""Classes and values without a neural network: the most frequent one, the mean, and a linear model of n-grams."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression, Ridge

from flash.finetuning.baselines.found import MAJORITY, TFIDF, Found, vectorizer_for
from flash.tasks.examples import TextExample

INVERSE_PENALTIES = (1.0, 10.0)  # the better one on the dev file is taken
# SAGA goes through the rows, not through all weights of all classes at each step; the scores settle within this change
TOLERANCE, MOST_EPOCHS = 1e-2, 100


def predict_classes(train: Sequence[TextExample], splits: list[Sequence[TextExample]]) -> Found:
    """Take the most frequent class, and what logistic regression says."""
    labels = [str(example.label) for example in train]
    most = Counter(labels).most_common(1)[0][0]
    features, *others = (matrix.astype(np.float32) for matrix in _features(train, splits))
    # each penalty begins with the weights of the one before it
    model = LogisticRegression(solver="saga", tol=TOLERANCE, max_iter=MOST_EPOCHS, warm_start=True, random_state=0)
    variants = []
    for penalty in INVERSE_PENALTIES:
        model.set_params(C=penalty).fit(features, labels)
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
    if train[0].pair is None:
        of_train = vectorizer.fit_transform([example.text for example in train])  # reads the texts once
        return [of_train, *(vectorizer.transform([example.text for example in split]) for split in splits)]
    vectorizer.fit([text for example in train for text in (example.text, example.pair) if text is not None])
    matrices = []
    for split in (train, *splits):
        first = vectorizer.transform([example.text for example in split])
        second = vectorizer.transform([example.pair or "" for example in split])
        both = first.multiply(second)
        alike = sp.csr_matrix(both.sum(axis=1))  # the cosine
        matrices.append(sp.hstack([first, second, abs(first - second), both, alike], format="csr"))
    return matrices
