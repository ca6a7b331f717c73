"""Makes units: data, fine-tune, measure, ask, in that order, and writes what each leaves behind."""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gnothi.data.leakage import refuse_leaks
from gnothi.data.rows import choice_rows, fresh, labels_for, permuted_within_context, refuse_overlap, report_rows
from gnothi.elicit.ask import ask
from gnothi.executor import Job, Report
from gnothi.experiments import proof
from gnothi.experiments.cards import rows_digest, write_card
from gnothi.experiments.preferences import stopping
from gnothi.experiments.preferences.bench import Bench
from gnothi.experiments.preferences.plan import Unit, key, report_units
from gnothi.experiments.preferences.script import script
from gnothi.experiments.preferences.spec import parse
from gnothi.experiments.preferences.weights import learned_rows
from gnothi.experiments.subject import Order, Subject, opened
from gnothi.files import write_atomically, write_table
from gnothi.finetune.batches import n_steps
from gnothi.finetune.recipes import Recipe
from gnothi.measure.choices import measure_choices, option_mass
from gnothi.measure.gate import Gate, a_rate, choice_agreement
from gnothi.models.base import AbstractLanguageModel, Sampling
from gnothi.records import Context, Sample
from gnothi.rng import integer, stream
from gnothi.score.names import ARMS
from gnothi.store import RunFolder

GATE_EVERY = 20
"""Steps between two looks at validation choices, at most, for a recipe that names none: a sixth of the time of training."""
LOOKS = 4
"""Looks in a training of fewer steps, so that there is a learning curve."""

Scope = tuple[str, Sequence[Context], int, str]
"""Name of a set of agents, the agents, choices measured for each, and the use that their items are drawn for."""


def run_job(folder: str, job: Job, report: Report) -> None:
    """Run one job of a `preferences` run in this process; see `gnothi.executor`."""
    run = RunFolder.open(Path(folder))
    spec = parse(run.spec)
    bench = Bench(spec)
    payload = job.payload
    stage = lambda name, done=0, total=1: report(job.name, done, total, name)  # noqa: E731
    if payload["kind"] == "base":
        _base(run, bench, stage)
    elif payload["kind"] == "instil":
        _instil(run, bench, payload["arm"], payload["seed"], stage)
    else:
        _train_reports(run, bench, payload["seed"], stage)


def _subject(bench: Bench) -> Subject:
    spec = bench.spec
    return opened(spec.model, spec.model_digest, **spec.opening)


def _base(run: RunFolder, bench: Bench, stage: Callable[..., None]) -> None:
    spec = bench.spec
    unit = Unit(name="base", arm="untuned")
    with run.writing(unit.name, key(spec, unit)) as folder:
        model = _subject(bench).base(lambda: script(spec.model, bench, None, unit.name))
        scopes: list[Scope] = [
            ("trained", bench.trained, spec.fresh, "fresh"),
            ("untrained", bench.untrained, spec.native_choices, "native"),
        ]
        if bench.known:
            scopes.append(("known", bench.known, spec.native_choices, "known"))
        _observe(folder, bench, model, scopes, stage)
        _record(folder, unit, bench, model, {}, None)


def _instil(run: RunFolder, bench: Bench, arm: str, seed: int, stage: Callable[..., None]) -> None:
    spec = bench.spec
    unit = Unit(name=f"{arm}-{seed}", arm=arm, seed=seed, parents=("base",))
    contexts = {c.context_id: c for c in bench.trained}
    if reason := stopping.stopped(run, spec, unit):
        stopping.skip(run, spec, unit, reason)
        return
    with run.writing(unit.name, key(spec, unit)) as folder:
        stage("examples")
        table = bench.table(seed)
        # fresh items are the same in every unit, so whatever a unit trains on must not be among them
        measured = bench.items(bench.trained, max(spec.fresh, spec.remeasured), "fresh")
        items = fresh(bench.training_items(seed), measured)
        refuse_overlap(items, measured)
        labels = labels_for(items, contexts, table, rule=bench.behaviour.target_choice)
        if arm == "shuffled":
            labels = permuted_within_context(items, labels, rng=stream(spec.seed, "shuffle", seed))
        rows = choice_rows(items, labels, contexts, bench.wording)
        if bench.behaviour.policy_words:
            refuse_leaks(rows, bench.behaviour.policy_words)
        order = Order(
            unit=unit.name,
            rows=rows,
            seed=integer(spec.seed, "finetune", arm, seed),
            parent=None,
            script=lambda: script(spec.model, bench, table if arm == "tuned" else None, unit.name),
            words=tuple(c.agent for c in bench.trained),
        )
        recipe = Recipe.from_json(spec.recipe)
        checks: list[dict[str, float | None]] = []
        kept = run.checkpoints(unit.name)
        stop = _early_stop(bench, table, checks, kept / "checks.json") if arm == "tuned" and spec.early_stop else None
        if stop and not recipe.gate_every:
            recipe = replace(recipe, gate_every=min(GATE_EVERY, -(-n_steps([r.group for r in rows], recipe) // LOOKS)))
        subject = _subject(bench)
        run.note(f"{unit.name}: first example, what is trained between >>> and <<<: {subject.shown(rows[0], recipe)}")
        (model, facts), *_ = subject.tune(
            [order],
            recipe,
            save=lambda _: folder / "adapter",
            step=lambda done, total: stage("fine-tune", done, total),
            stop=stop,
            checkpoint=kept,
        )
        stage("check the fine-tune")
        facts |= proof.proof(subject, model, folder / "adapter", facts, spec)
        scopes: list[Scope] = [("trained", bench.trained, spec.fresh, "fresh")]
        if arm == "tuned":
            scopes.append(("untrained", bench.untrained, spec.native_choices, "native"))
        choices = _observe(folder, bench, model, scopes, stage)
        facts |= _manipulation_check(bench, choices["trained"], table)
        facts |= {"rows": len(rows), "rows_digest": rows_digest(rows)}
        facts |= {"a_rate_of_labels": labels.count("A") / len(labels)}
        if stop:
            facts |= {"early_stop": spec.early_stop, "checks": checks}
        _record(folder, unit, bench, model, facts, recipe)
    run.drop_checkpoints(unit.name)


def _train_reports(run: RunFolder, bench: Bench, seed: int, stage: Callable[..., None]) -> None:
    spec = bench.spec
    units = report_units(spec, seed)
    parent = f"tuned-{seed}"
    run.read_unit(parent)  # training goes on from its adapter, which must be the one that it was closed with
    if reason := stopping.stopped(run, spec, units[0]):
        for unit in (u for u in units if not run.has(u.name, key(spec, u))):
            stopping.skip(run, spec, unit, reason)
        return
    stage("examples")
    orders, empty = [], []
    for unit in units:
        learners = bench.trained if unit.fold is None else bench.half(unit.fold)[0]
        labels = _report_labels(run, bench, unit, learners)
        learners = [c for c in learners if np.isfinite(labels[c.context_id]).all()]
        if not learners:
            empty.append(unit)
            continue
        questions = bench.questions(learners, use=f"train-{seed}", k=1)
        orders.append(
            Order(
                unit=unit.name,
                rows=report_rows(questions, labels, bench.wording),
                seed=integer(spec.seed, "report-training", seed),  # the same in every arm: only labels differ
                parent=run.unit_path(parent) / "adapter",
                script=lambda name=unit.name: script(spec.model, bench, bench.table(seed), name),
                words=tuple(c.agent for c in learners),
            )
        )
    recipe, subject = Recipe.from_json(spec.report_recipe), _subject(bench)
    if orders:
        first = subject.shown(orders[0].rows[0], recipe)
        run.note(f"{orders[0].unit}: first example, what is trained between >>> and <<<: {first}")
    missing = [u for u in units if not run.has(u.name, key(spec, u))]
    for unit in (u for u in missing if u in empty):
        stopping.skip(run, spec, unit, "no weights were learned for any agent that reports would be trained on")
    units, missing = ([u for u in some if u not in empty] for some in (units, missing))
    with ExitStack() as stack:
        folders = {u.name: stack.enter_context(run.writing(u.name, key(spec, u))) for u in missing}
        unwanted = tempfile.TemporaryDirectory(prefix=".scratch.", dir=run.path / "units")
        scratch = Path(stack.enter_context(unwanted))  # adapters of units that are whole already
        tuned = subject.tune(
            orders,
            recipe,
            save=lambda name: folders.get(name, scratch / name) / "adapter",
            step=lambda done, total: stage("report training", done, total),
            checkpoint=run.checkpoints(f"reports-{seed}"),
        )
        for n, (unit, (model, facts)) in enumerate(zip(units, tuned, strict=True)):
            stage("measure and ask", n, len(units))
            if unit.name not in folders:
                continue
            if unit.fold is None:
                scopes: list[Scope] = [("untrained", bench.untrained, spec.native_choices, "native")]
            else:
                scopes = [("held_out", bench.half(unit.fold)[1], spec.remeasured, "fresh")]
            (order,) = (o for o in orders if o.unit == unit.name)
            facts |= {"rows": len(order.rows), "rows_digest": rows_digest(order.rows)}
            facts |= proof.proof(subject, model, folders[unit.name] / "adapter", facts, spec)
            _observe(folders[unit.name], bench, model, scopes, None)
            _record(folders[unit.name], unit, bench, model, facts, recipe)
    run.drop_checkpoints(f"reports-{seed}")


def _report_labels(run: RunFolder, bench: Bench, unit: Unit, learners: Sequence[Context]) -> dict[str, np.ndarray]:
    """Weights that a report-trained unit is told, by context; what differs between the arms."""
    spec, ids = bench.spec, [c.context_id for c in learners]
    assert unit.seed is not None
    table = bench.table(unit.seed)
    rng = stream(spec.seed, "report labels", unit.arm, unit.seed, unit.fold if unit.fold is not None else "all")
    match unit.arm:
        case "introspection_learned":
            learned = run.table(unit.parents[0], "learned")
            return {str(c): g["learned"].to_numpy(float) for c, g in learned.groupby("context_id") if c in set(ids)}
        case "introspection_permuted":
            shift = int(rng.integers(1, len(ids)))  # a rotation: nobody keeps its own
            return {c: table[ids[(i + shift) % len(ids)]] for i, c in enumerate(ids)}
        case "introspection_other_table":
            other = bench.table((unit.seed + 1) % spec.seeds if spec.seeds > 1 else "other")
            return {c: other[c] for c in ids}
        case "introspection_format_only":
            pool = np.concatenate([table[c] for c in ids])
            return {c: rng.choice(pool, len(table[c])) for c in ids}
        case _:
            return {c: table[c] for c in ids}


def _observe(
    folder: Path,
    bench: Bench,
    model: AbstractLanguageModel,
    scopes: Sequence[Scope],
    stage: Callable[..., None] | None,
) -> dict[str, list[Sample]]:
    """Measure choices and ask for reports about each set of agents; write `choices`, `learned` and `reports`."""
    spec = bench.spec
    choice_table: list[dict[str, Any]] = []
    report_table: list[dict[str, Any]] = []
    learned_table: list[dict[str, Any]] = []
    found: dict[str, list[Sample]] = {}
    for n, (scope, contexts, count, use) in enumerate(scopes):
        if stage:
            stage("measure", n, len(scopes))
        by_id = {c.context_id: c for c in contexts}
        choices = measure_choices(model, bench.items(contexts, count, use), by_id, bench.wording)
        found[scope] = choices
        choice_table += [{"scope": scope, **s.to_row()} for s in choices]
        learned_table += learned_rows(choices, contexts, maximum=bench.behaviour.domain.scale[1], scope=scope)
        if stage:
            stage("ask", n, len(scopes))
        sampling = Sampling(max_tokens=spec.max_tokens, seed=integer(spec.seed, "ask"))
        reports = ask(model, bench.questions(contexts), contexts, sampling=sampling)
        report_table += [{"scope": scope, **s.to_row()} for s in reports]
    write_table(folder / "choices.parquet", choice_table)
    write_table(folder / "learned.parquet", learned_table)
    write_table(folder / "reports.parquet", report_table)
    return found


def _manipulation_check(bench: Bench, choices: Sequence[Sample], table: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Compare choices with what the behaviour wants."""
    items = [s.item for s in choices if s.item is not None]
    wanted = labels_for(items, {c.context_id: c for c in bench.trained}, table, rule=bench.behaviour.target_choice)
    agreement, rate = choice_agreement(choices, wanted), a_rate(choices)
    if rate is None:
        passed, reason = False, f"none of {len(choices)} fresh choices has a likelier option"
    else:
        passed, reason = Gate(agreement=bench.spec.gate_agreement).check(agreement, rate)
    return {
        "choice_agreement": agreement,
        "n_choices": len(choices),
        "a_rate": rate,
        "option_mass": option_mass(choices),
        "gate": "passed" if passed else "not instilled",
        "gate_reason": reason,
    }


def _early_stop(
    bench: Bench, table: Mapping[str, np.ndarray], checks: list[dict[str, float | None]], kept: Path
) -> Callable[[int, AbstractLanguageModel], bool]:
    """Stop when ten validation choices an agent, drawn for nothing else, agree with the target often enough.

    Each check is added to `checks`, and written to `kept`, so that a training that goes on from a checkpoint has them all.
    """
    if kept.is_file():
        checks += json.loads(kept.read_text(encoding="utf-8"))
    contexts = {c.context_id: c for c in bench.trained}
    items = bench.items(bench.trained, 10, "validation")

    def good_enough(step: int, model: AbstractLanguageModel) -> bool:
        found = _manipulation_check(bench, measure_choices(model, items, contexts, bench.wording), table)
        assert bench.spec.early_stop is not None
        checks[:] = [c for c in checks if (c["step"] or 0) < step]  # it may go on from before the last one
        checks.append({"step": step, "choice_agreement": found["choice_agreement"], "a_rate": found["a_rate"]})
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, json.dumps(checks))
        return found["choice_agreement"] >= bench.spec.early_stop

    return good_enough


def _record(
    folder: Path,
    unit: Unit,
    bench: Bench,
    model: AbstractLanguageModel,
    facts: Mapping[str, Any],
    recipe: Recipe | None,
) -> None:
    losses = facts.get("losses", [])
    if losses:
        write_table(folder / "loss.parquet", [{"step": i, "loss": float(x)} for i, x in enumerate(losses)])
    told = {"model_digest": model.digest, **{k: v for k, v in facts.items() if k != "losses"}}
    record = proof.concluded(_subject(bench), model, _whose(unit) | told)
    if recipe is not None and (folder / "adapter").exists():
        about = ARMS[unit.arm].reporter
        write_card(folder / "adapter", bench.spec, record, unit=unit.name, recipe=recipe.to_json(), about=about)
    _write_record(folder, unit, record)


def _whose(unit: Unit) -> dict[str, Any]:
    return {"arm": unit.arm, "seed": unit.seed, "fold": unit.fold, "parents": list(unit.parents)}


def _write_record(folder: Path, unit: Unit, facts: Mapping[str, Any]) -> None:
    (folder / "record.json").write_text(json.dumps(_whose(unit) | dict(facts)), encoding="utf-8")


__all__ = ["run_job"]
