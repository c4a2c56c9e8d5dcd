"""From a prepared dataset to masked batches."""
