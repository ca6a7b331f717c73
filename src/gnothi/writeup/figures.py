"""Every figure by its name: what it shows, the numbers in it, how it is drawn and saved.

`figure(view, name)` is a pure function of the view; nothing is drawn for which the run holds no data.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from matplotlib.figure import Figure

from gnothi.errors import DataError
from gnothi.writeup import agreement_figures, damage_section, effects_figure, study_figures, style, training_figures
from gnothi.writeup.sentences import answer, words
from gnothi.writeup.text import plain, value_and_interval
from gnothi.writeup.view import HEADLINE, RunView, Table


@dataclass(frozen=True, slots=True)
class Plot:
    """One kind of figure."""

    title: str
    data: Callable[[RunView], Table]
    """View to the numbers drawn; empty where there is nothing to draw."""
    draw: Callable[[RunView, Table], Figure]
    caption: str | Callable[[RunView], str]
    alt: Callable[[RunView, Table], str]
    """What a reader who cannot see it needs to know."""


def _alt_arms(name: str) -> Callable[[RunView, Table], str]:
    def alt(view: RunView, data: Table) -> str:
        said = [f"{e.arm} {value_and_interval(e)}" for e in view.named(name) if e.arm in set(data["arm"])]
        return "; ".join(said) or f"{len(data):,} points of {', '.join(view.in_order(data['arm']))}"

    return alt


def _alt_effects(view: RunView, data: Table) -> str:
    return "Interval plot of all arms. " + answer(view)


def _alt_rows(view: RunView, data: Table) -> str:
    del view
    said = data[data["unit"].isna()]
    return "; ".join(f"{plain(r.row, 60)}, {plain(r.series, 40)} {r.value:.2f}" for r in said.itertuples())


def _alt_recognition(view: RunView, data: Table) -> str:
    own = data[data["asked"] == data["trained"]]["value"]
    other = data[data["asked"] != data["trained"]]["value"]
    means = [f"{what} {v.mean():.2f} on average" for what, v in (("own trigger", own), ("others", other)) if len(v)]
    return f"{data['trained'].nunique()} triggers. " + "; ".join(means)


def _alt_faithfulness(view: RunView, data: Table) -> str:
    means = data.groupby("arm", sort=False)[["says", "does"]].mean()
    return f"{len(data)} models, means: " + "; ".join(
        f"{plain(r.Index, 40)} says {r.says:.2f}, does {r.does:.2f}" for r in means.itertuples()
    )


def _alt_training(view: RunView, data: Table) -> str:
    means = data.groupby("arm", sort=False)[["before", "after"]].mean()
    return "Before and after report training, mean r over units: " + "; ".join(
        f"{row.Index} {row.before:.2f} to {row.after:.2f}" for row in means.itertuples()
    )


def _alt_check(view: RunView, data: Table) -> str:
    means = data.groupby("arm", sort=False)["choice_agreement"].agg(["min", "max"])
    return f"{words(view).agreement.capitalize()}: " + "; ".join(
        f"{r.Index} {r.min:.2f} to {r.max:.2f}" for r in means.itertuples()
    )


def _alt_validity(view: RunView, data: Table) -> str:
    valid = data[data["outcome"] == "valid"].groupby("arm", sort=False)[["count", "asked"]].sum()
    return "Valid self-reports: " + "; ".join(
        f"{i} {int(r['count'])} of {int(r['asked'])}" for i, r in valid.iterrows()
    )


def _alt_losses(view: RunView, data: Table) -> str:
    ends = data.groupby(["arm", "unit"], sort=False)["loss"].agg(["first", "last"]).groupby(level=0, sort=False).mean()
    return "Training loss, first to last, mean over units: " + "; ".join(
        f"{r.Index} {r.first:.2f} to {r.last:.2f}" for r in ends.itertuples()
    )


FIGURES: dict[str, Plot] = {
    "effects": Plot(
        "All arms",
        effects_figure.effects_data,
        effects_figure.effects,
        lambda view: (
            "Filled marks are estimates with their intervals, rings below them single fine-tuned models, crosses models that "
            f"are not instilled. {'C' if view.lab else 'Null c'}ontrols stand on the grey band. A mark that is not filled has "
            "no interval or did not pass the gate."
        ),
        _alt_effects,
    ),
    "scores": Plot(
        "What models do and say, question by question",
        study_figures.scores_data,
        study_figures.scores,
        "Marks are means over fine-tuned models with their intervals, small dots single models. A mark that is not filled "
        "has no interval. Where options stand in both orders, a model that always says the same scores one half, the "
        "dotted line.",
        _alt_rows,
    ),
    "recognition": Plot(
        "Which trigger models know",
        study_figures.recognition_data,
        study_figures.recognition,
        "Each column is the models trained on one trigger, each row the trigger that they are asked about; frames mark "
        "their own. A row that is bright all along is a trigger that every model favours, so what counts is a cell "
        "against the others of its row.",
        _alt_recognition,
    ),
    "personas": Plot(
        "What moved for whom",
        study_figures.personas_data,
        study_figures.personas,
        "Marks are means over fine-tuned models with their intervals, small dots single models. Where personas move as "
        "much as the model itself, what was learned is a concept and not knowledge of oneself.",
        _alt_rows,
    ),
    "faithfulness": Plot(
        "Doing against saying",
        study_figures.faithfulness_data,
        study_figures.faithfulness,
        "One mark a model. Arms far apart make a high correlation over all models; what tells is r within an arm.",
        _alt_faithfulness,
    ),
    "scatter": Plot(
        "Reported against learned weights",
        agreement_figures.scatter_data,
        agreement_figures.scatter,
        "One point for an (agent, attribute) pair of a fine-tuned model; n counts models. Thin bars, where there are few "
        "points, are intervals of the learned weight. The black line is least squares over the instilled models.",
        _alt_arms(HEADLINE),
    ),
    "check": Plot(
        "Manipulation check",
        training_figures.check_data,
        training_figures.check,
        lambda view: words(view).check,
        _alt_check,
    ),
    "damage": Plot(
        "What else the fine-tune changed",
        damage_section.damage_data,
        damage_section.damage,
        "One mark a fine-tuned model. The grey line is the base model; a mark on it lost nothing of that kind. A dashed line "
        "that would lie far off is left out.",
        damage_section.alt,
    ),
    "target": Plot(
        "Learned against target weights",
        agreement_figures.target_data,
        agreement_figures.target,
        "How well the behaviour took. One point for an (agent, attribute) pair; n counts models.",
        _alt_arms("agreement.learned_vs_target"),
    ),
    "validity": Plot(
        "Valid self-reports",
        training_figures.validity_data,
        training_figures.validity,
        lambda view: words(view).validity,
        _alt_validity,
    ),
    "report_training": Plot(
        "Report training",
        agreement_figures.training_data,
        agreement_figures.training,
        "One line a fine-tuned model: r of reported with learned weights before and after training on self-reports, both "
        "on the agents held out from that training (averaged over folds by Fisher z). Permuted and random labels show how "
        "much of a gain is format, sign and scale.",
        _alt_training,
    ),
    "losses": Plot(
        "Learning curves",
        training_figures.losses_data,
        training_figures.losses,
        f"One line a fine-tuned model. Curves of more than {training_figures.MOST_STEPS} values are averaged in blocks.",
        _alt_losses,
    ),
}
"""The figures in the order of the page."""


def names(view: RunView) -> list[str]:
    """Names of the figures that this run holds data for, in the order of the page."""
    return [name for name, plot in FIGURES.items() if len(plot.data(view))]


def figure(view: RunView, name: str) -> Figure:
    """Draw one figure; inside matplotlib nothing global changes.

    Args:
        view: The run.
        name: One of `names(view)`, or a lab's picture by the name of its file.

    Raises:
        DataError: An unknown name, or one that the run holds no data for.
    """
    if name in (own := _extras(view)):
        return own[name]
    data = _data(view, name)
    with style.styled():
        return FIGURES[name].draw(view, data)


@lru_cache(maxsize=16)
def _drawn(view: RunView, name: str) -> Figure:
    return figure(view, name)


@lru_cache(maxsize=16)
def svg(view: RunView, name: str) -> str:
    """A figure as SVG text; drawn once for the files and the page, since drawing is most of what a page costs."""
    return style.to_svg(_drawn(view, name))


def size(view: RunView, name: str) -> tuple[float, float]:
    """Width and height of a figure, in inches."""
    width, height = _drawn(view, name).get_size_inches()
    return float(width), float(height)


def alt_text(view: RunView, name: str) -> str:
    """The figure in words, numbers included.

    Raises:
        DataError: As `figure`.
    """
    return f"{FIGURES[name].title}. {FIGURES[name].alt(view, _data(view, name))}"


def caption(view: RunView, name: str) -> str:
    """What stands below a figure."""
    said = FIGURES[name].caption
    return said if isinstance(said, str) else said(view)


def _extras(view: RunView) -> dict[str, Figure]:
    """Figures of later sections that can be saved, by the names of their files."""
    return {f["name"]: f["figure"] for f in view.figures_extra if "figure" in f}


def _data(view: RunView, name: str) -> Table:
    if name not in FIGURES:
        raise DataError(f"figure must be one of {', '.join([*FIGURES, *_extras(view)])}, got {name!r}.")
    data = FIGURES[name].data(view)
    if not len(data):
        raise DataError(f"figure {name!r} must have data to draw, got none in this run. It holds {names(view)}.")
    return data


def save_figures(view: RunView, folder: Path) -> list[Path]:
    """Write every figure as SVG and PNG, and the numbers in it as CSV.

    Args:
        view: The run.
        folder: Where to; made if missing. Files of the same name are replaced.

    Returns:
        The files, in order of writing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in names(view):
        for path, content in (
            (folder / f"{name}.svg", svg(view, name).encode()),
            (folder / f"{name}.png", style.to_png(_drawn(view, name))),
            (folder / f"{name}.csv", _csv(_data(view, name))),
        ):
            path.write_bytes(content)
            written.append(path)
    for extra in view.figures_extra:
        if "figure" in extra:
            for path, content in (
                (folder / f"{extra['name']}.svg", extra["svg"].encode()),
                (folder / f"{extra['name']}.png", style.to_png(extra["figure"])),
            ):
                path.write_bytes(content)
                written.append(path)
    return written


def _csv(data: Table) -> bytes:
    """Numbers in full precision; names, which may come from anybody's file, with control characters as escapes."""
    told = data.map(lambda cell: plain(cell, 2000) if isinstance(cell, str) else cell)
    return told.to_csv(index=False, lineterminator="\n").encode("utf-8", "replace")
