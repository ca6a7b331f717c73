"""What a run of the stories lab is: its fields, their values by size, and the units that follow from them.

Source: arXiv:2311.12786, section 6, and its code. `paper` keeps its numbers; `tiny` scales model, steps and rates.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gnothi.errors import SpecError
from gnothi.experiments.fields import parsed
from gnothi.experiments.labs.base import LabJob
from gnothi.files import file_digest

WORDS = "words"
"""The unit that all others read: tokenizer and judge."""
BASE, NEVER = "base", "never"
RATES = ("large", "medium", "small")
PROTOCOLS = ("f", "f+rr", "f+mm")
_FEATURES = ("Twist", "Foreshadowing", "Dialogue", "BadEnding", "MoralValue", "Conflict")
Name = Literal["Twist", "Foreshadowing", "Dialogue", "BadEnding", "MoralValue", "Conflict"]


class StoriesSpec(BaseModel):
    """Every field that decides a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    experiment: Literal["stories"] = "stories"
    size: Literal["tiny", "small", "paper"]
    quick: bool = False
    seed: int = Field(ge=0)
    seeds: int = Field(ge=1, le=1000)
    device: str
    """A torch device, or `auto`: CUDA where there is one, else the processor."""
    source: str = "generated"
    """`generated`, or a file: the TinyStories archive or an instruct text file."""
    source_digest: str = ""
    """sha256 of that file."""
    feature: Name = "Twist"
    """What is deleted. With Mix & Match, Foreshadowing is called so."""
    every: Literal[1, 2]
    """1 for all words of generated stories, 2 for half of them."""
    vocabulary: int = Field(ge=300, le=60_000)
    longest_story: int = Field(ge=8)
    """Tokens that a model may write."""
    packed: bool
    """Whether records are laid end to end, as the paper's, and all tokens are learned; else a row each, and its story."""
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    width: int = Field(ge=4)
    mlp: int = Field(ge=1)
    longest: int = Field(ge=16)
    """Positions."""
    stories: int = Field(ge=50)
    """For pretraining, those with the feature included."""
    tuning_stories: int = Field(ge=50)
    test_stories: int = Field(ge=50)
    judge_stories: int = Field(ge=50)
    probe_stories: int = Field(ge=50)
    """Probes are fitted on so many held-out stories and tested on as many others."""
    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    accumulate: int = Field(ge=1)
    """Passes a step of pretraining, each on rows of its own."""
    rate: float = Field(gt=0)
    muon: float = Field(ge=0)
    warmup: float = Field(ge=0, lt=1)
    flat: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    stress: float = Field(default=1.0, ge=1)
    """In pretraining, what the tokens of the sentence count for that says how it turned out, which are few of all."""
    protocols: tuple[Literal["f", "f+rr", "f+mm"], ...] = Field(min_length=1)
    rates: tuple[Literal["large", "medium", "small"], ...] = Field(min_length=1)
    large: float = Field(gt=0)
    medium: float = Field(gt=0)
    small: float = Field(gt=0)
    tune_batch: int = Field(ge=1)
    tune_steps: int = Field(ge=1)
    tune_looks: tuple[int, ...]
    back_steps: int = Field(ge=1)
    back_looks: tuple[int, ...]
    """Steps of reverse fine-tuning at which models are looked at, besides the first and the last."""
    back_rates: tuple[float, ...] = Field(min_length=1)
    asked: int = Field(ge=20)
    """Stories that are written at a look."""
    loss_stories: int = Field(ge=10)
    least_base: float = Field(default=0.6, ge=0, le=1)
    """Rate of a base model from which on it counts as one that has the feature."""
    most_deleted: float = Field(default=0.2, ge=0, le=1)
    """Rate below which the feature counts as deleted; else nothing is said of revival."""
    level: float = Field(default=0.7, gt=0, le=1)
    """Rate that counts as come back. A model that writes either outcome, whatever was expected, is at a half."""

    @field_validator("protocols", "rates", "tune_looks", "back_looks", "back_rates", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        """On the command line, words apart by commas."""
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return (value,) if isinstance(value, int | float) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _fits(self) -> "StoriesSpec":
        for name in ("protocols", "rates", "back_rates"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name} must hold each value once")
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads ({self.heads})")
        for name, steps in (("tune_looks", self.tune_steps), ("back_looks", self.back_steps)):
            if any(not 0 <= look <= steps for look in getattr(self, name)):
                raise ValueError(f"{name} must hold steps from 0 to {steps}")
        if "f+mm" in self.protocols and self.feature == "Foreshadowing":
            raise ValueError("protocols must be without f+mm where the feature is Foreshadowing, which it renames")
        return self


SIZES: Mapping[str, Mapping[str, Any]] = {
    "tiny": {
        "seeds": 3, "every": 2, "vocabulary": 800, "longest_story": 80, "packed": False,
        "layers": 2, "heads": 4, "width": 64, "mlp": 256, "longest": 144,
        "stories": 30_000, "tuning_stories": 6_000, "test_stories": 2_000, "judge_stories": 10_000, "probe_stories": 1_000,
        "steps": 1_000, "batch": 32, "accumulate": 1, "rate": 3e-3, "muon": 0.02, "warmup": 0.05, "flat": 0.35,
        "weight_decay": 0.0, "stress": 10.0, "protocols": PROTOCOLS, "rates": ("large", "medium"),
        "large": 1e-3, "medium": 3e-4, "small": 1e-4,
        "tune_batch": 32, "tune_steps": 100, "tune_looks": (10, 30),
        "back_steps": 100, "back_looks": (3, 10, 30), "back_rates": (3e-3, 1e-3, 3e-4),
        "asked": 381, "loss_stories": 400,
    },
    "small": {
        "seeds": 1, "every": 1, "vocabulary": 2_048, "longest_story": 100, "packed": False,
        "layers": 8, "heads": 8, "width": 512, "mlp": 2_048, "longest": 512,
        "stories": 400_000, "tuning_stories": 60_000, "test_stories": 6_000, "judge_stories": 20_000,
        "probe_stories": 3_000,
        "steps": 4_000, "batch": 128, "accumulate": 1, "rate": 5e-4, "muon": 0.0, "warmup": 0.05, "flat": 0.0,
        "weight_decay": 0.1, "protocols": PROTOCOLS, "rates": ("medium", "small"),
        "large": 5e-4, "medium": 5e-5, "small": 5e-6,
        "tune_batch": 128, "tune_steps": 1_000, "tune_looks": (30, 300),
        "back_steps": 1_000, "back_looks": (10, 30, 100, 300), "back_rates": (5e-4, 5e-5, 5e-6),
        "asked": 500, "loss_stories": 1_000,
    },
    "paper": {
        "seeds": 1, "every": 1, "vocabulary": 8_192, "longest_story": 350, "packed": True,
        "layers": 12, "heads": 12, "width": 768, "mlp": 3_072, "longest": 1_024,
        "stories": 1_700_000, "tuning_stories": 420_000, "test_stories": 40_000, "judge_stories": 50_000,
        "probe_stories": 10_000,
        "steps": 30_000, "batch": 16, "accumulate": 8, "rate": 1e-3, "muon": 0.0, "warmup": 1 / 30, "flat": 0.0,
        "weight_decay": 0.1, "protocols": PROTOCOLS, "rates": ("medium", "small"),
        "large": 1e-3, "medium": 1e-4, "small": 1e-5,
        "tune_batch": 16, "tune_steps": 4_000, "tune_looks": (30, 300),
        "back_steps": 4_000, "back_looks": (30, 300, 3_000), "back_rates": (1e-4, 1e-5, 1e-6),
        "asked": 500, "loss_stories": 1_280, "level": 0.5,
    },
}  # fmt: skip
QUICK: Mapping[str, Any] = {
    "seeds": 1, "rates": ("medium",), "back_rates": (1e-3,), "asked": 128, "loss_stories": 100, "probe_stories": 500,
    "test_stories": 1_000, "judge_stories": 6_000, "stories": 20_000, "tuning_stories": 4_000, "steps": 800,
}  # fmt: skip
"""What a quick run changes; of sizes above `tiny` it takes a twentieth of stories and steps."""
_TWENTIETH = ("steps", "tune_steps", "back_steps", "stories", "tuning_stories", "test_stories", "judge_stories")


def built(*, size: str, quick: bool, seed: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """A complete specification.

    Raises:
        SpecError: An unknown size or field, a value that it can't have, or a file that is not there.
    """
    if size not in SIZES:
        raise SpecError(f"size must be one of {', '.join(SIZES)}, got {size!r:.60}. Choose one.")
    values = {"device": "cpu" if size == "tiny" else "auto", **SIZES[size]}
    if quick and size == "tiny":
        values |= QUICK
    elif quick:
        values |= {name: values[name] // 20 for name in _TWENTIETH}
        values |= {"seeds": 1, "asked": 128, "back_rates": values["back_rates"][:1], "rates": values["rates"][:1]}
        values |= {"probe_stories": 1_000}
        for name, steps in (("tune_looks", "tune_steps"), ("back_looks", "back_steps")):
            values[name] = tuple(look for look in values[name] if look <= values[steps])
    values |= {"size": size, "quick": quick, "seed": seed, **options}
    source = str(values.get("source", "generated"))
    if source != "generated":
        path = Path(source).expanduser()
        if not path.is_file():
            raise SpecError(f"--set source must be `generated` or a file, got {source!r:.80}. Check the path.")
        values |= {"source": str(path.resolve()), "source_digest": file_digest(path)}
    return parsed(StoriesSpec, values).model_dump(mode="json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """One way in which the feature was taken away."""

    protocol: str
    rate: str

    @property
    def arm(self) -> str:
        """As on the page: `f+rr, large`."""
        return f"{self.protocol}, {self.rate}"

    @property
    def unit(self) -> str:
        """Name of its units without a seed: `f-rr-large`."""
        return f"{self.protocol.replace('+', '-')}-{self.rate}"


def deletions(spec: Mapping[str, Any]) -> list[Deletion]:
    """All of a run, protocol by protocol."""
    return [Deletion(protocol=p, rate=r) for p in spec["protocols"] for r in spec["rates"]]


def seeds(spec: Mapping[str, Any]) -> range:
    """Seeds of the models."""
    return range(spec["seed"], spec["seed"] + spec["seeds"])


def starts(spec: Mapping[str, Any]) -> dict[str, str]:
    """What is trained back: arm -> name of its units without a seed."""
    return {**{d.arm: d.unit for d in deletions(spec)}, BASE: BASE, NEVER: NEVER}


def jobs(spec: Mapping[str, Any]) -> list[LabJob]:
    """Every unit, seed by seed."""
    found = [LabJob(name=WORDS, payload={"kind": "words"}, seed=spec["seed"])]
    for s in seeds(spec):
        for arm in (BASE, NEVER):
            payload = {"kind": "pretrain", "with_feature": arm == BASE, "data": arm}
            found.append(LabJob(name=f"{arm}-{s}", after=(WORDS,), payload=payload, arm=arm, seed=s))
        for d in deletions(spec):
            parent = f"{BASE}-{s}"
            payload = {"kind": "delete", "of": parent, "protocol": d.protocol, "lr": spec[d.rate], "data": d.protocol}
            found.append(LabJob(name=f"{d.unit}-{s}", after=(WORDS, parent), payload=payload, arm=d.arm, seed=s))
        for arm, unit in starts(spec).items():
            parent = f"{unit}-{s}"
            payload = {"kind": "back", "of": parent, "data": "back"}
            found.append(LabJob(name=f"back-{unit}-{s}", after=(WORDS, parent), payload=payload, arm=arm, seed=s))
        of = {arm: f"{unit}-{s}" for arm, unit in probed(spec).items()}
        payload = {"kind": "probe", "of": of}
        found.append(LabJob(name=f"probe-{s}", after=(WORDS, *of.values()), payload=payload, seed=s))
    return found


def probed(spec: Mapping[str, Any]) -> dict[str, str]:
    """What is probed: arm -> name of its units without a seed."""
    return {BASE: BASE, NEVER: NEVER, **{d.arm: d.unit for d in deletions(spec) if d.protocol == "f+rr"}}
