"""Pictures of the compiled-program lab's page, each the analogue of a figure of the paper."""

from collections.abc import Mapping, Sequence
from typing import Any

from gnothi.experiments.labs import tracr_curves
from gnothi.experiments.labs.base import Picture, Units
from gnothi.experiments.labs.tracr_scores import Found
from gnothi.experiments.labs.tracr_spec import RATES, TracrSpec, cell
from gnothi.intervals import over_units
from gnothi.testbeds.rasp.tasks import PairedTask


def pictures(spec: TracrSpec, units: Units) -> list[Picture]:
    """All pictures that the run has units for."""
    found = Found(spec, units)
    made = [
        _lifts(found),
        *_classes(found),
        tracr_curves.picture(found),
        *_sweep(found),
        _attended(found),
        *_maps(found),
        *_back(found),
        _noise(found),
    ]
    return [picture for picture in made if picture is not None]


def fine_tunes(found: Found, task: str) -> list[tuple[str, float, str]]:
    """Rate, C_Tr and arm of a task's fine-tunes."""
    spec = found.spec
    return [(rate, share, cell(task, rate, share)) for rate in spec.rates for share in sorted(spec.swept(task))]


def pruned_models(found: Found) -> list[tuple[str, Mapping[str, Any]]]:
    """Arm and record of every model that a weight was taken from."""
    arms = [arm for _, share, arm in fine_tunes(found, "counter") if share == 1]
    return [(arm, r) for arm in (*arms, "never") for r in found.records(arm) if r.get("pruned")]


def _lifts(found: Found) -> Picture | None:
    pruned = pruned_models(found)
    if not pruned:
        return None
    arms = list(dict.fromkeys(arm for arm, _ in pruned))

    def draw() -> Any:
        from gnothi.writeup.lab_figures import Curve, curves

        series = []
        for label, key, control in (
            ("chosen weight", "lift", False),
            ("best of many random weights", "random_lift", True),
        ):
            columns = [[100 * r["pruned"][key] for arm, r in pruned if arm == one] for one in arms]
            found_ = [over_units(c, name="lift", arm="", kind="mean", n_points=1) for c in columns]
            most = max(map(len, columns))
            models = [[c[i] if i < len(c) else None for c in columns] for i in range(most)]
            value = [e.value for e in found_]
            low, high = [e.low for e in found_], [e.high for e in found_]
            banded = any(v is not None for v in low)
            place = list(range(len(arms)))
            series.append(
                Curve(
                    label,
                    place,
                    value,
                    low if banded else None,
                    high if banded else None,
                    control=control,
                    units=models,
                )
            )
        names = [short(arm) for arm in arms]
        return curves(
            series, x="fine-tune at C_Tr = 1", y="gain on the old task, points", ticks=names, joined=False,
            floor=60.0, floor_label="the paper's 60",
        )  # fmt: skip

    return Picture(
        title="One weight set to zero",
        caption=(
            f"Gain in accuracy on the old task (C_Te = 0, {found.spec.test} fresh strings a model). The weight is the best of "
            f"{found.spec.candidates} by theta x gradient, chosen on {found.spec.choose} other strings; grey: the best of "
            f"{found.spec.random} random weights, chosen on the same. `never` counts b alone and never had the old task. Dots: "
            "models; bars: 95% t interval over models."
        ),
        draw=draw,
    )


def short(arm: str) -> str:
    """A fine-tune by its rate."""
    parts = arm.split("-")
    return f"rate {RATES[parts[1]]:g}" if parts[1:] and parts[1] in RATES else arm


def _classes(found: Found) -> list[Picture]:
    """Class histograms before and after the best removal, one model a rate."""
    made = []
    for arm in dict.fromkeys(arm for arm, _ in pruned_models(found)):
        first = next(r["pruned"] for one, r in pruned_models(found) if one == arm)
        used = 1 + max(i for key in ("before", "after", "right") for i, n in enumerate(first[f"{key}_classes"]) if n)
        counts = {
            "right": first["right_classes"][:used],
            "before": first["before_classes"][:used],
            "weight removed": first["after_classes"][:used],
        }

        def draw(counts: dict[str, list[int]] = counts, used: int = used) -> Any:
            from gnothi.writeup.lab_figures import histogram

            return histogram(counts, range(used), x="answer", y="strings")

        if arm != "never":
            made.append(
                Picture(
                    title=f"Answers before and after, {short(arm)}",
                    caption=(
                        f"What one model answers on {found.spec.test} uncorrelated strings. Removed: "
                        f"{first['best']['unit']} ({first['says']}), which was {first['value']:.3g}. A model that had "
                        "fallen on one answer would show one bar."
                    ),
                    draw=draw,
                )
            )
    return made


def _sweep(found: Found) -> list[Picture]:
    """Accuracy over C_Tr by rate."""
    made = []
    for task in found.spec.tasks():
        rows = fine_tunes(found, task)
        if not any(found.records(arm) for _, _, arm in rows):
            continue

        def draw(task: str = task, rows: Sequence[tuple[str, float, str]] = rows) -> Any:
            from gnothi.writeup.lab_figures import grid_of_curves

            panels = []
            for shown, title in (
                ("new/100", "new task, C_Te = 1"), ("new/0", "new task, C_Te = 0"),
                ("old/100", "old task, C_Te = 1"), ("old/0", "old task, C_Te = 0"),
            ):  # fmt: skip
                series = [_over_shares(found, rate, shown, rows) for rate in found.spec.rates]
                panels.append((title, [c for c in series if c is not None]))
            return grid_of_curves(panels, columns=2, x="C_Tr", y="accuracy, %", y_range=(0, 100))

        made.append(
            Picture(
                title=f"{'Counter' if task == 'counter' else 'Max-identifier'}: what fine-tuning taught",
                caption=(
                    f"Accuracy after fine-tuning, mean over models, {found.spec.test} strings a model; the models at C_Tr = 1 "
                    f"are {found.spec.seeds} a rate, elsewhere {min(found.spec.seeds, found.spec.grid_seeds)}. A model that "
                    "computes the old answer and shifts it scores 100 on the new task at C_Te = 1 and 0 at C_Te = 0."
                ),
                draw=draw,
            )
        )
    return made


def _over_shares(found: Found, rate: str, shown: str, rows: Sequence[tuple[str, float, str]]) -> Any:
    from gnothi.writeup.lab_figures import Curve

    xs, means = [], []
    for one, share, arm in rows:
        values = [100 * r["final"][shown] for r in found.records(arm) if r["final"]]
        if one == rate and found.records(arm):
            xs.append(share)
            means.append(sum(values) / len(values) if values else None)
    return Curve(f"rate {RATES[rate]:g}", xs, means) if xs else None


def _attended(found: Found) -> Picture | None:
    rows = [row for row in fine_tunes(found, "counter") if any("attention" in r for r in found.records(row[2]))]
    if not rows:
        return None

    def draw() -> Any:
        from gnothi.writeup.lab_figures import heat_maps

        task = found.spec.task("counter")
        panels = []
        for token, title in (("old", task.vocabulary[task.old]), ("new", task.vocabulary[task.new])):
            shares = sorted({share for _, share, _ in rows})
            values = [
                [_mean_attention(found, rate, share, token, rows) for share in shares] for rate in found.spec.rates
            ]
            panels.append((f"share on `{title}`", values))
        names = [f"rate {RATES[rate]:g}" for rate in found.spec.rates]
        return heat_maps(panels, names, [f"{s:g}" for s in sorted({share for _, share, _ in rows})], x="C_Tr", low=0.0)

    compiled = found.records("counter-compiled")
    before = compiled[0]["attention"] if compiled else {}
    words = ", ".join(f"{name} {value:.2f}" for name, value in before.items())
    return Picture(
        title="What the counting head looks at",
        caption=(
            f"Share of the answering position's attention in block 1, mean over 200 strings and models. Compiled: {words}. "
            "A model that learned the new task looks at its letter; one that wrapped the old task goes on looking at the old "
            "letter."
        ),
        draw=draw,
    )


def _mean_attention(
    found: Found, rate: str, share: float, token: str, rows: Sequence[tuple[str, float, str]]
) -> float | None:
    arm = next((a for r, s, a in rows if (r, s) == (rate, share)), "")
    values = [r["attention"][token] for r in found.records(arm) if "attention" in r] if arm else []
    return sum(values) / len(values) if values else None


def _maps(found: Found) -> list[Picture]:
    """Attention and first-MLP activations on one string: compiled, and tuned at both ends of C_Tr."""
    made = []
    for name in found.spec.tasks():
        task = found.spec.task(name)
        arms = [f"{name}-compiled"] + [arm for _, share, arm in fine_tunes(found, name) if share in (0.0, 1.0)]
        units = [(arm, unit) for arm in arms for unit in found.names(arm)[:1]]
        kept = [(arm, found.units.tensors(unit)) for arm, unit in units]
        kept = [(arm, tensors) for arm, tensors in kept if "attention" in tensors]
        if kept:
            made += [_attention_picture(task, kept), _activation_picture(task, kept)]
    return made


def _tokens(task: PairedTask, tensors: Mapping[str, Any]) -> list[str]:
    names = (*task.vocabulary, "$", "_")
    return [names[i] for i in tensors["example"].tolist()]


def arm_words(arm: str) -> str:
    """A fine-tune by rate and C_Tr."""
    parts = arm.split("-")
    return "compiled" if len(parts) < 3 else f"rate {RATES[parts[1]]:g}, C_Tr {int(parts[2][1:]) / 100:g}"


def _attention_picture(task: PairedTask, kept: Sequence[tuple[str, Mapping[str, Any]]]) -> Picture:
    block = 1 if task.name == "counter" else 0

    def draw() -> Any:
        from gnothi.writeup.lab_figures import attention_grid

        panels = [(arm_words(arm), t["attention"][block].numpy(), _tokens(task, t)) for arm, t in kept]
        queries = [task.answer_row] if task.name == "counter" else None
        return attention_grid(panels, queries=queries)

    what = "the answering position in block 1, which counts" if block else "block 0, which ranks the letters"
    return Picture(
        title=f"{'Counter' if task.name == 'counter' else 'Max-identifier'}: attention on one string",
        caption=f"Attention of {what}, one model each; `$` is the beginning, `_` padding.",
        draw=draw,
    )


def _activation_picture(task: PairedTask, kept: Sequence[tuple[str, Mapping[str, Any]]]) -> Picture:
    def draw() -> Any:
        from gnothi.writeup.lab_figures import heat_maps

        columns = _tokens(task, kept[0][1])
        n = max(
            1, *(int(t["activations"].abs().amax(0).nonzero().max()) + 1 for _, t in kept if t["activations"].any())
        )
        most = min(n, 12)
        panels = [(arm_words(arm), t["activations"][:, :most].T.numpy()) for arm, t in kept]
        return heat_maps(panels, range(most), columns, y="neuron", numbers=False, abreast=3)

    return Picture(
        title=f"{'Counter' if task.name == 'counter' else 'Max-identifier'}: first MLP on one string",
        caption="Activations of the first block's neurons (the first twelve in use), position by position, one model each.",
        draw=draw,
    )


def _back(found: Found) -> list[Picture]:
    if not any(found.records(arm) for arm in found.arms("back")):
        return []

    def draw() -> Any:
        from gnothi.writeup.lab_figures import Curve, grid_of_curves

        panels = []
        for rate in found.spec.back_rates:
            series = []
            for arm in (a for a in found.arms("back") if a.endswith(f"-back-{rate}")):
                tables = [
                    found.units.table(u, "curve") for u in found.names(arm) if found.units.record(u)["ended"] != "broke"
                ]
                if not tables:
                    continue
                steps = tables[0]["step"].tolist()
                columns = [[t["old/0"].tolist()[i] for t in tables if i < len(t)] for i in range(len(steps))]
                points = [over_units(c, name="x", arm="", kind="mean", n_points=1) for c in columns]
                label = "never had it (Scr.+FT)" if arm.startswith("never") else arm_words(arm.partition("-back-")[0])
                series.append(
                    Curve(label, steps, [None if p.value is None else 100 * p.value for p in points],
                          control=arm.startswith("never"))
                )  # fmt: skip
            panels.append((f"back at rate {RATES[rate]:g}", series))
        return grid_of_curves(panels, columns=2, x="steps", y="old task (C_Te = 0), %", y_range=(0, 100))

    return [
        Picture(
            title="Trained back",
            caption=(
                "Accuracy on the old task while it is trained again, on strings as they come; mean over models, 200 strings a "
                "look. Grey: the program that counts b alone, trained to count a at the same rate."
            ),
            draw=draw,
        )
    ]


def _noise(found: Found) -> Picture | None:
    arms = [arm for arm in found.arms("compiled") if found.names(arm)]
    if not arms:
        return None

    def draw() -> Any:
        from gnothi.writeup.lab_figures import Curve, grid_of_curves

        panels = []
        for arm in arms:
            table = found.units.table(found.names(arm)[0], "noise")
            table = table[table["level"] > 0]
            series = []
            for part in ("all", "attn", "mlp.up", "mlp.down"):
                mean = table[table["part"] == part].groupby("level")["accuracy"].mean().sort_index()
                if len(mean):
                    label = "all that is trained" if part == "all" else part
                    series.append(Curve(label, mean.index.tolist(), (100 * mean).tolist(), control=part != "all"))
            panels.append((arm_words(arm) + f" {arm.partition('-')[0]}", series))
        return grid_of_curves(
            panels, columns=2, x="noise, s.d.", y="accuracy, %", log_x=True, y_range=(0, 100), floor=100 * found.spec.kept,
            floor_label="kept",
        )  # fmt: skip

    levels = [f"{arm.partition('-')[0]}: {found.records(arm)[0]['noise']:g}" for arm in arms]
    return Picture(
        title="How much noise the compiled programs bear",
        caption=(
            f"Accuracy (C_Te = 0, {found.spec.test} strings) with Gaussian noise on what is trained, mean over seeds; grey: on one "
            f"kind of matrix only, one seed. Used: {', '.join(levels)}."
        ),
        draw=draw,
    )
