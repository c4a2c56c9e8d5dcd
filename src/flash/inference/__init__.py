"""From a checkpoint on disk to answers."""
