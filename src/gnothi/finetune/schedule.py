"""The learning rate over a run: warm up linearly, stay, fall linearly to 0. No torch here."""


def share(step: int, steps: int, warmup: int, decay: float) -> float:
    """The factor on the learning rate at one step.

    Args:
        step: 0-based, below `steps`.
        steps: Steps in all.
        warmup: Steps of linear warm-up; the first step has 1 / warmup.
        decay: Share of the steps over which the rate falls to 0, in [0, 1]; it would reach 0 one step after the last.

    Returns:
        A factor in (0, 1].

    >>> [round(share(s, 8, 2, 0.5), 2) for s in range(8)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    up = min(1.0, (step + 1) / warmup) if warmup else 1.0
    falling = decay * steps
    down = min(1.0, (steps - step) / falling) if falling else 1.0
    return min(up, down)
