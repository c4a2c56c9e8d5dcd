"""What a study leaves for its readers: scores by class, the hardest texts, a model card."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sklearn.metrics import classification_report, confusion_matrix

from flash.finetuning.data import TaskData
from flash.finetuning.figures import draw_confusion, shown_names
from flash.finetuning.models import shown_labels
from flash.finetuning.problems.problem import Answers, Encoded, Problem
from flash.tasks.examples import ChoiceExample, EntityExample, Example, ReadingExample, answer_of, text_of
from flash.tasks.metrics import entity_report

HARDEST = 50
SHOWN_CHARACTERS = 300


def write_report(
    folder: Path, problem: Problem, label_names: dict[str, str], predictions: Sequence[Any], examples: Sequence[Any]
) -> None:
    """Write precision, recall, F1 and number of rows by class, and draw which classes are taken for which."""
    if problem.task.kind == "classification":
        right = [example.label for example in examples]
        names = shown_labels(problem.labels, label_names)
        report = classification_report(
            right, predictions, labels=list(problem.labels), target_names=names, output_dict=True, zero_division=0.0
        )
        counts = confusion_matrix(right, predictions, labels=list(problem.labels))
        draw_confusion(folder / "confusion.png", counts, names, problem.labels)
    elif problem.task.kind == "entities":
        report = entity_report(predictions, [example.entities for example in examples], problem.labels)
    else:
        return
    (folder / "per_class.json").write_text(json.dumps(report, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def write_hardest(
    folder: Path, problem: Problem, label_names: dict[str, str], logits: Any, answers: Answers, encoded: Encoded
) -> None:
    """Write the texts of the dev file that the model is most wrong about: often their labels are."""
    mistakes = problem.mistakes(logits, answers, encoded)
    order = sorted(range(len(mistakes)), key=lambda index: -mistakes[index])[:HARDEST]
    with (folder / "hardest.jsonl").open("w", encoding="utf-8") as out:
        for index in order:
            example = encoded.examples[index]
            row = {
                "id": example.id,
                "mistake": round(mistakes[index], 4),
                **_named("right", answer_of(example), example, label_names),
                **_named("predicted", answers.predictions[index], example, label_names),
                "text": text_of(example)[:SHOWN_CHARACTERS],
            }
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


def _named(what: str, answer: Any, example: Example, label_names: dict[str, str]) -> dict[str, Any]:
    """Show an answer so that it says something without the task's files: names of classes, mentions, candidates."""
    if isinstance(example, EntityExample):
        return {what: [f"{example.text[start:end]}/{label} {start}-{end}" for start, end, label in answer]}
    if isinstance(example, ReadingExample):
        return {what: answer if isinstance(answer, str) else [found.text for found in answer]}
    if isinstance(example, ChoiceExample):
        return {what: answer, f"{what}_text": example.candidates[answer]}
    return {what: answer} | ({f"{what}_name": label_names[answer]} if answer in label_names else {})


def write_model_card(folder: Path, *, data: TaskData, metrics: dict[str, Any], command: str, model: str) -> None:
    """Write README.md: what the model does, how well, how it was made, how to use it."""
    problem, task = data.problem, data.problem.task
    names = [name for name in metrics["dev"] if name != "loss"]
    rows = []
    for baseline, scores in ((name, found["dev"]) for name, found in metrics["baselines"].items()):
        rows.append(f"| {baseline} | {' | '.join(f'{scores[name]:.4f}' for name in names)} |")
    for split in ("dev", "test"):
        if split in metrics:
            title = "**this model**" if split == "dev" else "this model, test file"
            rows.append(f"| {title} | {' | '.join(plus_minus(metrics[split][name]) for name in names)} |")
    usage = _usage(problem)
    seeds = len(metrics["seeds"])
    spread = f"; mean and standard deviation of {seeds} seeds" if seeds > 1 else ""
    sizes = ", ".join(
        f"{name} {metrics['data'][name]['rows']:,}" for name in ("train", "dev", "test") if name in metrics["data"]
    )
    nl = "\n"
    figure = ""
    if task.kind == "classification":
        figure = "\n![which classes are taken for which](confusion.png)\n"
        named = shown_labels(problem.labels, data.label_names)
        shown, _ = shown_names(named, problem.labels)
        if shown != named:
            key = "; ".join(f"{code} {name}" for code, name in zip(shown, named, strict=True))
            figure += f"\nIn this figure: {key}.\n"
    card = f"""---
language: zh
library_name: transformers
{f"pipeline_tag: {problem.pipeline}" if problem.pipeline else "tags: [gated-attention-unit]"}
---

# {folder.resolve().name}

{Path(model).name}, fine-tuned with flashquad on {task.name}{f": {task.title}" if task.title else ""}.
{metrics["parameters"]:,} parameters, inputs of at most {task.max_length} tokens.

{usage}

## Scores

On the dev file, which also chose the checkpoint{spread}:

| | {" | ".join(names)} |
| --- |{" --- |" * len(names)}
{nl.join(rows)}

![loss and score](curves.png)
{figure}
## How it was trained

```bash
{command}
```

Learning rate {metrics["learning_rate"]:g}; rows: {sizes}. `metrics.json` has every run, `hardest.jsonl` the texts of
the dev file that this model is most wrong about.
"""
    (folder / "README.md").write_text(card, encoding="utf-8")


def _usage(problem: Problem) -> str:
    if problem.pipeline is None:
        return "```bash\nflashquad predict --model . --input FILE --output predictions.jsonl\n```"
    of_tokens = problem.pipeline == "token-classification"
    # a stock pipeline cuts a long text unless it is to read windows that overlap
    of_entities = f', aggregation_strategy="simple", stride={problem.task.max_length // 4}'
    arguments, call = (of_entities, "") if of_tokens else ("", ", truncation=True")
    text = (
        '"今天的天气很好"'
        if len(problem.task.texts) == 1
        else '{"text": "今天的天气很好", "text_pair": "今天天气不错"}'
    )
    return (
        "```python\nimport flash  # the package flashquad\nfrom transformers import pipeline\n\n"
        f'model = pipeline("{problem.pipeline}", model="."{arguments})\nmodel({text}{call})\n```'
    )


def plus_minus(found: dict[str, Any]) -> str:
    """Write mean and spread over the seeds; the mean alone of one."""
    return f"{found['mean']:.4f}" if found["std"] is None else f"{found['mean']:.4f} ± {found['std']:.4f}"
