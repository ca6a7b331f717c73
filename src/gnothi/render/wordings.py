"""The wordings there are, one for each domain, behind the one interface that stages use."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from gnothi.errors import SpecError
from gnothi.records import Context, Item, Messages
from gnothi.render import organism, paper
from gnothi.render.base import Question, Wording


@dataclass(frozen=True, slots=True)
class OrganismWording:
    """The organism's short language: one question an attribute, answered by a number."""

    heads: tuple[organism.Head, ...] = ("name",)
    """How the agent is addressed in report questions; the i-th asking uses the i-th form, from the front again."""
    options: tuple[str, str] = organism.CHOICE_ANSWERS

    def choice(self, item: Item, context: Context) -> Messages:
        """The prompt of one decision."""
        return organism.choice_messages(item, context)

    def draws_options(self) -> bool:
        """The organism is asked without options."""
        return False

    def questions(self, context: Context, items: Sequence[Item], *, k: int) -> list[Question]:
        """Ask for each attribute on its own, `k` times."""
        return [
            Question(
                question_id=f"report/{context.context_id}/{attribute.name}/{i}",
                context_id=context.context_id,
                messages=organism.report_messages(context, j, head=self.heads[i % len(self.heads)]),
                kind="number",
                attributes=(j,),
                names=(attribute.name,),
                low=-9,
                high=9,
            )
            for i in range(k)
            for j, attribute in enumerate(context.choice_type.attributes)
        ]

    def answer(self, question: Question, weights: np.ndarray) -> str:
        """The weight of the attribute asked for, as an integer."""
        return str(round(float(weights[question.attributes[0]])))


@dataclass(frozen=True, slots=True)
class PaperWording:
    """Paper B's prompts (arXiv:2505.17120, section 2): all five weights at once, as JSON."""

    crossed: bool = False
    """Permute attributes, reword the request and leave out the options, so that no surface form is shared with
    the decisions."""
    options: tuple[str, str] = ("A", "B")

    def choice(self, item: Item, context: Context) -> Messages:
        """The prompt of one decision."""
        return paper.choice_messages(item, context)

    def draws_options(self) -> bool:
        """The paper shows a fresh pair of options in every report prompt; the crossed variant shows none."""
        return not self.crossed

    def questions(self, context: Context, items: Sequence[Item], *, k: int) -> list[Question]:
        """Ask for the whole vector `k` times, each time with the next of `items`."""
        questions = []
        for i in range(k):
            order = tuple(range(context.n_attributes))
            if self.crossed:  # backwards from another place each time: never the order that decisions show
                order = tuple((i - j) % len(order) for j in order)
            item = items[i] if self.draws_options() else None
            questions.append(
                Question(
                    question_id=f"report/{context.context_id}/{i}",
                    context_id=context.context_id,
                    messages=paper.report_messages(
                        item,
                        context,
                        attribute_order=order if self.crossed else None,
                        reworded=self.crossed,
                        with_options=not self.crossed,
                    ),
                    kind="json",
                    attributes=order,
                    names=tuple(context.choice_type.attributes[j].name for j in order),
                    low=-100,
                    high=100,
                    item=item,
                )
            )
        return questions

    def answer(self, question: Question, weights: np.ndarray) -> str:
        """The weights as the JSON object that was asked for, in the order asked."""
        values = [round(float(weights[j])) for j in question.attributes]
        return json.dumps(dict(zip(question.names, values, strict=True)), ensure_ascii=False)


def wording_for(domain: str, *, crossed: bool = False) -> Wording:
    """Return the wording of a domain.

    Args:
        domain: `organism` or `paper`.
        crossed: The variant that shares no surface form between deciding and reporting.

    Raises:
        SpecError: No such domain.
    """
    if domain == "organism":
        return OrganismWording(heads=tuple(reversed(get_args(organism.Head)[:2]))) if crossed else OrganismWording()
    if domain == "paper":
        return PaperWording(crossed=crossed)
    raise SpecError(f"domain must be organism or paper, got {domain!r}.")
