"""Makes the units of the PCFG lab; torch is here."""

from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache, partial
from typing import Any

import pandas as pd
import torch

from gnothi.experiments.fields import parsed
from gnothi.experiments.labs.base import Bench, LabJob, UnitData
from gnothi.experiments.labs.pcfg_spec import LONGER, PcfgSpec
from gnothi.files import canonical, digest
from gnothi.mechanisms.answers import Answers
from gnothi.mechanisms.curves import choose_rate, steps_to
from gnothi.mechanisms.probing import activations, probe
from gnothi.mechanisms.pruning import PruneTask, prune
from gnothi.mechanisms.reversal import Course, Curve, Schedule, train_back
from gnothi.mechanisms.sites import Site
from gnothi.testbeds.pcfg.data import A, B, Rows, World
from gnothi.testbeds.pcfg.grammar import make_grammar
from gnothi.testbeds.pcfg.tasks import PRIORS, Tasks
from gnothi.testbeds.pcfg.training import (
    Recipe,
    accuracy,
    answer_loss,
    batches,
    new_model,
    predictions,
    pretrain,
)
from gnothi.testbeds.transformer import Transformer

LOOKS = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
"""Shares of a fine-tune's steps after which it is looked at, besides start and end."""
EARLY = (5, 10, 15, 20, 30, 40, 50, 60, 80, 100, 120, 140, 160, 180, 200)
"""Steps of reverse fine-tuning after which it is looked at, besides every fiftieth of a horizon of 1,000 or more."""
COUNTS = (0, 1, 2, 3, 4, 5, 7, 10, 12, 15, 20, 30, 50, 100)
"""Numbers of pruned rows that are evaluated."""
SETS = {"a/0": (A, 0.0), "a/100": (A, 1.0), "b/0": (B, 0.0), "b/100": (B, 1.0)}
"""Operand and C_Te in percent -> the operand asked for, and the share of correlated strings."""
TUNING_SEED = 1_000_003
"""Added to a seed for the data that learning rates are chosen on."""


def work(spec: Mapping[str, Any], job: LabJob, bench: Bench) -> UnitData:
    """Make one unit; see `base.AbstractLab.work`."""
    found: Callable[[Setting, LabJob, Bench], UnitData] = {
        "pretrain": _pretrain,
        "tune": _tune,
        "prune": _prune,
        "probe": _probe,
        "choose_rate": _choose_rate,
        "revive": _revive,
    }[job.payload["kind"]]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # matrices are too small for more, and the same seed then gives the same numbers
    try:
        return found(setting(canonical(dict(spec))), job, bench)
    finally:
        torch.set_num_threads(threads)


@lru_cache(maxsize=4)
def setting(spec: str) -> "Setting":
    """The setting of a specification in JSON; kept, since the tables of a grammar take a moment."""
    import json

    return Setting(parsed(PcfgSpec, json.loads(spec)))


class Setting:
    """What the units of one specification share.

    Args:
        spec: The specification.
    """

    def __init__(self, spec: PcfgSpec) -> None:
        self.spec = spec
        auto = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(auto if spec.device == "auto" else spec.device)
        grammar = make_grammar(spec.grammar)
        self.tasks = Tasks(
            terminals=len(grammar.terminals), window=spec.window, last=spec.last, rank=spec.rank, full=spec.full
        )
        self.world = World(grammar, self.tasks, spread=spec.spread, device=self.device)
        self.sizes = {n: getattr(spec, n) for n in ("layers", "heads", "width", "mlp", "dropout")}

    @cached_property
    def about(self) -> dict[str, Any]:
        """What every unit records of the machine."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        return {"device": name, "torch": str(torch.__version__)}

    def fresh(self, seed: int) -> Transformer:
        """A model of random values."""
        return new_model(self.tasks, self.sizes, seed=seed, device=self.device)

    def stored(self, unit: UnitData) -> Transformer:
        """A unit's model."""
        model = self.fresh(0)
        model.load_state_dict(dict(unit.tensors))
        return model.eval()

    def rows(self, seed: int, use: str, operand: int, correlated: float, n: int) -> Rows:
        """A fixed set of questions on planted strings; sets of different `use` have different strings."""
        family = self.spec.task
        text = self.world.planted(
            n, self.world.generator(seed, use, family, round(1000 * correlated)), family=family, correlated=correlated
        )
        return self.world.asking(text, family, operand)

    def tests(self, seed: int, n: int) -> dict[str, Rows]:
        """The four test sets of a seed."""
        return {name: self.rows(seed, "test", operand, c, n) for name, (operand, c) in SETS.items()}

    def start(self, job: LabJob, bench: Bench) -> Transformer:
        """The model that a job starts from: its first parent's, or random values where it has none."""
        parents = [a for a in job.after if not a.startswith("rate-")]
        return self.stored(bench.parent(parents[0])) if parents else self.fresh(job.seed)

    def told(self, bench: Bench, stage: str) -> Callable[[int, int, float], None]:
        """Progress of a training, now and then."""

        def say(done: int, total: int, loss: float) -> None:
            if done % 50 == 0 or done == total:
                bench.report(done, total, f"{stage}: loss {loss:.3f} nats")

        return say


def _pretrain(s: Setting, job: LabJob, bench: Bench) -> UnitData:
    spec, prior = s.spec, job.payload["prior"]
    steps = round(spec.steps * job.payload["share"] * LONGER.get(prior, 1.0))
    recipe = Recipe(steps=steps, batch=spec.batch, rate=spec.rate, muon=spec.muon, text_every=spec.text_every)
    families = (*spec.families, *(("count_1", "count_2") if job.payload.get("jailbreak") else ()))
    tests = s.tests(job.seed, spec.look)
    model = s.fresh(job.seed)
    found = pretrain(
        model,
        s.world,
        recipe,
        draw=lambda n, g: s.world.pretraining(n, g, families=families, prior=PRIORS[prior]),
        seed=job.seed,
        look=lambda m: {name: accuracy(m, rows) for name, rows in tests.items()},
        look_at=[round(steps * x) for x in (0.2, 0.4, 0.6, 0.8)],
        folder=bench.checkpoints,
        key=digest([spec.model_dump(mode="json"), dict(job.payload), job.seed]),
        progress=bench.report,
    )
    natural = s.world.texts(spec.test, s.world.generator(job.seed, "pretraining tests"))
    on_its_own = [
        {"family": family, "operand": "ab"[o], "accuracy": accuracy(model, rows), "floor": rows.floor, "n": len(rows)}
        for family in spec.families
        for o in (A, B)
        for rows in [s.world.asking(natural, family, o)]
    ]
    curve = [{"step": look["step"], "set": name, "accuracy": look[name]} for look in found.looks for name in tests]
    record = {
        **s.about,
        "losses": found.losses,
        "steps": steps,
        "final": _final(s, model, job.seed),
        "recipe": recipe.to_json(),
    }
    record["parameters"] = sum(p.numel() for p in model.parameters())
    return UnitData(
        record=record,
        tables={"curve": pd.DataFrame(curve), "families": pd.DataFrame(on_its_own)},
        tensors=dict(model.state_dict()),
    )


def _tune(s: Setting, job: LabJob, bench: Bench) -> UnitData:
    spec, p, world = s.spec, job.payload, s.world
    model, looked = s.start(job, bench), s.tests(job.seed, spec.look)
    if p["jailbreak"]:
        text = world.planted(spec.look, world.generator(job.seed, "jailbreak"), family="count", correlated=0.0)
        looked |= {f"a/{family}": world.asking(text, family, A) for family in ("count_1", "count_2")}
    steps = spec.tune_steps
    course = Course(
        steps=steps,
        every=steps,
        also=tuple(sorted({round(x * steps) for x in LOOKS})),
        lr=getattr(spec, p["rate"]),
        schedule=Schedule(warmup=0.2, end=0.01),
        keep_every=1000,
    )

    def draw(n: int, generator: torch.Generator) -> Rows:
        if p["wrong"]:
            return world.wrong(n, generator, family=spec.task)
        return world.tuning(n, generator, family=spec.task, correlated=p["correlated"], share_before=p["mixed"])

    first, *others = looked
    curve = train_back(
        model,
        batches(
            draw, world, spec.tune_batch, "tuning", *map(str, (p["correlated"], p["mixed"], p["wrong"])), seed=job.seed
        ),
        answer_loss,
        partial(accuracy, rows=looked[first]),
        course,
        seed=job.seed,
        also={name: partial(accuracy, rows=looked[name]) for name in others},
        folder=bench.checkpoints,
        key=digest([spec.model_dump(mode="json"), dict(p), job.seed, job.name]),
        progress=s.told(bench, "fine-tuning"),
    )
    rows = _curve_rows(curve, first)
    record = {**s.about, "losses": curve.losses, "steps": steps, "lr": course.lr, "ended": curve.ended}
    record["final"] = _final(s, model, job.seed)
    record["last_look"] = {r["set"]: r["accuracy"] for r in rows if r["step"] == curve.steps[-1]}
    return UnitData(
        record=record,
        tables={"curve": pd.DataFrame(rows), "classes": _classes(s, draw, job.seed)},
        tensors=dict(model.state_dict()),
    )


def _final(s: Setting, model: Transformer, seed: int) -> dict[str, Any]:
    """Accuracy on the whole test sets, with the floor of each: what a constant answer scores."""
    sets = s.tests(seed, s.spec.test)
    return {name: {"accuracy": accuracy(model, r), "floor": r.floor, "n": len(r)} for name, r in sets.items()}


def _classes(s: Setting, draw: Callable[[int, torch.Generator], Rows], seed: int) -> pd.DataFrame:
    """Answers of fine-tuning rows, and of the same strings asked for a, by class."""
    rows = draw(4000, s.world.generator(seed, "classes"))
    text = rows.ids[:, s.tasks.text_at : s.tasks.text_at + s.tasks.window]
    found = []
    for operand in (A, B):
        counted = (s.world.asking(text, s.spec.task, operand).answers - s.tasks.number(0)).clamp_min(0).bincount()
        found += [{"operand": "ab"[operand], "class": c, "n": int(n)} for c, n in enumerate(counted.tolist()) if n]
    return pd.DataFrame(found)


def _curve_rows(curve: Curve, first: str) -> list[dict[str, Any]]:
    named = {first: curve.values, **curve.others}
    return [
        {"step": step, "set": name, "accuracy": value}
        for name, values in named.items()
        for step, value in zip(curve.steps, values, strict=True)
    ]


def _prune(s: Setting, job: LabJob, bench: Bench) -> UnitData:
    spec = s.spec
    tuned, before, never = (s.stored(bench.parent(a)) for a in job.after)
    scored, chosen = (s.rows(job.seed, use, A, 0.0, spec.look) for use in ("scored", "chosen"))
    tests = s.tests(job.seed, spec.look)
    task = PruneTask(
        score_on=partial(answer_loss, rows=scored),
        choose_on=partial(accuracy, rows=chosen),
        show_on={name: partial(accuracy, rows=tests[name]) for name in ("a/0", "b/0", "b/100")},
    )
    counts = [k for k in COUNTS if k < spec.most] + [spec.most]
    found = prune(
        tuned,
        task,
        "rows",
        most=spec.most,
        untouched=before,
        never=never,
        counts=counts,
        seed=job.seed,
        progress=lambda done, total: bench.report(done, total, "pruning"),
    )
    main = found.curve("again")
    units = [
        {"who": c.who, "how": c.how, "draw": c.draw, "rank": i, "block": u.block, "part": u.part, "unit": str(u)}
        for c in found.curves
        for i, u in enumerate(c.units)
    ]
    with_k = {
        f"{c.who}/{c.how}/{c.draw}": {"k": c.chosen, **{name: c.at(name) for name in c.show}} for c in found.curves
    }
    predicted = _after_pruning(tuned, tests["a/0"], main.units[: main.chosen], s)
    unpruned = {c.who: c.at("a/0", 0) for c in found.curves}
    record = {
        **s.about,
        "n_units": found.n_units,
        "chosen": with_k,
        "unpruned": unpruned,
        "floor": tests["a/0"].floor,
        "n": spec.look,
    }
    return UnitData(
        record=record,
        tables={"curves": pd.DataFrame(found.rows()), "units": pd.DataFrame(units), "predicted": predicted},
    )


def _after_pruning(tuned: Transformer, rows: Rows, units: Any, s: Setting) -> pd.DataFrame:
    """Classes answered before and after, and the right ones: a model that says one class always shows here."""
    from gnothi.mechanisms.units import zeroed

    said = {"right": rows.answers, "before": predictions(tuned, rows.ids)}
    with zeroed(tuned, units):
        said["after"] = predictions(tuned, rows.ids)
    zero = s.tasks.number(0)
    return pd.DataFrame(
        [
            {"when": when, "class": int(c) - zero if c >= zero else -1, "n": int((ids == c).sum())}
            for when, ids in said.items()
            for c in ids.unique().tolist()
        ]
    )


def _probe(s: Setting, job: LabJob, bench: Bench) -> UnitData:
    spec = s.spec
    model, fresh = s.start(job, bench), s.fresh(job.seed + TUNING_SEED)
    sites = [Site("resid", i) for i in range(spec.layers + 1)]
    rows = []
    for operand in (A, B):
        sets = [s.rows(job.seed, use, operand, 0.0, spec.test) for use in ("probe", "test")]
        values, labels = torch.cat([r.answers for r in sets]).unique(return_inverse=True)
        answers = [
            Answers(ids=r.ids, labels=part, batch=256 if s.device.type == "cpu" else 1024)
            for r, part in zip(sets, labels.split([len(r) for r in sets]), strict=True)
        ]
        ours, random = ([_on_cpu(activations(m, one, sites)) for one in answers] for m in (model, fresh))
        for i, site in enumerate(sites):
            found = probe(
                ours[0][site],
                answers[0].labels.cpu(),
                ours[1][site],
                answers[1].labels.cpu(),
                classes=len(values),
                seed=job.seed,
                site=str(site),
                random_train_x=random[0][site],
                random_test_x=random[1][site],
                shuffles=1,
            )
            rows.append({"operand": "ab"[operand], "depth": i, **found.row()})
            bench.report(len(rows), 2 * len(sites), "probing")
    return UnitData(record=dict(s.about), tables={"probes": pd.DataFrame(rows)})


def _on_cpu(found: Mapping[Site, torch.Tensor]) -> dict[Site, torch.Tensor]:
    """Probes are small and take many steps: a processor is faster."""
    return {site: x.cpu() for site, x in found.items()}


def _course(s: Setting, lr: float, until: float | None) -> Course:
    steps = s.spec.back_steps
    also = tuple(step for step in EARLY if step <= steps)
    every = max(20, steps // 20)
    schedule = Schedule(warmup=0.0 if steps < 1000 else 0.02, end=1.0)
    return Course(steps=steps, every=every, also=also, lr=lr, schedule=schedule, until=until)


def _back(s: Setting, job: LabJob, bench: Bench, seed: int, lr: float, until: float | None, rows: Rows) -> Curve:
    """One reverse fine-tune: the pretraining task again, on strings of pretraining."""
    spec, world = s.spec, s.world
    return train_back(
        s.start(job, bench),
        batches(lambda n, g: world.before(n, g, family=spec.task), world, spec.tune_batch, "reverse", seed=seed),
        answer_loss,
        partial(accuracy, rows=rows),
        _course(s, lr, until),
        seed=seed,
        progress=s.told(bench, f"reverse fine-tuning at {lr:g}"),
    )


def _choose_rate(s: Setting, job: LabJob, bench: Bench) -> UnitData:
    """The learning rate of one arm, on training and test strings that no curve is shown on."""
    spec, seed = s.spec, job.seed + TUNING_SEED
    rows = s.rows(seed, "chosen", A, 0.0, spec.look)
    found = choose_rate(
        spec.back_rates, lambda lr, at: _back(s, job, bench, at, lr, spec.level, rows), (seed,), spec.level
    )
    return UnitData(record={**s.about, **found.to_json()})


def _revive(s: Setting, job: LabJob, bench: Bench) -> UnitData:
    spec = s.spec
    (chosen,) = (bench.parent(a).record for a in job.after if a.startswith("rate-"))
    rows = s.rows(job.seed, "test", A, 0.0, spec.look)
    curve = _back(s, job, bench, job.seed, chosen["lr"], None, rows)
    there = steps_to(curve, spec.level)
    record = {**s.about, "losses": curve.losses, "lr": chosen["lr"], "at_edge": chosen["at_edge"], "floor": rows.floor}
    record |= {"reached": there.steps, "within": there.within, "why_not": there.reason, "ended": curve.ended}
    return UnitData(record=record, tables={"curve": pd.DataFrame(_curve_rows(curve, "a/0"))})
