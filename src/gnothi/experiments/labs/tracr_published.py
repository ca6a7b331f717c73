"""Numbers that the paper prints for compiled programs, to stand beside ours.

Source: arXiv:2311.12786 (v2), Table 3 in part and Table 4: accuracy in percent after 10,000 iterations. How many seeds stand
behind them is not said.
"""

Pair = tuple[float, float]
"""Accuracy on the old and on the new task."""

TABLE_3: dict[tuple[str, str, float], tuple[Pair, Pair]] = {
    ("counter", "large", 0.0): ((0.0, 100.0), (0.0, 100.0)),
    ("counter", "large", 0.5): ((0.0, 100.0), (0.0, 100.0)),
    ("counter", "large", 1.0): ((0.0, 100.0), (35.8, 0.7)),
    ("counter", "medium", 0.0): ((1.1, 96.3), (0.0, 98.8)),
    ("counter", "medium", 0.5): ((0.6, 99.4), (0.0, 95.9)),
    ("counter", "medium", 0.9): ((1.4, 98.5), (7.1, 39.3)),
    ("counter", "medium", 1.0): ((0.3, 98.3), (4.2, 0.2)),
    ("counter", "small", 0.0): ((54.6, 1.2), (25.7, 27.2)),
    ("counter", "small", 0.5): ((7.1, 90.9), (19.8, 2.3)),
    ("counter", "small", 1.0): ((4.0, 94.3), (10.3, 2.2)),
    ("counter", "tiny", 0.0): ((32.6, 0.0), (10.6, 28.7)),
    ("counter", "tiny", 0.5): ((28.5, 65.1), (37.8, 5.6)),
    ("counter", "tiny", 1.0): ((1.6, 98.3), (10.6, 0.2)),
    ("max", "large", 0.0): ((20.3, 34.5), (0.0, 99.3)),
    ("max", "large", 0.5): ((0.6, 97.0), (0.1, 97.6)),
    ("max", "large", 1.0): ((0.3, 99.6), (16.8, 37.8)),
    ("max", "medium", 0.0): ((29.7, 0.2), (16.3, 52.6)),
    ("max", "medium", 0.5): ((4.8, 87.9), (3.3, 92.6)),
    ("max", "medium", 0.9): ((16.0, 45.7), (26.9, 11.1)),
    ("max", "medium", 1.0): ((11.1, 78.5), (23.8, 14.4)),
    ("max", "small", 0.0): ((6.4, 20.2), (4.5, 28.5)),
    ("max", "small", 0.5): ((11.3, 24.0), (7.6, 20.8)),
    ("max", "small", 1.0): ((16.0, 33.2), (12.8, 14.0)),
    ("max", "tiny", 0.0): ((0.5, 82.6), (0.5, 91.1)),
    ("max", "tiny", 0.5): ((0.0, 89.3), (0.6, 91.8)),
    ("max", "tiny", 1.0): ((0.0, 90.2), (0.7, 88.6)),
}
"""(task, rate, C_Tr) -> at C_Te 1, at C_Te 0."""

TABLE_4: dict[tuple[str, float], float] = {
    (rate, share): value
    for rate, row in {
        "large": (100, 100, 100, 100, 100, 100, 100),
        "medium": (98.6, 100, 99.9, 98.6, 99.5, 100, 96.8),
        "small": (98.6, 42.9, 85.7, 97.3, 95.5, 68.8, 98.6),
        "tiny": (98.5, 26.2, 26.1, 27.8, 76.8, 80.9, 96.8),
    }.items()
    for share, value in zip((0.0, 0.2, 0.5, 0.6, 0.8, 0.9, 1.0), row, strict=True)
}
"""(rate of reverse fine-tuning, C_Tr) -> old task at C_Te 0, of fine-tunes at the medium rate. The paper's header is
misprinted; this is the only reading in which no row exceeds 100."""
