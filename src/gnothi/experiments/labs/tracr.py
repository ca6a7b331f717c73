"""Paper C's compiled programs: does fine-tuning delete what was compiled in, or put a thin change on top?

A transformer is compiled that counts the letter `a`, so that what computes the count is known to the last weight. It is then
fine-tuned to count `b`, on strings in which `b` is one more than `a` in a share C_Tr of cases. Where C_Tr = 1 "count a, add
one" is enough. One pruned weight, attention maps and a training back tell whether the count of `a` is still there.

Source: arXiv:2311.12786, sections 4 to 6, C.1 and G.1.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from gnothi.experiments.fields import parsed
from gnothi.experiments.labs import tracr_curves, tracr_pages, tracr_scores, tracr_tables
from gnothi.experiments.labs.base import AbstractLab, LabJob, LabTable, Picture, Units
from gnothi.experiments.labs.tracr_spec import RATES, TracrSpec, built, jobs
from gnothi.records import Estimate
from gnothi.score.names import Arm


class Tracr(AbstractLab):
    """See the module."""

    name: ClassVar[str] = "tracr"
    summary: ClassVar[str] = (
        "programs compiled into a transformer, then fine-tuned: whether one pruned weight or a short training brings the "
        "old program back"
    )
    question: ClassVar[str] = (
        "When a compiled program is fine-tuned to another task, is the old one gone, or does a change of a few weights hide it?"
    )
    headline: ClassVar[tuple[str, str]] = ("tracr.pruned_lift", "counter-small-c100")
    beside: ClassVar[Sequence[tuple[str, str]]] = (("tracr.random_lift", "counter-small-c100"),)
    subject: ClassVar[str] = "What one weight set to zero adds to the accuracy on the old task:"
    costs: ClassVar[Mapping[str, str]] = {
        "quick": "57 s on two cores, 0.5 GB a process",
        "tiny": "about an hour of processor time, 30 minutes on two free cores; 0.6 GB a worker",
        "small": "not measured",
        "paper": "not measured",
    }
    estimates: ClassVar[Mapping[str, str]] = {**tracr_scores.MEANINGS, **tracr_curves.MEANINGS}
    work: ClassVar[str] = "gnothi.experiments.labs.tracr_work:work"

    @classmethod
    def build(cls, *, size: str = "tiny", quick: bool = False, seed: int = 0, **options: Any) -> dict[str, Any]:
        """See `base.AbstractLab.build`; options are fields of `tracr_spec.TracrSpec`."""
        return built(size=size, quick=quick, seed=seed, options=options)

    @classmethod
    def check(cls, spec: Mapping[str, Any]) -> dict[str, Any]:
        """See `base.AbstractLab.check`."""
        return parsed(TracrSpec, spec).model_dump(mode="json")

    @property
    def fields(self) -> TracrSpec:
        """The specification, checked."""
        return parsed(TracrSpec, self.spec)

    def jobs(self) -> Sequence[LabJob]:
        """See `base.AbstractLab.jobs`."""
        return jobs(self.fields)

    def arms(self) -> Mapping[str, Arm]:
        """See `base.AbstractLab.arms`."""
        found: dict[str, Arm] = {}
        for job in self.jobs():
            if job.arm not in found:
                found[job.arm] = _arm(job, self.fields)
        return found

    def score(self, units: Units) -> list[Estimate]:
        """See `base.AbstractLab.score`."""
        found = tracr_scores.Found(self.fields, units)
        return [*tracr_scores.score(found), *tracr_curves.score(found)]

    def pictures(self, units: Units, estimates: Sequence[Estimate]) -> Sequence[Picture]:
        """See `base.AbstractLab.pictures`."""
        return tracr_pages.pictures(self.fields, units)

    def tables(self, units: Units, estimates: Sequence[Estimate]) -> Sequence[LabTable]:
        """See `base.AbstractLab.tables`."""
        return tracr_tables.tables(self.fields, units, estimates)

    def notes(self) -> Sequence[str]:
        """See `base.AbstractLab.notes`."""
        s = self.fields
        return (
            "Noise is added to, and training changes, the matrices of attention and MLPs only: the same that can be pruned. "
            f"Embeddings and head stay as compiled. Gradients are clipped to a norm of {s.clip:g}, which the paper does not "
            "mention: without it the larger rates diverge here.",
            f"Attention scores of the compiled program are {s.sharpness:g} nats apart, so that a letter which is not counted "
            "gets a little attention, and a gradient. With the published compiler's 100 it gets neither.",
            "An uncorrelated string never has the correlation by luck. A model that counts a and adds one is right on none of "
            "them.",
            "The weight is chosen on uncorrelated strings, and shown on others of the same kind. In `never` the program "
            "counts b alone: a weight that helps there would not be evidence of a hidden count of a.",
        )


def _arm(job: LabJob, spec: TracrSpec) -> Arm:
    """Who an arm is."""
    task, kind = spec.task(job.payload["task"]), job.payload["kind"]
    if kind == "compiled":
        return Arm(f"{task.said(task.old)}, compiled", "the right answers", "the program is exact", False)
    if kind == "never":
        return Arm(f"{task.said(task.new)}, compiled: it never had the old task", "the old answers", "no wrapper", True)
    if kind == "tuned":
        rate, share = job.payload["rate"], job.payload["correlated"]
        who = f"{task.said(task.old)}, tuned to {task.said(task.new)} at C_Tr {share:g}, rate {RATES[rate]:g}"
        return Arm(who, "the right answers", "what fine-tuning taught and what it left", False)
    if kind == "curve":
        who = f"{job.payload['of'].rpartition('.')[0]}, weights and neurons set to zero one after another"
        return Arm(
            who, "as many at random; a program without the old task", "what hides the old task can be taken out", False
        )
    rate = RATES[job.payload["rate"]]
    if "of" in job.payload:
        who = f"{job.payload['of'].rpartition('.')[0]}, trained back at rate {rate:g}"
        return Arm(who, "the right answers", "sooner than the control: it was still there", False)
    who = f"{task.said(task.new)}, compiled, trained to {task.said(task.old)} at rate {rate:g} (Scr.+FT)"
    return Arm(who, "the right answers", "what training alone teaches", True)
