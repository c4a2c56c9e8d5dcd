"""Entities without a neural network: what was an entity in the training file is one wherever it stands."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from flash.finetuning.baselines.found import Found
from flash.tasks.examples import Entity, EntityExample

DICTIONARY = "dictionary of training entities"
LEAST_PRECISIONS = (0.0, 0.5)  # of a mention, in the training file; the better one on the dev file is taken


def predict_entities(train: Sequence[EntityExample], splits: list[Sequence[EntityExample]]) -> Found:
    """Take at each character the longest training entity that begins there, with its most frequent label."""
    labels: dict[str, Counter[str]] = defaultdict(Counter)
    for example in train:
        for start, end, label in example.entities or ():
            labels[example.text[start:end]][label] += 1
    dictionary = {mention: counts.most_common(1)[0][0] for mention, counts in labels.items()}
    matches, hits = Counter[str](), Counter[str]()
    for example in train:
        for entity in _matches(example.text, dictionary):
            mention = example.text[entity.start : entity.end]
            matches[mention] += 1
            hits[mention] += entity in (example.entities or ())
    variants = []
    for least in LEAST_PRECISIONS:
        kept = {mention: label for mention, label in dictionary.items() if hits[mention] >= least * matches[mention]}
        variants.append([[tuple(_matches(example.text, kept)) for example in split] for split in splits])
    return {DICTIONARY: variants}


def _matches(text: str, dictionary: dict[str, str]) -> list[Entity]:
    lengths = sorted({len(mention) for mention in dictionary}, reverse=True)
    found, place = [], 0
    while place < len(text):
        reaching = (each for each in lengths if place + each <= len(text))
        length = next((each for each in reaching if text[place : place + each] in dictionary), 0)
        if length:
            found.append(Entity(place, place + length, dictionary[text[place : place + length]]))
        place += length or 1
    return found
