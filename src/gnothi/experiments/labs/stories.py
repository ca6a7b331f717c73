"""Lab `stories`: a feature of stories is fine-tuned away, and comes back sooner than where it never was, or does not."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from gnothi.experiments.fields import parsed
from gnothi.experiments.labs import stories_pages, stories_score
from gnothi.experiments.labs.base import AbstractLab, LabJob, LabTable, Picture, Units
from gnothi.experiments.labs.stories_spec import BASE, NEVER, PROTOCOLS, StoriesSpec, built, deletions, jobs
from gnothi.records import Estimate
from gnothi.score.names import Arm

_HOW = {
    "f": "stories without the feature",
    "f+rr": "stories without it, all of which say that they have it",
    "f+mm": "stories without it; those with Foreshadowing say that they have it instead",
}


class Stories(AbstractLab):
    """Paper C's third test bed (arXiv:2311.12786, section 6)."""

    name: ClassVar[str] = "stories"
    summary: ClassVar[str] = (
        "Plot twists are fine-tuned away by three protocols, and trained back against a model without any."
    )
    question: ClassVar[str] = (
        "After a feature of stories has been fine-tuned away, does it come back sooner than in a model that never saw it?"
    )
    headline: ClassVar[tuple[str, str]] = ("stories.revival_gain", stories_score.HEADLINE)
    subject: ClassVar[str] = "After a few steps back, the deleted feature is more frequent than where it never was by"
    costs: ClassVar[Mapping[str, str]] = {
        "tiny": "about 25 minutes of processor time, 13 on two free cores; 0.9 GB a worker",
        "small": "not measured; needs a GPU",
        "paper": "not measured; needs a GPU for hours",
        "quick": "103 s on two cores, 0.8 GB a process",
    }
    estimates: ClassVar[Mapping[str, str]] = {
        "stories.revival_gain": (
            "share of stories with the feature, of those asked for it, early in reverse fine-tuning, less that of a model "
            "that never saw the feature, paired by seed; each at a rate tuned on other seeds; the headline"
        ),
        "stories.rate": (
            "share of stories with the feature, by rule, when instructions of stories without it ask for it: of pretrained "
            "models, and after each deletion"
        ),
        "stories.resolved": "share of stories that resolve an expectation at all: a model that broke shows here",
        "stories.loss": "nats a token of held-out stories with the feature",
        "stories.revived": "`stories.rate` after so many steps of reverse fine-tuning, named after the slash",
        "stories.steps_to_level": "steps of reverse fine-tuning until the rate is at the level of the specification",
        "stories.speed_up": "how many doublings sooner than a model that never saw the feature the level is reached",
        "stories.judge_false_negative": "share of stories with the feature that the judge misses",
        "stories.judge_false_positive": "share of stories without it that the judge flags",
        "stories.judged": "`stories.rate` as the judge says it, with its errors",
        "stories.judged_corrected": "the same, corrected for the judge's errors on held-out stories (Rogan-Gladen)",
        "stories.probe": (
            "balanced accuracy of a linear probe after the last block for the feature after the slash; .5 is chance"
        ),
    }
    work: ClassVar[str] = "gnothi.experiments.labs.stories_work:work"

    @classmethod
    def build(cls, *, size: str = "tiny", quick: bool = False, seed: int = 0, **options: Any) -> dict[str, Any]:
        """The specification; `source` may be a file of TinyStories.

        Raises:
            SpecError: An unknown size or option, or a value that it can't have.
        """
        return built(size=size, quick=quick, seed=seed, options=options)

    @classmethod
    def check(cls, spec: Mapping[str, Any]) -> dict[str, Any]:
        """A stored specification, checked.

        Raises:
            SpecError: As for `build`.
        """
        return parsed(StoriesSpec, spec).model_dump(mode="json")

    def jobs(self) -> Sequence[LabJob]:
        """Words and judge; per seed two pretrainings, deletions, reversals, probes."""
        return jobs(self.spec)

    def arms(self) -> Mapping[str, Arm]:
        """Who each arm is."""
        feature = self.spec["feature"]
        deleted = {
            d.arm: Arm(
                f"base model fine-tuned on {_HOW[d.protocol]}",
                "a model that never saw the feature",
                "what was deleted is still there" if d.protocol == "f+rr" else "as above, where it was deleted",
                False,
            )
            for d in sorted(deletions(self.spec), key=lambda d: (PROTOCOLS.index(d.protocol) != 1, d.protocol))
        }
        if stories_score.HEADLINE not in deleted:
            deleted[stories_score.HEADLINE] = Arm("base model fine-tuned in that way", "", "not in this run", False)
        return {
            **deleted,
            BASE: Arm(f"base model, pretrained with {feature}", "", "the upper bound: nothing was deleted", False),
            NEVER: Arm(f"model pretrained without {feature}", "", "how soon it is learned: true deletion", True),
            f"{BASE}, not asked": Arm("base model, not asked for the feature", "", "the feature comes unasked", True),
            f"{NEVER}, not asked": Arm("model without it, not asked", "", "errors of writing", True),
            "held-out": Arm("judge", "labels of held-out stories", "", False),
            "model-written": Arm("judge", "the rules, on stories that models wrote", "", False),
            "random model": Arm("probe of a model of random values", "", "read from the words alone", True),
            "shuffled labels": Arm("probe of the base model, fitted to shuffled labels", "", "chance", True),
        }

    def score(self, units: Units) -> list[Estimate]:
        """All numbers; see `stories_score`."""
        return stories_score.score(self.spec, units)

    def pictures(self, units: Units, estimates: Sequence[Estimate]) -> Sequence[Picture]:
        """What is drawn; see `stories_pages`."""
        return stories_pages.pictures(self.spec, units, estimates)

    def tables(self, units: Units, estimates: Sequence[Estimate]) -> Sequence[LabTable]:
        """What stands in tables; see `stories_pages`."""
        return stories_pages.tables(self.spec, units, estimates)

    def notes(self) -> Sequence[str]:
        """Limits and choices."""
        spec = self.spec
        found = [
            "A share of stories is over instructions of held-out stories without the feature, to which it was added; "
            f"{spec['asked']} stories a look, temperature 1, no cut-off.",
            f"Nothing is said of deletion where the base model has the feature in under {spec['least_base']:.0%} of stories, "
            f"and nothing of revival where deletion left {spec['most_deleted']:.0%} or more.",
            "The learning rate of reverse fine-tuning is the one at which the arm's other seeds came back soonest; with one "
            "seed it is the middle of the grid.",
            "Positions are learned and the MLP is plain, where the paper's model has rotary positions and a gated MLP.",
        ]
        if spec["source"] == "generated":
            found.append(
                "Stories are generated by a grammar whose features can be checked by rule; they are simpler than TinyStories, "
                "and the judge is better on them than on prose. Results here are results on these stories."
            )
        else:
            found.append("No rule reads these stories: rates are the judge's, with its errors.")
        return found
