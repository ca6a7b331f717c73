"""What the page of a study's run is made from."""

import json
import shlex
from collections import Counter
from typing import Any

import pandas as pd

from gnothi._version import __version__
from gnothi.elicit.words import one_word_table
from gnothi.experiments.study.answers import TABLES, Answers
from gnothi.experiments.study.design import UNTUNED, AbstractStudy, Quantity, Select, Term
from gnothi.experiments.study.estimates import KINDS, differences
from gnothi.experiments.study.spec import StudySpec, build, parse
from gnothi.experiments.study.studies import study_class, study_of
from gnothi.finetune.recipes import RECIPES
from gnothi.measure.damage_gate import Thresholds
from gnothi.models.registry import ModelInfo
from gnothi.records import Sample
from gnothi.score.names import Arm
from gnothi.store import RunFolder, read_estimates
from gnothi.writeup.view import RunView

ONE_WORD = "one_word"
"""Id of the question whose answers are shown as words."""
EXAMPLES_EACH = (1, 2)
"""Held-out items and questions shown of the first unit of each arm."""
_DERIVED = (
    "questions_digest",
    "adapter_digests",
    "judge_digest",
    "model_family",
    "model_digest",
    "provenance",
    "kind",
    "experiment",
)


def points(run: RunFolder) -> pd.DataFrame:
    """Every score: `arm, unit, seed, gate, kind, question, subject, score` and one column for each label."""
    answers = Answers.of(run)
    parts = []
    for unit, record in answers.records.items():
        for kind in TABLES:
            table = answers.table(unit, kind)
            parts.append(
                table.assign(arm=record["arm"], unit=unit, seed=record["seed"], gate=record.get("gate"), kind=kind)
            )
    first = ["arm", "unit", "seed", "gate", "kind", "question", "subject", "score"]
    whole = pd.concat(parts, ignore_index=True)
    return whole.reindex(columns=[*first, *(c for c in whole.columns if c not in first)])


def view(run: RunFolder) -> RunView:
    """Fill the page of a finished run from its stored tables."""
    spec = parse(run.spec)
    study, answers = study_of(spec), Answers.of(run)
    estimates = read_estimates(run.path / "estimates.parquet")
    units = []
    for name, record in answers.records.items():
        losses = run.table(name, "loss")["loss"].tolist() if "loss.parquet" in record["files"] else []
        units.append({**record, "unit": name, "losses": losses})
    return RunView(
        title=f"{study.name.replace('-', ' ').capitalize()}: {spec.model}",
        question=study.question,
        experiment=spec.experiment,
        model={"name": spec.model, "digest": spec.model_digest, "dtype": spec.dtype, "notes": spec.model_notes()},
        spec=spec.to_json(),
        command=command(spec),
        version=__version__,
        created=json.loads((run.path / "run.json").read_text(encoding="utf-8"))["finished"],
        estimates=estimates,
        units=units,
        arms=arms_of(study),
        validity=_validity(run, answers),
        examples=_examples(run, study),
        notes=_notes(study),
        unit_values=_unit_values(study, answers),
        gate_threshold=spec.gate_agreement,
        damage_gate=Thresholds.from_json(spec.damage_gate, spec.kind).to_json() if spec.damage else None,
        headline=study.headline,
        figures_extra=study.pictures(answers, estimates),
        tables=[*study.tables(answers), *_one_word(run, study)],
    )


def arms_of(study: AbstractStudy) -> dict[str, Arm]:
    """Words for every arm and every comparison of a study."""
    found = {UNTUNED: Arm("the model as it came", "", "what it says and does before any training", False)}
    found |= {a.name: a.says for a in study.every_arm()}
    for quantity in study.every_quantity():
        if quantity.says is not None:
            found.setdefault(quantity.arm, quantity.says)
    return found


def command(spec: StudySpec) -> str:
    """The command line that makes this specification: every field that is not its model's default is named."""
    kind = study_class(spec.experiment)
    info = ModelInfo(name=spec.model, family=spec.model_family, digest=spec.model_digest, provenance=spec.provenance)
    like = {"quick": spec.quick, "writes": bool(spec.recipe["end_of_answer"])}
    default = build(info, spec.experiment, defaults=kind.defaults, options=kind.options, **like).to_json()
    own_file = spec.options.get("file") if spec.experiment == "own" else None
    words = ["gnothi", "run", str(own_file or spec.experiment), "--model", spec.model]
    words += ["--seed", str(spec.seed), "--seeds", str(spec.seeds)] + (["--quick"] if spec.quick else [])
    for name, value in spec.to_json().items():
        if value == default[name] or name in ("seed", "seeds", "model", "quick", *_DERIVED):
            continue
        if own_file and name == "options":  # it follows from the file
            continue
        if name == "recipe":
            named = value["name"] in RECIPES and RECIPES[value["name"]].to_json() == value
            value = value["name"] if named else value
        if name == "options":
            for option, given in value.items():
                words += ["--set", f"{option}={given if isinstance(given, str) else json.dumps(given)}"]
        elif name == "train_sizes":
            words += ["--train-sizes", ",".join(f"{r}x{e:g}" for r, e in value)]
        elif name == "adapters":
            words += [w for folder in value for w in ("--adapter", folder)]
        elif name == "questions":
            words += ["--questions", value]
        else:
            words += ["--set", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join(words)


def _notes(study: AbstractStudy) -> list[str]:
    spec = study.spec
    trained = (
        f"Every arm has {spec.seeds} fine-tuned models of {spec.rows} rows unless its name says otherwise; models of one "
        f"seed see the same prompts in the same order. The run's seed is {spec.seed}."
    )
    notes = [
        trained
        if spec.train
        else "Nothing was trained: fine-tunes that existed already are held against the untuned model.",
        "Every question is asked in all its paraphrases, in both orders of its options and in both directions of its "
        "scale; a score is from 0 to 1, and a model that always says the same scores one half.",
        "Self-reports of a model that was not instilled, or is damaged, are left out and counted.",
    ]
    if spec.samples is not None and spec.kind != "organism":
        notes.append(
            f"Questions that are read from text are answered {spec.samples} times for each paraphrase; arXiv:2501.11120 takes "
            "100 (`--set samples=null` takes each question's own number)."
        )
    if spec.model_family == "organism":
        notes.append(
            "These are results on the organism, a tiny model trained from nothing, and not results on language models."
        )
    if spec.model_family == "scripted":
        notes.append("The model answers by a script: this run tests the pipeline and says nothing about any model.")
        if spec.adapters:
            notes.append("A script loads no adapter: the arms of given fine-tunes are scripts as well.")
    if spec.quick:
        notes.append("A quick run, to see that everything works: its numbers are not for quoting.")
    return [*notes, *study.notes()]


def _validity(run: RunFolder, answers: Answers) -> list[dict[str, Any]]:
    """Asked and valid self-reports by arm, with the reasons of the others."""
    found: dict[str, dict[str, Any]] = {}
    for unit, record in answers.records.items():
        table = run.table(unit, "reports")
        row = found.setdefault(record["arm"], {"arm": record["arm"], "asked": 0, "valid": 0, "reasons": Counter()})
        reasons = table["reason"].dropna()
        row["asked"] += len(table)
        row["valid"] += len(table) - len(reasons)
        row["reasons"].update(reasons.tolist())
    return [{**row, "reasons": dict(row["reasons"])} for row in found.values() if row["asked"]]


def _examples(run: RunFolder, study: AbstractStudy) -> list[dict[str, Any]]:
    """Some raw prompts and answers of the first unit of each arm: of different questions, as far as there are any."""
    found = []
    stored = set(run.units())
    firsts = [
        (next((u for u in ("base", "base-0") if u in stored), "base"), UNTUNED),
        *((f"{a.name}-0", a.name) for a in study.every_arm()),
    ]
    for unit, arm in firsts:
        if unit not in stored:
            continue
        for name, most in zip(TABLES.values(), EXAMPLES_EACH, strict=True):
            table = run.table(unit, name)
            chosen = table.drop_duplicates("question").head(most)
            found += [_example(unit, arm, Sample.from_row(row)) for row in chosen.to_dict("records")]
    return found


def _example(unit: str, arm: str, sample: Sample) -> dict[str, Any]:
    answer = sample.text
    if answer is None and sample.extra.get("answers"):
        answer = str(sample.extra["answers"][0])
    return {
        "arm": arm,
        "unit": unit,
        "kind": str(sample.extra.get("question", sample.kind)),
        "messages": sample.messages,
        "answer": answer,
        "value": sample.value[0] if sample.value else None,
        "reason": sample.reason,
    }


def _unit_values(study: AbstractStudy, answers: Answers) -> list[dict[str, Any]]:
    """Single units behind the estimates: each arm's scores, and each difference seed by seed."""
    wanted: list[Quantity] = [
        Quantity(name=f"{kind}.score", arm=arm, terms=(Term(Select(arm=arm, kind=kind, where=study.own(arm, kind))),))
        for arm in (UNTUNED, *(a.name for a in study.every_arm()))
        for kind in KINDS
    ]
    # as stored: a page is written without reading the files that a run names, which a stranger's may have chosen
    asked = dict.fromkeys(q for u in answers.records for q in answers.table(u, "self_report")["question"])
    wanted += [
        Quantity(name=f"self_report.by_question/{question}", arm=arm, terms=(Term(_about(study, arm, question)),))
        for arm in (UNTUNED, *(a.name for a in study.every_arm()))
        for question in asked
    ]
    found = []
    for quantity in [*wanted, *study.every_quantity()]:
        for term in quantity.terms:
            units, values = differences(term, answers)
            found += [
                {"name": quantity.name, "arm": quantity.arm, "unit": unit, "value": value}
                for unit, value in zip(units, values, strict=True)
                if value is not None
            ]
    return found


def _about(study: AbstractStudy, arm: str, question: str) -> Select:
    return Select(arm=arm, kind="self_report", where={**study.own(arm, "self_report"), "question": question})


def _one_word(run: RunFolder, study: AbstractStudy) -> list[dict[str, Any]]:
    """What models answered in one word, by arm (arXiv:2501.11120, Figure 2), where such a question was asked."""
    stored = set(run.units())
    rows = []
    for arm, units in (
        (UNTUNED, ["base", *(f"base-{i}" for i in range(study.spec.seeds))]),
        *((a.name, [f"{a.name}-{i}" for i in range(study.spec.seeds)]) for a in study.every_arm()),
    ):
        samples = []
        for unit in units:
            if unit in stored:
                table = run.table(unit, "reports")
                rows_there = table.to_dict("records")
                samples += [Sample.from_row(row) for row in rows_there if row["question"] == ONE_WORD]
        rows += [[arm, s.word, s.share, s.n] for s in one_word_table(samples, most=6)]
    if not rows:
        return []
    caption = (
        "Each model describes its behaviour in a single word; the commonest words of each arm, over all its models."
    )
    return [{"title": "In one word", "caption": caption, "columns": ["arm", "word", "share", "n"], "rows": rows}]
