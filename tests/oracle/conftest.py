"""What pytest must not import here: a peer's script runs in an environment of its own."""

collect_ignore = ["transformer_lens_peer.py"]
