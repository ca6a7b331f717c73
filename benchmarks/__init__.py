"""Speed as ratios against a peer or this machine's matmul peak, measured in the same run. Never part of a test."""

import os

# One thread, set before anything numerical is loaded: two threads on a busy two-core machine can be slower.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
