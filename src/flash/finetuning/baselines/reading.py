"""Answers without a neural network: the first sentence, and the sentence or clause most like the question."""

import re
from collections.abc import Sequence

from flash.finetuning.baselines.found import Found, vectorizer_for
from flash.tasks.examples import ReadingExample

FIRST, LIKEST = "first sentence", "stretch most like the question (TF-IDF)"
SENTENCE, CLAUSE = re.compile(r"[^。！？；!?;\n]+"), re.compile(r"[^。！？；!?;\n，、：,:]+")


def predict_answers(train: Sequence[ReadingExample], splits: list[Sequence[ReadingExample]]) -> Found:
    """Answer with the stretch whose n-grams are most like the question's: a sentence or, as a variant, a clause."""
    texts = dict.fromkeys(example.context for example in train) | dict.fromkeys(example.question for example in train)
    vectorizer = vectorizer_for(len(texts)).fit(texts)
    variants = []
    for pattern in (SENTENCE, CLAUSE):
        of_pattern = []
        for split in splits:
            predictions = []
            for example in split:
                stretches = _stretches(example.context, pattern)
                likeness = vectorizer.transform(stretches) @ vectorizer.transform([example.question]).T
                predictions.append(stretches[int(likeness.toarray().argmax())])
            of_pattern.append(predictions)
        variants.append(of_pattern)
    first = [[_stretches(example.context, SENTENCE)[0] for example in split] for split in splits]
    return {FIRST: [first], LIKEST: variants}


def _stretches(context: str, pattern: re.Pattern[str]) -> list[str]:
    return [stretch.strip() for stretch in pattern.findall(context) if stretch.strip()] or [context]
