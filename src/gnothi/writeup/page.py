"""The page of a run: one HTML file that opens from disk, loads nothing and runs nothing."""

import base64
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from gnothi.records import NOT_INSTILLED, NOT_INTERPRETED
from gnothi.score.names import meaning
from gnothi.writeup import damage_section, figures, lab_section
from gnothi.writeup.sentences import answer, arms_not_run, cautions, words
from gnothi.writeup.text import (
    LIMIT,
    code_words,
    count,
    flat,
    interval,
    number,
    plain,
    value_and_interval,
    visible,
)
from gnothi.writeup.view import RunView, in_order

MOST_EXAMPLES = 24
"""Raw prompts and answers on a page; the run folder holds all of them."""
MOST_ROWS, MOST_COLUMNS, MOST_CELL = 200, 16, 300
"""Rows and columns of a table on a page, and characters of a cell."""
STUDY_FIGURES = ("recognition", "personas", "scores", "faithfulness")
"""Figures that have a section of their own after that of all arms, in order."""
UNIT_KEYS = (
    "seed",
    "fold",
    "parents",
    "gate",
    "choice_agreement",
    "a_rate",
    "adapter_digest",
    "steps",
    "tokens",
    "seconds",
)
"""What a unit may leave out."""


def render_page(view: RunView) -> str:
    """Return the whole page as HTML text.

    Everything that came from a model, a specification or a file is escaped; control characters and direction marks are
    shown as escapes. The same view gives the same bytes.

    Args:
        view: The run.

    Returns:
        One self-contained document: figures are data URIs, there are no scripts and no references to anything else.
    """
    units = [dict.fromkeys(UNIT_KEYS) | dict(u) for u in view.units]
    template = _environment().get_template("page.html.jinja")
    return template.render(
        view=view,
        answer=answer(view),
        cautions=cautions(view),
        words=words(view),
        arms=_arms(view),
        not_run=arms_not_run(view),
        estimates=_grouped(view),
        figures={name: _picture(view, name) for name in figures.names(view)},
        tables=[_table(t) for t in view.tables],
        extra=[_extra(f) for f in view.figures_extra],
        examples=[_example(e) for e in view.examples[:MOST_EXAMPLES]],
        model={"name": None, "notes": ()} | dict(view.model),
        units=units,
        failed=[u for u in units if u["gate"] == NOT_INSTILLED],
        damage=damage_section.section(view),
        lab=None if view.lab is None else lab_section.section(view),
        methods=_methods(view) if view.lab is None else lab_section.methods(view),
        spec=flat(dict(view.spec)),
        css=Markup((files("gnothi.writeup") / "templates" / "page.css").read_text(encoding="utf-8")),
    )


@cache
def _environment() -> Environment:
    folder = files("gnothi.writeup") / "templates"
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        loader=FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
    )
    environment.filters |= {
        "visible": visible,
        "plain": plain,
        "code_words": code_words,
        "number": lambda x: "none" if x is None else number(x),
        "value_and_interval": value_and_interval,
        "count": count,
        "short": lambda text, n=12: visible(text, n) if len(str(text)) <= n else visible(str(text)[:n]) + "…",
    }
    environment.globals |= {
        "interval": interval,
        "limit": LIMIT,
        "cell_limit": MOST_CELL,
        "study_figures": STUDY_FIGURES,
        "shut": NOT_INTERPRETED,
    }
    return environment


def _data_uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode("utf-8", "replace")).decode("ascii")


def _picture(view: RunView, name: str) -> dict[str, Any]:
    width, height = (round(96 * inches) for inches in figures.size(view, name))
    return {
        "src": _data_uri(figures.svg(view, name)),
        "alt": figures.alt_text(view, name),
        "width": width,
        "height": height,
        "title": figures.FIGURES[name].title,
        "caption": figures.caption(view, name),
    }


def _extra(figure: Mapping[str, Any]) -> dict[str, Any]:
    # As an image, an SVG can neither run scripts nor load anything, whoever drew it.
    size = figure["figure"].get_size_inches() if "figure" in figure else None
    width, height = (None, None) if size is None else (round(96 * float(inches)) for inches in size)
    src = _data_uri(figure["svg"])
    return {"title": figure["title"], "caption": figure["caption"], "src": src, "width": width, "height": height}


def _table(table: Mapping[str, Any]) -> dict[str, Any]:
    """A table as text, cut to what a page can hold, with whether each column holds numbers only."""
    columns = [str(c) for c in table["columns"]][:MOST_COLUMNS]
    rows = [list(row)[: len(columns)] for row in table["rows"][:MOST_ROWS]]
    numeric = [
        any(row[i] is not None for row in rows) and all(isinstance(row[i], int | float | None) for row in rows)
        for i in range(len(columns))
    ]
    cut = [
        f"{shown} of {there:,} {what}"
        for shown, there, what in (
            (len(rows), len(table["rows"]), "rows"),
            (len(columns), len(table["columns"]), "columns"),
        )
        if shown < there
    ]
    return {
        "title": table["title"],
        "caption": table["caption"],
        "cut": " and ".join(cut),
        "columns": list(zip(columns, numeric, strict=True)),
        "rows": [[_cell(c) for c in row] for row in rows],
    }


def _cell(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float | None):
        return str(value)
    return number(value) if value is None or isinstance(value, float) else f"{value:,}"


def _arms(view: RunView) -> list[dict[str, Any]]:
    """Rows of the table of arms: the estimate, who reports, and what a value away from 0 would mean."""
    return [
        {
            "estimate": e,
            "against": view.against(e),
            "reporter": view.arms[e.arm].reporter if e.arm in view.arms else "",
            "meaning": view.arms[e.arm].meaning if e.arm in view.arms else "",
            "control": view.is_control(e.arm),
        }
        for e in view.headlined()
    ]


def _grouped(view: RunView) -> list[dict[str, Any]]:
    """Every estimate, under its name and what that means."""
    ordered = in_order(view.estimates, view.arms)
    return [
        {"name": name, "meaning": meaning(name, study=view.is_study), "rows": [e for e in ordered if e.name == name]}
        for name in dict.fromkeys(e.name for e in ordered)
    ]


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _example(example: Mapping[str, Any]) -> dict[str, Any]:
    messages = [
        {"role": m["role"], "content": str(m["content"])}
        if isinstance(m, Mapping)
        else {"role": m.role, "content": m.content}
        for m in example.get("messages") or ()
    ]
    value, reason = example.get("value"), example.get("reason")
    outcome = f"no value: {reason}" if value is None or reason else f"read as {_short(value)}"
    return {**example, "messages": messages, "outcome": outcome}


def _methods(view: RunView) -> list[str]:
    """The methods paragraph as sentences, from what the view holds and nothing else."""
    said = []
    trained = [u for u in view.units if u.get("steps") or u.get("losses")]
    seeds = [plain(s, 20) for s in view.seeds()]
    model = view.model.get("name", "a model that the run does not name")
    dtype = f" ({view.model['dtype']})" if view.model.get("dtype") else ""
    said.append(f"Experiment {view.experiment} on {model}{dtype}.")
    by_arm = {a: sum(u["arm"] == a for u in trained) for a in dict.fromkeys(u["arm"] for u in trained)}
    if by_arm:
        parts = ", ".join(f"{n} {arm}" for arm, n in by_arm.items())
        said.append(f"{count(len(trained), 'model was', 'models were')} fine-tuned: {parts}.")
    own_table = "; each seed draws its own weight table" if view.experiment == "preferences" else ""
    said.append(
        f"Training {'seed' if len(seeds) == 1 else 'seeds'} {', '.join(seeds)}{own_table}."
        if seeds
        else "No training seed is recorded."
    )
    recipe = flat(dict(view.spec["recipe"])) if isinstance(view.spec.get("recipe"), Mapping) else []
    if recipe:
        said.append("Recipe: " + ", ".join(f"{k} {v}" for k, v in recipe) + ".")
    elif view.spec.get("recipe"):
        said.append(f"Recipe: {view.spec['recipe']}.")
    tokens = [u["tokens"] for u in trained if u.get("tokens") is not None]
    seconds = [u["seconds"] for u in trained if u.get("seconds") is not None]
    if tokens:
        low, high = min(tokens), max(tokens)
        spread = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        said.append(f"Each fine-tune saw {spread} tokens, {sum(tokens):,} in all.")
    if seconds:
        said.append(f"Fine-tuning took {sum(seconds):,.0f} seconds in all.")
    headline = view.find(*view.headline)
    methods = list(dict.fromkeys(e.method for e in view.named(view.headline[0]) if e.method))
    if headline is not None and headline.method in methods:
        methods = [headline.method, *(m for m in methods if m != headline.method)]
    said.append(
        f"The fine-tuned model is the unit of replication: n counts fine-tuned models, {words(view).points}. "
        + (f"How each interval was made: {'; '.join(methods)}." if methods else "No interval was made.")
    )
    if view.gate_threshold is not None:
        said.append(f"A model counts as instilled {words(view).gate.format(view.gate_threshold)}.")
    said.append("Missing numbers stay missing: they are counted and never filled in.")
    return said
