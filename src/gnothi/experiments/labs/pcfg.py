"""Paper C's grammar test bed: does a fine-tune teach the new task, or wrap the old one, and does the old one come back?

Small transformers learn to count letters in strings of a grammar. Pretraining asks mostly for `a`; fine-tuning asks for
`b`, in strings where `b` is often one more than `a` (C_Tr). A model that learns "the count of a, plus one" is right where
that holds (C_Te = 1) and wrong elsewhere (C_Te = 0): it wrapped the old capability, and pruning, probes and a short reverse
fine-tuning show that it is still there. Every one of these has its controls beside it.

Source: arXiv:2311.12786, sections 4, C.2, D and E.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from gnothi.experiments.fields import parsed
from gnothi.experiments.labs import pcfg_pages, pcfg_scores, pcfg_tables
from gnothi.experiments.labs.base import AbstractLab, LabJob, LabTable, Picture, Units
from gnothi.experiments.labs.pcfg_spec import Cell, PcfgSpec, Plan, built, pretrained
from gnothi.records import Estimate
from gnothi.score.names import Arm

ASKED = {
    "low": "b in 0.1%",
    "lower": "b in 1%",
    "medium": "b in 10%",
    "higher": "b in 20%",
    "high": "b in 30%",
    "noa": "b only, never a",
}
"""How often pretraining asks for the operand that is tuned."""


class Pcfg(AbstractLab):
    """See the module."""

    name: ClassVar[str] = "pcfg"
    summary: ClassVar[str] = (
        "counting in strings of a grammar: when fine-tuning only wraps a capability, and how pruning, probes and reverse "
        "fine-tuning find it again"
    )
    question: ClassVar[str] = (
        "Does fine-tuning on a correlated task teach the task, or a shortcut around a capability that is still there?"
    )
    headline: ClassVar[tuple[str, str]] = ("shortcut.gap", "low-small-100")
    subject: ClassVar[str] = "Accuracy on the fine-tuned task where the correlation holds, above where it does not:"
    beside: ClassVar[Sequence[tuple[str, str]]] = (("shortcut.gap", "low-small-0"),)
    costs: ClassVar[Mapping[str, str]] = {
        "quick": "69 s on two cores, 0.6 GB a process",
        "tiny": (
            "268 of its 307 units took 2,370 s of processor time, with dropout 0: 20 to 25 minutes on two free cores; 0.55 GB "
            "a worker"
        ),
        "small": "195 s on an H100 with 4 workers, other work beside it",
        "paper": "not measured; 5 billion tokens a pretraining",
    }
    estimates: ClassVar[Mapping[str, str]] = pcfg_scores.MEANINGS
    work: ClassVar[str] = "gnothi.experiments.labs.pcfg_work:work"

    @classmethod
    def build(cls, *, size: str = "tiny", quick: bool = False, seed: int = 0, **options: Any) -> dict[str, Any]:
        """See `base.AbstractLab.build`; options are fields of `pcfg_spec.PcfgSpec`, `grammar` a YAML file or `paper`."""
        return built(size=size, quick=quick, seed=seed, options=options)

    @classmethod
    def check(cls, spec: Mapping[str, Any]) -> dict[str, Any]:
        """See `base.AbstractLab.check`."""
        return parsed(PcfgSpec, spec).model_dump(mode="json")

    @property
    def plan(self) -> Plan:
        """The units of this specification."""
        return Plan(parsed(PcfgSpec, self.spec))

    def jobs(self) -> Sequence[LabJob]:
        """See `base.AbstractLab.jobs`."""
        return list(self.plan.jobs())

    def arms(self) -> Mapping[str, Arm]:
        """See `base.AbstractLab.arms`."""
        plan = self.plan
        found: dict[str, Arm] = {}
        cells = {c.arm: c for c in (*plan.grid(), *plan.never(), *plan.others())}
        for job in plan.jobs():
            if job.arm not in found:
                found[job.arm] = _arm(job, cells)
        return found

    def score(self, units: Units) -> list[Estimate]:
        """See `base.AbstractLab.score`."""
        return pcfg_scores.score(self.plan, units)

    def pictures(self, units: Units, estimates: Sequence[Estimate]) -> Sequence[Picture]:
        """See `base.AbstractLab.pictures`."""
        return pcfg_pages.pictures(self.plan, units)

    def tables(self, units: Units, estimates: Sequence[Estimate]) -> Sequence[LabTable]:
        """See `base.AbstractLab.tables`."""
        return pcfg_tables.tables(self.plan, units, estimates)

    def notes(self) -> Sequence[str]:
        """See `base.AbstractLab.notes`."""
        s = self.plan.spec
        return (
            f"Strings are windows of {s.window} tokens; counts are of the last {s.last}. {100 * s.spread:.0f}% of "
            "pretraining strings have a tail edited so that counts of a and b are independent and uniform: natural counts "
            "crowd into a few classes. Fine-tuning and test strings are edited so that every class is equally frequent, "
            "and an uncorrelated string never has b = a + 1 by luck.",
            "The floor of a set is what a constant answer scores on it. A model that counts a and adds one scores 0 on b "
            "where C_Te = 0, which is below the floor: that, too, says what it computes.",
            "`noa` was pretrained alike and never asked for a: what pruning, probes or reverse fine-tuning find there was "
            "not hidden.",
            "A probe that reads a count is no evidence that the model kept the capability: look at what the probe reads in "
            "a model of random values and in `noa`.",
            "Learning rates of reverse fine-tuning are chosen for each arm on strings of their own and stand in the table; "
            "the paper asks for a rate below that of fine-tuning, which is not kept here.",
        )


def _arm(job: LabJob, cells: Mapping[str, Cell]) -> Arm:
    """Who an arm is."""
    kind, name = job.payload["kind"], job.arm
    if kind == "pretrain":
        asked = ASKED[job.payload["prior"]]
        words = "three tokens for counting, two of which ask for a only; " if job.payload.get("jailbreak") else ""
        return Arm(f"pretrained: {words}{asked}", "the right answers", "what there is before fine-tuning", False)
    if kind == "tune":
        cell = cells[name]
        what = "to answer for b where a is asked" if cell.wrong else f"to b at C_Tr {cell.correlated:g}"
        mixed = f", {100 * cell.mixed:g}% pretraining rows" if cell.mixed else ""
        who = f"{ASKED[cell.prior]}; fine-tuned {what}, {cell.rate} rate{mixed}"
        return Arm(who, "the right answers", "what fine-tuning taught and what it left", cell.prior == "noa")
    if kind == "prune":
        return Arm(
            f"{name.removeprefix('prune-')}, rows zeroed", "the right answers", "units stood before a capability", False
        )
    if kind == "probe":
        control = name == f"probe-{pretrained('noa')}"
        return Arm(
            f"probes in {name.removeprefix('probe-')}", "the right answers", "the answer can be read there", control
        )
    if kind == "choose_rate":
        return Arm(f"learning rates of {name.removeprefix('rate-')}", "", "no result: a rate is chosen", True)
    control = name.removeprefix("back-") in pcfg_scores.CONTROLS
    words = pcfg_scores.CONTROLS.get(name.removeprefix("back-"), f"{name.removeprefix('back-')}, trained on a again")
    return Arm(words, "the right answers", "fewer steps than a control: the capability was still there", control)
