"""Hugging Face classes: configurations, models with task heads, saving and loading."""
