"""What a run of the compiled-program lab is: its fields, their values by size, and the units that follow from them.

Source: arXiv:2311.12786, section C.1: noise, SGD, batch 96, 10,000 iterations, a fifth of them warm-up, rates and C_Tr.
`tiny` has shorter strings and fewer iterations; `paper` keeps the paper's numbers.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gnothi.errors import SpecError
from gnothi.experiments.fields import parsed
from gnothi.experiments.labs.base import LabJob
from gnothi.testbeds.rasp.tasks import PairedTask

RATES: Mapping[str, float] = {"large": 1e-1, "medium": 1e-2, "small": 1e-3, "tiny": 1e-4}
"""The paper's learning rates, eta_L to eta_VS; `tiny` is its very small one."""
RateName = Literal["large", "medium", "small", "tiny"]


class TracrSpec(BaseModel):
    """Every field that decides a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    experiment: Literal["tracr"] = "tracr"
    size: Literal["tiny", "small", "paper"]
    quick: bool = False
    seed: int = Field(ge=0)
    seeds: int = Field(ge=1, le=1000)
    """Fine-tunes of each cell at C_Tr = 1, of noise and data of their own."""
    grid_seeds: int = Field(ge=1)
    """The same at other C_Tr, at most `seeds`."""
    counter: dict[str, int]
    """`letters`, `shortest`, `longest`, `old`, `new`, `offset` of the Counter."""
    max: dict[str, int]
    """The same of the Max-identifier; empty for none."""
    noise: tuple[float, ...] = Field(min_length=1)
    """Levels tried, s.d. on every trained parameter; the largest that keeps `kept` in every seed is used."""
    kept: float = Field(default=0.99, gt=0, le=1)
    sharpness: float = Field(ge=8)
    gain: float = Field(gt=0)
    ramp: float = Field(gt=0, lt=2)
    max_ramp: float = Field(gt=0, lt=2)
    """`ramp` of the Max-identifier, whose ranks are keys and must not be blurred."""
    hidden: float = Field(gt=0)
    logit: float = Field(gt=0)
    """See `testbeds.rasp.Scales` and `compile_program`."""
    steps: int = Field(ge=10)
    batch: int = Field(ge=1)
    clip: float = Field(gt=0)
    """Largest norm of a gradient."""
    warmup: float = Field(default=0.2, ge=0, lt=1)
    end: float = Field(default=0.01, ge=0, le=1)
    """Factor on the rate at the end of the cosine."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    rates: tuple[RateName, ...] = Field(min_length=1)
    correlated: tuple[float, ...] = Field(min_length=1)
    """C_Tr of the Counter's fine-tunes."""
    max_correlated: tuple[float, ...]
    back_rates: tuple[RateName, ...]
    """Of reverse fine-tuning; the fine-tunes are those at the medium rate."""
    back_correlated: tuple[float, ...]
    back_seeds: int = Field(ge=1)
    """Models of each cell that are tuned back, at most `seeds`."""
    back_large: bool = True
    """Whether the large rate's fine-tune at C_Tr = 1 is tuned back too."""
    test: int = Field(ge=20)
    """Strings of a test set."""
    choose: int = Field(ge=20)
    """Strings that weights are scored, and that they are chosen on."""
    candidates: int = Field(ge=4)
    random: int = Field(ge=10)
    """Random weights that the best is chosen from, as a control."""
    curve_rates: tuple[RateName, ...]
    """Rates of the Counter's fine-tunes from which weights and neurons are taken one after another."""
    curve_correlated: tuple[float, ...]
    """Their C_Tr, as far as the run has them; empty for none."""
    curve_seeds: int = Field(ge=1)
    """Models of each cell; no more than there are."""
    most: int = Field(default=20, ge=1)
    """How many are taken."""

    @field_validator(
        "rates", "correlated", "max_correlated", "back_rates", "back_correlated", "noise", "curve_rates",
        "curve_correlated", mode="before",
    )  # fmt: skip
    @classmethod
    def _listed(cls, value: Any) -> Any:
        """On the command line, words apart by commas."""
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return (value,) if isinstance(value, int | float) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _fits(self) -> "TracrSpec":
        for name in ("correlated", "max_correlated", "back_correlated", "curve_correlated"):
            values = getattr(self, name)
            if any(not 0 <= v <= 1 for v in values) or len(set(values)) < len(values):
                raise ValueError(f"{name} must hold shares from 0 to 1, each once")
        if any(v < 0 for v in self.noise):
            raise ValueError("noise must hold levels of at least 0")
        if not set(self.back_correlated) <= set(self.correlated):
            raise ValueError("back_correlated must be among correlated")
        if self.back_correlated and self.back_rates and "medium" not in self.rates:
            raise ValueError("rates must hold medium, whose fine-tunes are tuned back")
        for name in self.tasks():
            self.task(name)  # a SpecError of its own
        return self

    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return ("counter", "max") if self.max else ("counter",)

    def task(self, name: str) -> PairedTask:
        """One of the two tasks."""
        given = dict(getattr(self, name))
        known = {f.name for f in dataclasses.fields(PairedTask)} - {"name"}
        if strange := sorted(set(given) - known):
            raise SpecError(f"{name} must have fields among {', '.join(sorted(known))}, got {strange[0]!r}. Change it.")
        return PairedTask(name=name, **given)

    def swept(self, task: str) -> tuple[float, ...]:
        """C_Tr of a task's fine-tunes."""
        return self.correlated if task == "counter" else self.max_correlated


_COUNTER = {"letters": 9, "shortest": 45, "longest": 45, "old": 0, "new": 1, "offset": 1}
_MAX = {"letters": 26, "shortest": 9, "longest": 10, "old": 5, "new": 6, "offset": 1}
_SWEEP = (0.0, 0.2, 0.5, 0.6, 0.8, 0.9, 1.0)
_ALL: tuple[str, ...] = tuple(RATES)

SIZES: Mapping[str, Mapping[str, Any]] = {
    "tiny": {
        "seeds": 5, "grid_seeds": 1, "counter": {**_COUNTER, "letters": 4, "shortest": 30, "longest": 30},
        "max": {**_MAX, "letters": 16, "shortest": 7, "longest": 8}, "steps": 400,
        "correlated": _SWEEP, "max_correlated": (0.0, 0.5, 1.0),
        "back_rates": _ALL, "back_correlated": (0.0, 0.5, 1.0), "back_seeds": 3, "choose": 200, "candidates": 40,
        "curve_correlated": (0.0, 1.0), "curve_seeds": 3, "clip": 0.1,
    },
    "small": {
        "seeds": 5, "grid_seeds": 3, "counter": _COUNTER, "max": _MAX, "steps": 2000,
        "correlated": _SWEEP, "max_correlated": _SWEEP,
        "back_rates": _ALL, "back_correlated": _SWEEP, "back_seeds": 5, "choose": 500, "candidates": 100,
        "curve_correlated": (0.0, 0.5, 0.8, 1.0), "curve_seeds": 3,
    },
    "paper": {
        "seeds": 5, "grid_seeds": 5, "counter": _COUNTER, "max": _MAX, "steps": 10_000,
        "correlated": _SWEEP, "max_correlated": _SWEEP,
        "back_rates": _ALL, "back_correlated": _SWEEP, "back_seeds": 5, "choose": 500, "candidates": 100,
        "curve_correlated": (0.0, 0.5, 0.8, 1.0), "curve_seeds": 3,
    },
}  # fmt: skip
COMMON: Mapping[str, Any] = {
    "noise": (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5), "sharpness": 8.0, "gain": 5.0, "ramp": 1.5, "max_ramp": 1.0,
    "hidden": 1.0, "logit": 6.0,
    "batch": 96, "clip": 1.0, "rates": _ALL, "test": 1000, "random": 1000,
    "curve_rates": ("medium", "small"),
}  # fmt: skip
QUICK: Mapping[str, Any] = {
    "seeds": 3, "grid_seeds": 1, "counter": {**_COUNTER, "letters": 4, "shortest": 8, "longest": 8},
    "max": {**_MAX, "letters": 6, "shortest": 5, "longest": 5, "old": 3, "new": 4}, "steps": 150,
    "correlated": (0.0, 1.0), "max_correlated": (1.0,), "rates": ("large", "medium", "small"),
    "back_rates": ("medium", "small"), "back_correlated": (1.0,), "back_seeds": 3, "back_large": False, "test": 300, "choose": 100,
    "candidates": 20, "curve_rates": ("small",), "curve_correlated": (1.0,), "curve_seeds": 1,
}  # fmt: skip
"""What `--quick` replaces: strings too short and training too brief for the paper's numbers."""


def built(*, size: str, quick: bool, seed: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """The specification of a run, every field said.

    Raises:
        SpecError: An unknown size or option, or a value that it can't have.
    """
    if size not in SIZES:
        raise SpecError(f"size must be one of {', '.join(SIZES)}, got {size!r}. Change it.")
    values = {**COMMON, **SIZES[size], **(QUICK if quick else {}), "size": size, "quick": quick, "seed": seed}
    return parsed(TracrSpec, {**values, **options}).model_dump(mode="json")


def percent(share: float) -> str:
    """C_Tr in names: `c80`."""
    return f"c{100 * share:g}".replace(".", "-")


def cell(task: str, rate: str, share: float) -> str:
    """Arm of a fine-tune."""
    return f"{task}-{rate}-{percent(share)}"


def jobs(spec: TracrSpec) -> Sequence[LabJob]:
    """Every unit: compiled models, fine-tunes, and trainings back."""
    found: list[LabJob] = []
    for task in spec.tasks():
        base = f"{task}-compiled"
        found.append(LabJob(name=base, arm=base, seed=spec.seed, payload={"kind": "compiled", "task": task}))
        shares = sorted(spec.swept(task), reverse=True)  # those that the claims are about come first
        for share in shares:
            for rate in spec.rates:
                for i in range(spec.seeds if share == 1 else min(spec.seeds, spec.grid_seeds)):
                    arm = cell(task, rate, share)
                    payload = {"kind": "tuned", "task": task, "rate": rate, "correlated": share}
                    found.append(LabJob(name=f"{arm}.{i}", arm=arm, seed=spec.seed + i, payload=payload, after=(base,)))
    for i in range(min(spec.seeds, spec.curve_seeds)):
        for share in (s for s in spec.curve_correlated if s in spec.correlated):
            for rate in (r for r in spec.curve_rates if r in spec.rates):
                tuned = cell("counter", rate, share)
                if share != 1 and i >= spec.grid_seeds:
                    continue
                payload = {"kind": "curve", "task": "counter", "of": f"{tuned}.{i}", "correlated": share}
                found.append(
                    LabJob(
                        name=f"{tuned}-curve.{i}",
                        arm=f"{tuned}-curve",
                        seed=spec.seed + i,
                        payload=payload,
                        after=("counter-compiled", f"{tuned}.{i}"),
                    )
                )
    for i in range(spec.seeds):
        payload = {"kind": "never", "task": "counter"}
        found.append(
            LabJob(name=f"never.{i}", arm="never", seed=spec.seed + i, payload=payload, after=("counter-compiled",))
        )
    return [*found, *_back(spec)]


def _back(spec: TracrSpec) -> list[LabJob]:
    """The Counter's trainings back: of fine-tunes, and of a program that never had the task."""
    found: list[LabJob] = []
    if not spec.back_correlated:
        return found
    starts = [("medium", share) for share in spec.back_correlated]
    if spec.back_large and "large" in spec.rates and 1.0 in spec.back_correlated:
        starts.append(("large", 1.0))
    for back in spec.back_rates:
        payload = {"kind": "back", "task": "counter", "rate": back}
        for i in range(min(spec.seeds, spec.back_seeds)):
            arm = f"never-back-{back}"
            found.append(
                LabJob(name=f"{arm}.{i}", arm=arm, seed=spec.seed + i, payload=payload, after=("counter-compiled",))
            )
            for rate, share in starts:
                tuned = cell("counter", rate, share)
                if share != 1 and i >= spec.grid_seeds:
                    continue
                arm = f"{tuned}-back-{back}"
                after = ("counter-compiled", f"{tuned}.{i}")
                found.append(
                    LabJob(
                        name=f"{arm}.{i}", arm=arm, seed=spec.seed + i, payload={**payload, "of": after[1]}, after=after
                    )
                )
    return found
