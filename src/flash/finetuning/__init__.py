"""FINE-TUNING: a checkpoint and a task's files in; a model folder, scores, predictions and figures out.

`finetune` does a whole study of learning rates and seeds, `run` one training, `scoring` a finished folder on another
file; `problems` holds what differs between kinds of task.
"""
