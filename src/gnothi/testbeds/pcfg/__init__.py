"""Strings from a grammar, tasks on them, and small transformers that learn the tasks and are fine-tuned to others."""
