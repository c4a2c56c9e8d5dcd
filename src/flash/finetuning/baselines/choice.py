"""Choices without a neural network: the most frequent place, and the candidate that is most like the text."""

from collections import Counter
from collections.abc import Sequence

from flash.finetuning.baselines.found import MAJORITY, TFIDF, Found, vectorizer_for
from flash.tasks.examples import ChoiceExample


def predict_choices(train: Sequence[ChoiceExample], splits: list[Sequence[ChoiceExample]]) -> Found:
    """Choose the candidate whose n-grams are most like those of text and question."""
    vectorizer = vectorizer_for(len(train)).fit(
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
