"""TASK STRAND: fine-tuning tasks as facts, their files as examples, answers as scores and submission files; no torch.

`task` says what a task is, `clue.yaml` lists those that come along, `rows` reads a file, `readers` makes examples of
rows, `loading` does both and checks; `metrics` scores answers, `submission` writes them as CLUE wants them.
"""
