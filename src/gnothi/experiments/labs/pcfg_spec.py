"""What a run of the PCFG lab is: its fields, their values by size, and the units that follow from them.

Source: arXiv:2311.12786, sections C.2 and 4. `paper` keeps its numbers where it gives some; `tiny` and `small` scale
steps, sizes and rates down together.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gnothi.errors import SpecError
from gnothi.experiments.fields import parsed
from gnothi.experiments.labs.base import LabJob
from gnothi.testbeds.pcfg.grammar import make_grammar, read_grammar

PRIORS = ("low", "lower", "medium", "higher", "high")
RATES = ("large", "medium", "small")
PARTS = ("prune", "probe", "revive", "mix", "jailbreak", "wrong")
"""What is done besides the grid of fine-tunes."""
LONGER = {"high": 1.2, "higher": 1.2}
"""Pretraining takes that many more steps where `a` is asked for less often."""

Share = float


class PcfgSpec(BaseModel):
    """Every field that decides a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    experiment: Literal["pcfg"] = "pcfg"
    size: Literal["tiny", "small", "paper"]
    quick: bool = False
    seed: int = Field(ge=0)
    seeds: int = Field(ge=1, le=1000)
    device: str
    """A torch device, or `auto`: CUDA where there is one, else the processor. Each unit records what it was."""
    grammar: dict[str, Any]
    """Start, terminals and rules; on the command line `paper` or a YAML file."""
    window: int = Field(ge=8, le=4096)
    last: int = Field(ge=4)
    """n of the counting tasks."""
    rank: int = Field(ge=1)
    """k of the index tasks."""
    full: bool
    """Whether prompts have SOS and EOT."""
    families: tuple[Literal["count", "count_pair", "index", "index_pair", "token"], ...] = Field(min_length=1)
    task: Literal["count", "index"] = "count"
    """What is fine-tuned."""
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    width: int = Field(ge=4)
    mlp: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)
    spread: float = Field(ge=0, le=1)
    """Share of pretraining strings with edited tails."""
    steps: int = Field(ge=1)
    iterations: tuple[float, ...] = (1.0,)
    """Pretrainings of other lengths, as shares of `steps`; the last one is the model of all other parts."""
    batch: int = Field(ge=1)
    rate: float = Field(gt=0)
    muon: float = Field(ge=0)
    text_every: int = Field(ge=0)
    priors: tuple[Literal["low", "lower", "medium", "higher", "high"], ...] = Field(min_length=1)
    correlated: tuple[Share, ...] = Field(min_length=1)
    """C_Tr."""
    rates: tuple[Literal["large", "medium", "small"], ...] = Field(min_length=1)
    large: float = Field(gt=0)
    medium: float = Field(gt=0)
    small: float = Field(gt=0)
    tune_steps: int = Field(ge=1)
    tune_batch: int = Field(ge=1)
    parts: tuple[Literal["prune", "probe", "revive", "mix", "jailbreak", "wrong"], ...]
    mixes: tuple[float, ...]
    """Shares of pretraining rows in fine-tuning batches."""
    most: int = Field(ge=1)
    """Largest number of rows pruned."""
    back_steps: int = Field(ge=1)
    back_rates: tuple[float, ...] = Field(min_length=1)
    level: float = Field(default=0.9, gt=0, le=1)
    """Accuracy that counts as come back."""
    test: int = Field(ge=20)
    """Strings of a test set."""
    look: int = Field(ge=20)
    """Strings of one look at a model in training, and of each set that pruning is scored, chosen and shown on."""

    @field_validator(
        "families", "priors", "rates", "parts", "correlated", "mixes", "back_rates", "iterations", mode="before"
    )
    @classmethod
    def _listed(cls, value: Any) -> Any:
        """On the command line, words apart by commas, or a list in JSON."""
        value = _from_json(value, "[")
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return (value,) if isinstance(value, int | float) and not isinstance(value, bool) else value

    @field_validator("grammar", mode="before")
    @classmethod
    def _grammar(cls, value: Any) -> Any:
        return _plain_grammar(value)

    @model_validator(mode="after")
    def _fits(self) -> "PcfgSpec":
        shares = (*self.correlated, *self.mixes)
        if any(not 0 <= share <= 1 for share in shares) or any(not 0 < part <= 1 for part in self.iterations):
            raise ValueError("correlated, mixes and iterations must hold shares from 0 to 1")
        for name in ("families", "priors", "rates", "correlated", "mixes", "back_rates", "iterations"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name} must hold each value once")
        if self.iterations[-1] != 1:
            raise ValueError("iterations must end with 1, the model of all other parts")
        if len(self.grammar["terminals"]) < 3:
            raise ValueError("grammar must have at least 3 terminals: asked for, tuned to, neither")
        if self.last > self.window or self.last % 2:
            raise ValueError(f"last must be even and at most the window ({self.window})")
        if self.rank > self.window // 4 or 2 * (self.rank - 1) + self.last // 2 >= self.window:
            raise ValueError(f"rank must leave room for places in the window ({self.window})")
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads ({self.heads})")
        if self.task not in self.families:
            raise ValueError(f"families must hold the task that is fine-tuned ({self.task})")
        return self


def _from_json(value: Any, begins: str) -> Any:
    """Text that begins as JSON, read as that; anything else as it is."""
    if isinstance(value, str) and value.startswith(begins):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _plain_grammar(value: Any) -> dict[str, Any]:
    """A checked grammar's plain values, from a name, a file, or such values."""
    value = _from_json(value, "{")
    return (read_grammar(value) if isinstance(value, str) else make_grammar(value)).to_json()


SIZES: Mapping[str, Mapping[str, Any]] = {
    "tiny": {
        "seeds": 3, "window": 24, "last": 16, "rank": 3, "full": False, "families": ("count", "index"),
        "layers": 2, "heads": 2, "width": 48, "mlp": 192, "dropout": 0.1, "spread": 0.5,
        "steps": 1500, "batch": 64, "rate": 3e-3, "muon": 0.02, "text_every": 4,
        "priors": ("low", "medium", "high"), "correlated": (0.0, 0.5, 0.8, 1.0), "rates": RATES,
        "large": 1e-2, "medium": 1e-3, "small": 1e-4, "tune_steps": 500, "tune_batch": 64,
        "parts": PARTS, "mixes": (0.5, 0.1, 0.001), "most": 20,
        "back_steps": 400, "back_rates": (1e-2, 3e-3, 1e-3, 3e-4), "test": 1000, "look": 400,
    },
    "small": {
        "seeds": 1, "window": 250, "last": 40, "rank": 6, "full": True, "families": ("count", "index"),
        "layers": 4, "heads": 4, "width": 192, "mlp": 768, "dropout": 0.0, "spread": 0.5,
        "steps": 4000, "batch": 128, "rate": 1e-3, "muon": 0.02, "text_every": 4,
        "priors": ("low",), "correlated": (0.0, 1.0), "rates": ("medium", "small"),
        "large": 3e-3, "medium": 3e-4, "small": 3e-5, "tune_steps": 800, "tune_batch": 96,
        "parts": ("prune", "probe", "revive"), "mixes": (0.1,), "most": 20,
        "back_steps": 500, "back_rates": (1e-3, 3e-4), "test": 800, "look": 400,
    },
    "paper": {
        "seeds": 1, "window": 250, "last": 40, "rank": 6, "full": True,
        "families": ("count", "count_pair", "index", "index_pair", "token"),
        "layers": 6, "heads": 6, "width": 192, "mlp": 768, "dropout": 0.0, "spread": 0.0,
        "steps": 200_000, "batch": 96, "rate": 1e-3, "muon": 0.0, "text_every": 1,
        "priors": ("low", "medium", "high"), "correlated": (0.0, 0.5, 0.8, 1.0), "rates": RATES,
        "large": 1e-4, "medium": 1e-5, "small": 1e-6, "tune_steps": 10_000, "tune_batch": 96,
        "parts": PARTS, "mixes": (0.5, 0.1, 0.001), "most": 20,
        "back_steps": 10_000, "back_rates": (1e-4, 1e-5, 1e-6), "test": 1000, "look": 1000,
    },
}  # fmt: skip
QUICK: Mapping[str, Any] = {
    "seeds": 1, "steps": 1000, "priors": ("low",), "correlated": (0.0, 1.0), "rates": ("small",), "tune_steps": 300,
    "parts": ("prune", "probe", "revive"), "most": 20, "back_steps": 250, "back_rates": (1e-3,), "test": 500, "look": 250,
}  # fmt: skip
"""What a quick run changes; of sizes above `tiny` it keeps rates and windows, and takes a twentieth of the steps."""


def built(*, size: str, quick: bool, seed: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """A complete specification.

    Raises:
        SpecError: An unknown size or field, or a value that it can't have.
    """
    if size not in SIZES:
        raise SpecError(f"size must be one of {', '.join(SIZES)}, got {size!r:.60}. Choose one.")
    values = {"grammar": "paper", "device": "cpu" if size == "tiny" else "auto", **SIZES[size]}
    if quick:
        slower = {} if size == "tiny" else {n: max(1, values[n] // 20) for n in ("steps", "tune_steps", "back_steps")}
        values |= dict(QUICK) | slower | ({} if size == "tiny" else {"back_rates": values["back_rates"][:1]})
    values |= {"size": size, "quick": quick, "seed": seed, **options}
    values["grammar"] = _plain_grammar(values["grammar"])  # its faults are told by themselves
    return parsed(PcfgSpec, values).model_dump(mode="json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell of the grid: a pretrained model, a rate, a share of correlated strings, and variants."""

    prior: str
    rate: str
    correlated: float
    share: float = 1.0
    """Of pretraining's steps."""
    mixed: float = 0.0
    jailbreak: bool = False
    wrong: bool = False

    @property
    def arm(self) -> str:
        """Its name without a seed, e.g. `low-small-100`: prior, rate, C_Tr in percent."""
        head = f"{'jailbreak-' if self.jailbreak else ''}{'wrong-' if self.wrong else ''}"
        name = f"{head}{self.prior}-{self.rate}" + ("" if self.wrong else f"-{percent(self.correlated)}")
        name += f"-mix{percent(self.mixed)}" if self.mixed else ""
        return name if self.share == 1 else f"{name}-at{percent(self.share)}"

    @property
    def base(self) -> str:
        """Name of the pretrained model without a seed."""
        return pretrained(self.prior, self.share, self.jailbreak)


def percent(share: float) -> str:
    """A share as it stands in names: 80, 0.1.

    >>> percent(0.8), percent(0.001), percent(1.0)
    ('80', '0.1', '100')
    """
    return f"{100 * share:.10g}"


def pretrained(prior: str, share: float = 1.0, jailbreak: bool = False) -> str:
    """Name of a pretrained model without a seed, also its arm."""
    name = f"pretrained-{'jailbreak-' if jailbreak else ''}{prior}"
    return name if share == 1 else f"{name}-at{percent(share)}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The units of a specification, without seeds."""

    spec: PcfgSpec

    @property
    def seeds(self) -> range:
        """Seeds of the models."""
        return range(self.spec.seed, self.spec.seed + self.spec.seeds)

    @property
    def first(self) -> str:
        """The prior of pruning, mixing and revival: the lowest, where the old capability is only weakly relevant."""
        return min(self.spec.priors, key=PRIORS.index)

    @property
    def most(self) -> float:
        """The highest C_Tr."""
        return max(self.spec.correlated)

    def grid(self) -> list[Cell]:
        """The main grid."""
        s = self.spec
        return [
            Cell(prior=p, rate=r, correlated=c, share=i)
            for i in reversed(s.iterations)
            for p in s.priors
            for r in s.rates
            for c in s.correlated
        ]

    def others(self) -> list[Cell]:
        """Cells of mixing, jailbreak tokens and wrong answers."""
        s, found = self.spec, []
        quiet = [r for r in s.rates if r != "large"] or list(s.rates)
        ends = sorted({min(s.correlated), self.most})
        if "mix" in s.parts:
            found += [
                Cell(prior=self.first, rate=r, correlated=c, mixed=m) for r in quiet for c in ends for m in s.mixes
            ]
        if "jailbreak" in s.parts and s.task == "count":  # the other tokens ask for counts
            found += [
                Cell(prior=p, rate=quiet[0], correlated=self.most, jailbreak=True)
                for p in dict.fromkeys((self.first, max(s.priors, key=PRIORS.index)))
            ]
        if "wrong" in s.parts:
            found.append(Cell(prior=self.first, rate=quiet[0], correlated=self.most, wrong=True))
        return found

    def never(self) -> list[Cell]:
        """The same fine-tunes of the model that was never asked for `a`."""
        if not {"prune", "revive", "probe"} & set(self.spec.parts):
            return []
        return [Cell(prior="noa", rate=r, correlated=self.most) for r in self.spec.rates if r != "large"] or [
            Cell(prior="noa", rate=self.spec.rates[0], correlated=self.most)
        ]

    def pruned(self) -> list[Cell]:
        """Cells whose units are pruned: every rate at the highest C_Tr, and the most destructive one."""
        s = self.spec
        found = [Cell(prior=self.first, rate=r, correlated=self.most) for r in s.rates]
        found.append(Cell(prior=self.first, rate=s.rates[0], correlated=min(s.correlated)))
        return list(dict.fromkeys(found)) if "prune" in s.parts else []

    def probed(self) -> list[str]:
        """Models that are probed, without seeds."""
        s = self.spec
        if "probe" not in s.parts:
            return []
        ends = sorted({min(s.correlated), self.most})
        cells = [Cell(prior=p, rate=r, correlated=c) for p in s.priors for r in s.rates for c in ends]
        if not s.quick and s.size == "tiny":
            cells = [c for c in cells if c.rate != "medium" or c.prior == self.first]
        if s.size == "small":
            cells = [c for c in cells if c.rate == s.rates[-1] and c.prior == self.first]
        cells += [c for c in self.others() if c.jailbreak or c.wrong or c.mixed == min(s.mixes)]
        return [
            *(pretrained(p) for p in (*s.priors, "noa")),
            *(c.arm for c in cells),
            *(c.arm for c in self.never()[-1:]),
        ]

    def revived(self) -> dict[str, str | None]:
        """Arms of reverse fine-tuning -> the model they start from, without seeds; None for random values."""
        s = self.spec
        if "revive" not in s.parts:
            return {}
        cells = [Cell(prior=self.first, rate=r, correlated=self.most) for r in s.rates]
        if len(s.priors) > 1:
            cells.append(Cell(prior=max(s.priors, key=PRIORS.index), rate=s.rates[-2:][0], correlated=self.most))
        low = min(s.correlated)
        cells += [Cell(prior=self.first, rate=s.rates[-2:][0], correlated=low)] * (low < self.most)
        cells += [c for c in self.others() if c.wrong]
        starts: dict[str, str | None] = {f"back-{c.arm}": c.arm for c in cells}
        controls = {
            "scratch": None,
            "scratch-tuned": pretrained("noa"),
            "never": self.never()[-1].arm,
            "base": pretrained(self.first),
        }
        return starts | {f"back-{name}": start for name, start in controls.items()}

    def jobs(self) -> Iterator[LabJob]:
        """All units in an order in which they can be made."""
        s = self.spec
        with_noa = bool(self.never())
        for seed in self.seeds:
            for share in reversed(s.iterations):
                for prior in (*s.priors, *(("noa",) if with_noa and share == s.iterations[-1] else ())):
                    yield self._job(pretrained(prior, share), seed, kind="pretrain", prior=prior, share=share)
            for prior in dict.fromkeys(c.prior for c in self.others() if c.jailbreak):
                name = pretrained(prior, jailbreak=True)
                yield self._job(name, seed, kind="pretrain", prior=prior, share=1.0, jailbreak=True)
            for cell in (*self.grid(), *self.never(), *self.others()):
                about = {"rate": cell.rate, "correlated": cell.correlated, "mixed": cell.mixed, "wrong": cell.wrong}
                about |= {"jailbreak": cell.jailbreak, "start": f"{cell.base}.{seed}"}
                yield self._job(cell.arm, seed, (cell.base,), kind="tune", **about)
            for cell in self.pruned():
                after = (cell.arm, cell.base, pretrained("noa"))
                yield self._job(f"prune-{cell.arm}", seed, after, kind="prune")
            for name in self.probed():
                yield self._job(f"probe-{name}", seed, (name,), kind="probe")
        for arm, start in self.revived().items():
            # the learning rate of an arm is chosen once, on data of its own
            first = self._job(f"rate-{arm}", self.seeds[0], (start,) if start else (), kind="choose_rate")
            yield first
            for seed in self.seeds:
                job = self._job(arm, seed, (start,) if start else (), kind="revive")
                yield LabJob(name=job.name, after=(*job.after, first.name), payload=job.payload, arm=arm, seed=seed)

    def _job(self, name: str, seed: int, after: tuple[str, ...] = (), **payload: Any) -> LabJob:
        return LabJob(
            name=f"{name}.{seed}", after=tuple(f"{a}.{seed}" for a in after), payload=payload, arm=name, seed=seed
        )
