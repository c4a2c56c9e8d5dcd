"""What is reached without a neural network: the most frequent answer, n-grams of characters, a dictionary."""

from collections.abc import Callable, Sequence
from typing import Any

from flash.finetuning.baselines.choice import predict_choices
from flash.finetuning.baselines.entities import predict_entities
from flash.finetuning.baselines.found import Found
from flash.finetuning.baselines.reading import predict_answers
from flash.finetuning.baselines.texts import predict_classes, predict_values
from flash.finetuning.problems.problem import Problem

_PREDICTORS: dict[str, Callable[[Sequence[Any], list[Sequence[Any]]], Found]] = {
    "classification": predict_classes,
    "regression": predict_values,
    "entities": predict_entities,
    "reading": predict_answers,
    "choice": predict_choices,
}


def baselines(problem: Problem, train: Sequence[Any], dev: Sequence[Any], test: Sequence[Any] = ()) -> dict[str, Any]:
    """Score those of a kind of task on the dev file, and on the test file if it has answers.

    Returns:
        ``{baseline: {"dev": scores, "test": scores}}``
    """
    splits = {"dev": dev} | ({"test": test} if test else {})
    results: dict[str, Any] = {}
    for name, candidates in _PREDICTORS[problem.task.kind](train, list(splits.values())).items():
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
