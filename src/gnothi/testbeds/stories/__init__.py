"""Stories with features that can be asked for, taken away by fine-tuning, and brought back (paper C's third test bed)."""
