"""The experiments, one package each: its jobs and arms as data."""

EXPERIMENTS: dict[str, str] = {"preferences": "gnothi.experiments.preferences"}
"""Name on the command line -> module that holds `EXPERIMENT`; imported when it is run."""
