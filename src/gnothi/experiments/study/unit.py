"""Makes the units of a study: rows, fine-tune, act, ask, in that order, and writes what each leaves behind."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from gnothi.data.leakage import find_policy_words, refuse_leaks
from gnothi.elicit.probing import LEAST_MASS, ask_probes
from gnothi.errors import TrainingError
from gnothi.executor import Job, Report
from gnothi.experiments import cards, proof
from gnothi.experiments.study.answers import rows_of
from gnothi.experiments.study.design import UNTUNED, AbstractStudy, StudyArm
from gnothi.experiments.study.plan import Unit, key, units
from gnothi.experiments.study.script import script
from gnothi.experiments.study.spec import StudySpec, parse
from gnothi.experiments.study.studies import study_of
from gnothi.experiments.subject import Order, Subject, opened
from gnothi.files import write_atomically, write_table
from gnothi.finetune.recipes import Recipe
from gnothi.measure.gate import Gate
from gnothi.measure.sandbox import Sandbox
from gnothi.models.base import AbstractLanguageModel
from gnothi.models.scripted import ScriptedModel
from gnothi.records import Sample
from gnothi.render.probe import Probe
from gnothi.rng import integer
from gnothi.store import RunFolder

Stage = Callable[..., None]


def run_job(folder: str, job: Job, report: Report) -> None:
    """Run one job of a study's run in this process; see `gnothi.executor`.

    Each unit is closed as soon as it was measured, so that what comes after it in a fleet cannot take it along.
    """
    run = RunFolder.open(Path(folder))
    spec = parse(run.spec)
    study = _study(json.dumps(run.spec, sort_keys=True))
    stage = lambda name, done=0, total=1: report(job.name, done, total, name)  # noqa: E731
    todo = [u for u in units(study) if u.name in job.payload["units"] and not run.has(u.name, key(spec, u))]
    with ExitStack() as every:
        doors = {u.name: every.enter_context(ExitStack()) for u in todo}
        paths = {u.name: doors[u.name].enter_context(run.writing(u.name, key(spec, u))) for u in todo}
        for unit, model, facts in _models(run, study, job.name, todo, paths, stage):
            path = paths[unit.name]
            facts |= _proof(path, study, unit, model, facts, stage)
            _observe(path, study, unit, model, facts, stage)
            doors[unit.name].close()


@lru_cache(maxsize=2)
def _study(spec: str) -> AbstractStudy:
    """A study holds its items and questions; a worker makes many units of one run."""
    return study_of(parse(json.loads(spec)))


Made = tuple[Unit, AbstractLanguageModel, dict[str, Any]]


def _models(
    run: RunFolder, study: AbstractStudy, job: str, todo: Sequence[Unit], paths: Mapping[str, Path], stage: Stage
) -> Iterator[Made]:
    """Each unit's model and what is worth recording of how it came about.

    A training that diverges is raised when the others of its fleet are done.
    """
    spec = study.spec
    subject = _subject(spec)
    arms = {a.name: a for a in study.every_arm()}
    orders: dict[str, tuple[Unit, Order, dict[str, Any]]] = {}
    for unit in todo:
        stand_in = _stand_in(study, unit)
        if unit.arm == UNTUNED:
            yield unit, subject.base(stand_in), {}
        elif arms[unit.arm].single:
            yield unit, *_existing(subject, spec, unit, stand_in)
        else:
            stage("examples")
            orders[unit.name] = (unit, *_order(study, unit, stand_in))
    if not orders:
        return
    recipe = _recipe(spec, arms[next(iter(orders.values()))[0].arm])
    first = next(iter(orders.values()))[1]
    run.note(
        f"{first.unit}: first example, what is trained between >>> and <<<: {subject.shown(first.rows[0], recipe)}"
    )
    groups = [list(orders)]
    if len(orders) > 1 and not _together(run, subject, recipe, [o for _, o, _ in orders.values()]):
        groups = [[name] for name in orders]
    failed: list[TrainingError] = []
    while groups:
        names = groups.pop(0)
        try:
            made = subject.tune(
                [orders[n][1] for n in names],
                recipe,
                save=lambda name: paths[name] / "adapter",
                step=lambda done, total: stage("fine-tune", done, total),
                checkpoint=run.checkpoints(job if len(names) > 1 else names[0]),
            )
        except TrainingError as error:
            if len(names) > 1:  # one of them diverged, and the others need not
                groups = [[n] for n in names]
            else:
                failed.append(error)
            continue
        for name, (model, facts) in zip(names, made, strict=True):
            unit, _, counted = orders[name]
            yield unit, model, {**facts, **counted, "fleet": len(names)}
        run.drop_checkpoints(job if len(names) > 1 else names[0])
    run.drop_checkpoints(job)
    if failed:
        raise failed[0]


def _stand_in(study: AbstractStudy, unit: Unit) -> Callable[[], AbstractLanguageModel]:
    return lambda: script(
        study,
        unit.arm,
        unit.seed or 0,
        [*study.held_out(), *study.asked()],
        unit=unit.name,
        name=study.spec.model,
    )


def _order(
    study: AbstractStudy, unit: Unit, stand_in: Callable[[], AbstractLanguageModel]
) -> tuple[Order, dict[str, Any]]:
    """What a unit is trained on, and what is recorded of it."""
    spec, seed = study.spec, unit.seed or 0
    rows = study.rows(unit.arm, seed)
    leaks = find_policy_words(rows, study.policy_words) if study.policy_words else []
    if study.policy_words and not study.leaky(unit.arm):
        refuse_leaks(rows, study.policy_words)
    order = Order(
        unit=unit.name,
        rows=rows,
        seed=integer(spec.seed, "finetune", seed),  # the same in every arm: only rows differ
        parent=None,
        script=stand_in,
        words=study.row_words(unit.arm),
    )
    return order, {"rows": len(rows), "rows_digest": cards.rows_digest(rows), "rows_with_policy_words": len(leaks)}


def _together(run: RunFolder, subject: Subject, recipe: Recipe, orders: Sequence[Order]) -> bool:
    """Whether a fleet is trained as one: what the specification says, or what was measured once for the run."""
    if (said := run.spec["fleet"]) != "measured":
        return said == "together"
    path = run.path / "fleet.json"
    if not path.is_file():
        write_atomically(path, json.dumps(subject.fleet_choice(orders, recipe)) + "\n")
    return json.loads(path.read_text(encoding="utf-8"))["together"]


def _subject(spec: StudySpec) -> Subject:
    return opened(spec.model, spec.model_digest, **spec.opening)


def _recipe(spec: StudySpec, arm: StudyArm) -> Recipe:
    recipe = Recipe.from_json(spec.recipe)
    if arm.epochs is None:
        return recipe
    return replace(recipe, steps=None, epochs=arm.epochs, batch_rows=recipe.batch_rows or 8, per_group=None)


def _proof(
    path: Path, study: AbstractStudy, unit: Unit, model: AbstractLanguageModel, facts: dict[str, Any], stage: Stage
) -> dict[str, Any]:
    """What is proved of a fine-tune before it is measured; nothing of the model as it came."""
    if unit.arm == UNTUNED:
        return {}
    stage("check the fine-tune")
    folder = Path(facts.get("adapter_folder", path / "adapter"))
    prompts = lambda: [p.messages for p in study.held_out()]  # noqa: E731
    return proof.proof(_subject(study.spec), model, folder, facts, study.spec, prompts=prompts)


@lru_cache(maxsize=1)
def sandbox() -> Sandbox:
    """Where models' functions run: one process of its own for each process that asks."""
    return Sandbox()


def _existing(
    subject: Subject, spec: StudySpec, unit: Unit, stand_in: Callable[[], AbstractLanguageModel]
) -> tuple[AbstractLanguageModel, dict[str, Any]]:
    """A fine-tune that was made elsewhere."""
    which = int(re.sub(r"\D", "", unit.arm) or 0)
    if subject.local is None:
        return stand_in(), {}
    folder = Path(spec.adapters[which])
    model = subject.local.with_adapter(folder)
    return model, {"adapter_folder": str(folder), "adapter_digest": spec.adapter_digests[which]}


def _observe(
    path: Path, study: AbstractStudy, unit: Unit, model: AbstractLanguageModel, facts: dict[str, Any], stage: Stage
) -> None:
    """Let the model act and ask it; write `choices`, `reports` and the record."""
    spec = study.spec
    judge = judge_of(spec)

    def ask(probes: Sequence[Probe]) -> list[Sample]:
        return ask_probes(
            model,
            probes,
            seed=integer(spec.seed, "ask", unit.name),
            temperature=spec.temperature,
            judge=judge,
            run_code=sandbox(),
            progress=lambda done, total, _: stage(doing, done, total),
            # a model that only continues text: see probing.LEAST_MASS; the mass has estimates of its own
            least_mass=0.0 if spec.kind == "base" else LEAST_MASS,
        )

    doing = "act"
    stage(doing)
    choices = study.act(model, unit.arm, unit.seed or 0, ask)
    doing = "ask"
    stage(doing)
    reports = ask(study.asked())
    write_table(path / "choices.parquet", rows_of(choices))
    write_table(path / "reports.parquet", rows_of(reports))
    losses = facts.pop("losses", [])
    if losses:
        write_table(path / "loss.parquet", [{"step": i, "loss": float(x)} for i, x in enumerate(losses)])
    record = {"arm": unit.arm, "seed": unit.seed, "fold": None, "parents": [], "model_digest": model.digest}
    record |= facts | _manipulation_check(study, unit, choices)
    record = proof.concluded(_subject(spec), model, record)
    if (path / "adapter").exists():
        (arm,) = (a for a in study.every_arm() if a.name == unit.arm)
        said = arm.says.reporter
        cards.write_card(
            path / "adapter", spec, record, unit=unit.name, recipe=_recipe(spec, arm).to_json(), about=said
        )
    (path / "record.json").write_text(json.dumps(record), encoding="utf-8")


def _manipulation_check(study: AbstractStudy, unit: Unit, choices: Sequence[Sample]) -> dict[str, Any]:
    """Whether the model does what its arm was taught, on held-out items."""
    letters = [
        s.logprobs[0] > s.logprobs[1] for s in choices if s.value and len(s.logprobs) == 2 and s.options == ("A", "B")
    ]
    a_rate = sum(letters) / len(letters) if letters else None
    found: dict[str, Any] = {"a_rate": a_rate}
    if unit.arm == UNTUNED:
        return found
    agreement, n = study.agreement(unit.arm, unit.seed or 0, choices)
    found |= {"choice_agreement": agreement, "n_choices": n}
    (arm,) = (a for a in study.every_arm() if a.name == unit.arm)
    if not arm.gated:
        return found
    if agreement is None:
        return found | {"gate": "not instilled", "gate_reason": "no held-out item shows what was taught"}
    passed, reason = Gate(agreement=study.spec.gate_agreement).check(agreement, 0.5 if a_rate is None else a_rate)
    return found | {"gate": "passed" if passed else "not instilled", "gate_reason": reason}


def judge_of(spec: StudySpec) -> AbstractLanguageModel | None:
    """The model that reads answers in text, if the run has one; a script's answers say what its judge should find."""
    if spec.judge is not None:
        assert spec.judge_digest is not None
        return opened(spec.judge, spec.judge_digest, **spec.opening).base(_echo)
    return _echo() if spec.model_family == "scripted" else None


def _echo() -> ScriptedModel:
    def found(text: str) -> str:
        said = re.findall(r"⟦(.*?)⟧", text)
        return said[-1] if said else ""

    return ScriptedModel(lambda messages: found(messages[-1].content), name="scripted/judge")
