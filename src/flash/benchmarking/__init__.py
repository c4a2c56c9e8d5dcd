"""Speed and memory against Transformers of equal size, measured side by side: ``flashquad bench``."""
