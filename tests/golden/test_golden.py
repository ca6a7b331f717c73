"""What models are shown, word for word. `make golden` writes the file anew; review the difference before committing it."""

import os
from pathlib import Path

import numpy as np

from gnothi.behaviours.preferences import domain_for
from gnothi.render.wordings import wording_for
from gnothi.rng import stream

FILE = Path(__file__).parent / "prompts.txt"


def rendered() -> str:
    parts = []
    for name, variants in (
        ("organism", {}),
        ("organism", {"crossed_agents": True}),
        ("paper", {}),
        ("paper", {"crossed_agents": True}),
        ("paper", {"no_semantics": True}),
    ):
        domain = domain_for(name, **variants)
        wording = wording_for(name, crossed=variants.get("crossed_agents", False))
        context = domain.contexts(4, seed=0)[0]
        items = domain.draw_items(context, 3, rng=stream(0, "golden", name), prefix="golden")
        weights = np.linspace(-1, 1, context.n_attributes) * domain.scale[1]
        shown = items[1:] if wording.draws_options() else []
        title = f"{name} {' '.join(variants)}".strip()
        prompts = [("choice", wording.choice(items[0], context), "A or B")]
        prompts += [
            ("report", q.messages, wording.answer(q, weights)) for q in wording.questions(context, shown, k=2)[:2]
        ]
        for kind, messages, answer in prompts:
            body = "\n".join(f"<{m.role}>\n{m.content}" for m in messages)
            parts.append(f"##### {title}: {kind}\n{body}\n<answer>\n{answer}\n")
    return "\n".join(parts)


def test_golden_prompts_are_as_reviewed() -> None:
    text = rendered()
    if os.environ.get("GNOTHI_GOLDEN") == "write":
        FILE.write_text(text, encoding="utf-8")
    assert text == FILE.read_text(encoding="utf-8"), "prompts changed; `make golden` and review the difference"
