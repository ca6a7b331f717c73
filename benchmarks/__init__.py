"""Speed as ratios against a peer or this machine's matmul peak, measured in the same run. Never part of a test."""
