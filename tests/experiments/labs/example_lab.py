"""A lab small enough to run in a test: a line is fitted, then fitted again to another slope, and to noise.

`python example_lab.py …` is `gnothi …` with this lab known by the name `example`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from gnothi.errors import SpecError
from gnothi.experiments import labs
from gnothi.experiments.labs.base import AbstractLab, LabJob, LabTable, Picture, Units
from gnothi.experiments.labs.plan import nearest
from gnothi.intervals import missing, over_units
from gnothi.records import Estimate
from gnothi.score.names import Arm

FIELDS = ("experiment", "size", "quick", "seed", "seeds", "steps", "pause")
SLOPES = {"tuned": 2.0, "shuffled": 0.0}


class Example(AbstractLab):
    name = "example"
    summary = "A line learns a slope: two arms, one of them on shuffled answers."
    question = "Does a line learn the slope of its points?"
    headline = ("example.slope", "tuned")
    subject = "The slope learned is"
    beside = (("example.loss", "tuned"),)
    costs: ClassVar = {"tiny": "a second", "quick": "less"}
    estimates: ClassVar = {
        "example.slope": "the slope that a line has learned",
        "example.loss": "mean square error at the end",
        "example.never": "what no unit ever gives",
    }
    work = "example_work:work"

    @classmethod
    def build(cls, *, size: str = "tiny", quick: bool = False, seed: int = 0, **options: Any) -> dict[str, Any]:
        spec = {"experiment": cls.name, "size": size, "quick": quick, "seed": seed, "seeds": 1 if quick else 3}
        spec |= {"steps": 30 if quick else 60, "pause": 0.0}
        if strange := [k for k in options if k not in FIELDS]:
            raise SpecError(f"--set {strange[0]} must be a field of the lab, got none. {nearest(strange[0], FIELDS)}")
        return cls.check(spec | options)

    @classmethod
    def check(cls, spec: Mapping[str, Any]) -> dict[str, Any]:
        if set(spec) != set(FIELDS) or not isinstance(spec["steps"], int) or spec["steps"] < 1:
            raise SpecError(f"--set steps must be a whole number of at least 1, got {spec.get('steps')!r}. Change it.")
        return dict(spec)

    def jobs(self) -> Sequence[LabJob]:
        found = [LabJob(name="points", seed=0)]
        for seed in range(self.spec["seeds"]):
            for arm, slope in SLOPES.items():
                name = f"{arm}-{seed}"
                found.append(LabJob(name=name, after=("points",), arm=arm, seed=seed, payload={"slope": slope}))
        return found

    def arms(self) -> Mapping[str, Arm]:
        return {
            "tuned": Arm("line fitted to points", "2, the slope of the points", "that it learned", False),
            "shuffled": Arm("line fitted to shuffled answers", "2", "what any line has", True),
        }

    def score(self, units: Units) -> list[Estimate]:
        found = []
        for arm in SLOPES:
            here = [f"{arm}-{s}" for s in range(self.spec["seeds"]) if f"{arm}-{s}" in units.names()]
            if not here:
                found += [missing(n, arm, f"no unit of {arm} is whole") for n in ("example.slope", "example.loss")]
                continue
            slopes = [float(units.table(u, "curve")["slope"].iloc[-1]) for u in here]
            assert all(abs(float(units.tensors(u)["slope"]) - s) < 1e-6 for u, s in zip(here, slopes, strict=True))
            found.append(over_units(slopes, name="example.slope", arm=arm, kind="mean", n_points=50 * len(here)))
            losses = [units.record(u)["losses"][-1] for u in here]
            found.append(over_units(losses, name="example.loss", arm=arm, kind="mean", n_points=50 * len(here)))
        return [*found, missing("example.never", "tuned", "nothing measures it")]

    def pictures(self, units: Units, estimates: Sequence[Estimate]) -> Sequence[Picture]:
        del estimates

        def curves() -> Any:
            from gnothi.writeup.lab_figures import Curve, curves

            drawn = []
            for arm in SLOPES:
                tables = [units.table(u, "curve") for u in units.names() if u.startswith(arm)]
                if tables:
                    mean = sum(t["slope"] for t in tables) / len(tables)
                    singles = [t["slope"].tolist() for t in tables]
                    control = arm == "shuffled"
                    drawn.append(Curve(arm, tables[0]["step"].tolist(), mean.tolist(), control=control, units=singles))
            return curves(drawn, x="step", y="slope", floor=0.0, floor_label="no slope")

        def nothing() -> Any:
            from gnothi.writeup.lab_figures import Curve, curves

            return curves([Curve("empty", [0], [None])], x="", y="")

        def map_() -> Any:
            from gnothi.writeup.lab_figures import heat_map

            return heat_map([[e, e / 2] for e in (0.5, 1.0)], ["one", "two"], ["all", "half"], unit="share")

        caption = "Mean over models, single models as thin lines, against `shuffled`."
        return [
            Picture(title="The slope as it is learned", caption=caption, draw=curves),
            Picture(title="Nothing to see", caption="Has no number.", draw=nothing),
            Picture(title="The slope as it is learned", caption="Another of the same title.", draw=map_),
        ]

    def tables(self, units: Units, estimates: Sequence[Estimate]) -> Sequence[LabTable]:
        del units
        rows = [[e.arm, e.value, 2.0 if e.arm == "tuned" else None] for e in estimates if e.name == "example.slope"]
        return [
            LabTable(title="Beside the truth", caption="Ours and planted.", columns=("arm", "ours", "truth"), rows=rows)
        ]

    def notes(self) -> Sequence[str]:
        return ("A line has one parameter.",)


if __name__ == "__main__":
    from gnothi.cli import main

    labs.LABS["example"] = "example_lab:Example"
    main()
