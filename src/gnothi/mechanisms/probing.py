"""What can be read off the activations by a linear probe, site by site, with the controls without which it says nothing.

A probe that reads a class does not show that the model uses it, nor that it ever learnt it: random features of the input
may do. So beside each probe stand the same probe with shuffled labels, the same on a model of random values, and the share
of the commonest class; a number counts for what it has above the random model's.

Source: arXiv:2311.12786, appendix D (a linear layer on the activations of each block, read where the answer is
predicted). We fit multinomial logistic regression to its minimum where the paper takes a fixed number of steps, and add
balanced accuracy and the controls.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gnothi.errors import DataError
from gnothi.intervals import wilson
from gnothi.mechanisms.anatomy import anatomy
from gnothi.mechanisms.answers import Answers, balanced, still
from gnothi.mechanisms.hooks import capture
from gnothi.mechanisms.logistic import L2, Probe, fit_probe
from gnothi.mechanisms.random_values import reinitialised
from gnothi.mechanisms.sites import Site
from gnothi.rng import stream

__all__ = ["L2", "Probe", "Probed", "Score", "activations", "fit_probe", "probe", "probe_sites", "reinitialised"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How well one probe reads held-out activations."""

    accuracy: float
    low: float
    high: float
    """Wilson's interval, 95%, over held-out rows: it knows nothing of other models."""
    balanced: float
    """Mean over the classes that occur of the share read right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """A probe at one site, with its controls on the same held-out rows."""

    site: str
    trained: Score
    shuffled: Score
    """Labels permuted before the fit; scored against the true ones. Mean over the permutations."""
    random_init: Score | None
    """The same probe on a model of random values; None where none was given."""
    majority: float
    """Held-out share of the class that is commonest in training."""
    chance: float
    """Balanced accuracy of saying one class always: 1 / classes that occur."""
    train_accuracy: float
    n_train: int
    n: int
    """Held-out rows."""

    @property
    def above_random(self) -> float | None:
        """Accuracy above the random model's."""
        return None if self.random_init is None else self.trained.accuracy - self.random_init.accuracy

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def row(self) -> dict[str, Any]:
        """Flat, for a table."""
        flat: dict[str, Any] = {"site": self.site, "n": self.n, "n_train": self.n_train}
        flat |= {"majority": self.majority, "chance": self.chance, "train_accuracy": self.train_accuracy}
        for name in ("trained", "shuffled", "random_init"):
            score = getattr(self, name)
            for part in ("accuracy", "low", "high", "balanced"):
                flat[f"{name}_{part}"] = None if score is None else getattr(score, part)
        return flat


def probe(
    train_x: Tensor,
    train_labels: Tensor,
    test_x: Tensor,
    test_labels: Tensor,
    *,
    classes: int,
    seed: int,
    site: str = "",
    random_train_x: Tensor | None = None,
    random_test_x: Tensor | None = None,
    l2: float = L2,
    shuffles: int = 3,
) -> Probed:
    """Fit a probe, and its controls.

    Args:
        train_x: (n, d) activations to fit on.
        train_labels: (n,) classes.
        test_x: (m, d) held-out activations.
        test_labels: (m,) classes.
        classes: How many there are.
        seed: Of the permutations.
        site: What the result is called.
        random_train_x: (n, d') activations of a model of random values for the same rows.
        random_test_x: (m, d') held-out ones.
        l2: See `L2`.
        shuffles: Permutations of the labels, at least 1.

    Raises:
        DataError: Data that do not fit together.
    """
    if (random_train_x is None) != (random_test_x is None) or shuffles < 1:
        raise DataError("probe must have random activations for training and test or for neither, and shuffles >= 1.")
    if test_x.shape[1:] != train_x.shape[1:] or test_labels.shape != (len(test_x),) or not len(test_x):
        raise DataError(
            f"probe must have held-out activations like those it is fitted on, got {tuple(test_x.shape)} with "
            f"{tuple(test_labels.shape)} labels after {tuple(train_x.shape)}."
        )
    fitted = fit_probe(train_x, train_labels, classes=classes, l2=l2)
    permuted = []
    for i in range(shuffles):
        order = torch.from_numpy(stream(seed, "probe", "shuffled", i).permutation(len(train_labels)))
        other = fit_probe(train_x, train_labels[order.to(train_labels.device)], classes=classes, l2=l2)
        permuted.append(other.predictions(test_x))
    random_init = None
    if random_train_x is not None and random_test_x is not None:
        other = fit_probe(random_train_x, train_labels, classes=classes, l2=l2)
        random_init = _score([other.predictions(random_test_x)], test_labels)
    commonest = torch.bincount(train_labels, minlength=classes).argmax()
    return Probed(
        site=site,
        trained=_score([fitted.predictions(test_x)], test_labels),
        shuffled=_score(permuted, test_labels),
        random_init=random_init,
        majority=float((test_labels == commonest).double().mean()),
        chance=1 / len(test_labels.unique()),
        train_accuracy=float((fitted.predictions(train_x) == train_labels).double().mean()),
        n_train=len(train_x),
        n=len(test_x),
    )


def probe_sites(
    module: nn.Module,
    train: Answers,
    test: Answers,
    *,
    classes: int,
    seed: int,
    sites: Sequence[Site | str] | None = None,
    random_init: nn.Module | None = None,
    l2: float = L2,
    shuffles: int = 3,
    last: int = 1,
) -> list[Probed]:
    """A probe at each site, read at the position that predicts the answer (`Answers.at`): a depth profile.

    Args:
        module: A model that `anatomy` can read.
        train: What probes are fitted on; its labels are the classes, and need not be what the model answers.
        test: Held-out rows, others than those of `train`.
        classes: How many classes there are.
        seed: Of the permutations, and of the random model.
        sites: Where; None for the residual stream before each block and after the last.
        random_init: A model of the same shape with random values; None makes one with `reinitialised`.
        l2: See `L2`.
        shuffles: As for `probe`.
        last: Positions that are averaged, up to the one that predicts the answer.

    Raises:
        DataError: Training rows that are the test rows.
        ModelError: A site that the module has not.
    """
    if train.ids.shape == test.ids.shape and bool((train.ids == test.ids).all()):
        raise DataError("probe_sites must be tested on other rows than it is fitted on, got the same.")
    wanted = [Site.parse(s) for s in sites] if sites is not None else anatomy(module).sites(("resid",))
    other = reinitialised(module, seed) if random_init is None else random_init
    found = {}
    for name, model in (("ours", module), ("random", other)):
        for part, rows in (("train", train), ("test", test)):
            found[name, part] = activations(model, rows, wanted, last=last)
    return [
        probe(
            found["ours", "train"][site],
            train.labels,
            found["ours", "test"][site],
            test.labels,
            classes=classes,
            seed=seed,
            site=str(site),
            random_train_x=found["random", "train"][site],
            random_test_x=found["random", "test"][site],
            l2=l2,
            shuffles=shuffles,
        )
        for site in wanted
    ]


def activations(module: nn.Module, answers: Answers, sites: Sequence[Site], *, last: int = 1) -> dict[Site, Tensor]:
    """Activations where the answer is predicted.

    Args:
        module: A model that `anatomy` can read.
        answers: The rows; `batch` of them are read at once, with every site's activations at every position.
        sites: Where.
        last: Positions that are averaged, up to the one that predicts the answer.

    Returns:
        (n, d) by site, in float32.

    Raises:
        ModelError: A site that the module has not.
    """
    kept: dict[Site, list[Tensor]] = {site: [] for site in sites}
    with still(module):
        for part in answers.parts():
            _, found = capture(module, part.ids, sites, part.mask, at=part.at)
            length = part.ids.shape[1]
            end = torch.as_tensor(part.at, device=part.ids.device).expand(len(part)) % length
            places = (end[:, None] - torch.arange(last, device=end.device)).clamp(min=0)
            rows = torch.arange(len(part), device=end.device)[:, None]
            for site in sites:
                kept[site].append(found[site][rows, places].float().mean(1))
    return {site: torch.cat(parts) for site, parts in kept.items()}


def _score(found: Sequence[Tensor], right: Tensor) -> Score:
    """Mean over one or more sets of predictions; the interval is that of one."""
    hits = round(sum(int((one == right).sum()) for one in found) / len(found))
    interval = wilson(hits, len(right), name="probe.accuracy", arm="")
    assert interval.low is not None and interval.high is not None
    mean = sum(balanced(one, right) for one in found) / len(found)
    return Score(accuracy=hits / len(right), low=interval.low, high=interval.high, balanced=mean)
