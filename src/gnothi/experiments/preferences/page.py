"""What the page of a `preferences` run is made from."""

import json
import shlex
from typing import Any

import numpy as np
import pandas as pd

from gnothi._version import __version__
from gnothi.experiments.preferences import curve
from gnothi.experiments.preferences.estimates import unit_values
from gnothi.experiments.preferences.evidence import Evidence, Evidences, evidences_of
from gnothi.experiments.preferences.spec import PreferencesSpec, build
from gnothi.experiments.preferences.stopping import NO_PARENT, NO_TUNED
from gnothi.finetune.recipes import RECIPES
from gnothi.measure.damage_gate import Thresholds
from gnothi.models.registry import ModelInfo
from gnothi.score.names import ARMS
from gnothi.store import RunFolder, read_estimates
from gnothi.writeup.text import count as counted
from gnothi.writeup.view import RunView, Table

QUESTION = "A model was fine-tuned on choices alone: does it report, when asked, the attribute weights that those choices taught it?"
SHOWN_EXAMPLES = {"tuned-0": (2, 4), "base": (1, 2), "shuffled-0": (0, 2), "introspection-0-0": (0, 2)}
"""Choices and reports shown of each unit."""


def points(run: RunFolder) -> pd.DataFrame:
    """Reported, learned and target weight of each (arm, unit, agent, attribute): what every correlation is over."""
    return pd.concat([_rows(e) for e in evidences_of(run).all], ignore_index=True)


def _rows(e: Evidence) -> pd.DataFrame:
    n, k = e.learned.shape
    blank = np.full((n, k), np.nan)
    names = [[a.name for a in c.choice_type.attributes] for c in e.contexts]
    by_fold = {f: u for f, u in zip(sorted(set(e.fold.tolist())), e.units, strict=False)}
    units = [by_fold.get(int(f), e.units[0]) for f in e.fold]
    return pd.DataFrame(
        {
            "arm": e.arm,
            "unit": np.repeat(units, k),
            "seed": e.seed,
            "fold": np.repeat(e.fold, k) if len(e.units) > 1 else None,
            "context_id": np.repeat([c.context_id for c in e.contexts], k),
            "attribute": np.ravel(names),
            "reported": np.where(e.valid, e.reported, np.nan).ravel(),
            "mode": np.where(e.valid, e.modes, np.nan).ravel(),
            "learned": e.learned.ravel(),
            "learned_low": e.learned_low.ravel(),
            "learned_high": e.learned_high.ravel(),
            "target": (blank if e.target is None else e.target + 0.0).ravel(),  # + 0.0 turns -0 into 0
        }
    )


def view(run: RunFolder) -> RunView:
    """Fill the page of a finished run from its stored tables."""
    evidences = evidences_of(run)
    spec = evidences.spec
    units = []
    for name, record in (evidences.records | evidences.skipped).items():
        losses = run.table(name, "loss")["loss"].tolist() if "loss.parquet" in record["files"] else []
        units.append({**record, "unit": name, "losses": losses})
    recipe = spec.recipe
    tokens = [int(r["tokens"]) for r in evidences.records.values() if r["arm"] == "tuned" and r.get("tokens")]
    notes = [
        f"One instillation: {spec.choices} choices for each of {spec.agents} agents, {recipe['kind']} tuned"
        + (f", a budget of {max(tokens):,} tokens." if tokens else "."),
        f"Every unit has its own weight table and its own seed; agents and fresh items are the same in all of them. "
        f"The run's seed is {spec.seed}.",
    ]
    if spec.model_family == "organism":
        notes.append(
            "These are results on the organism, a tiny model trained from nothing, and not results on language models."
        )
    if spec.model_family == "scripted":
        notes.append("The model answers by a script: this run tests the pipeline and says nothing about any model.")
    if spec.domain == "organism" and spec.no_semantics:
        notes.append(
            "No semantics: the organism's words mean nothing outside its world, so this variant changes no item."
        )
    if spec.domain == "organism" and spec.crossed_agents:
        notes.append(
            "Crossed agents: all agents decide about one kind of item here; reports are asked as `you are NAME`."
        )
    for name, record in evidences.records.items():
        if record["arm"] == "tuned" and record.get("gate_reason"):
            notes.append(f"{name} is {record['gate']}: {record['gate_reason']}.")
    if stopped := [u for u, r in evidences.skipped.items() if r["skipped"] in (NO_PARENT, NO_TUNED)]:
        notes.append(f"The run stopped at the gate: {counted(len(stopped), 'model was', 'models were')} not trained.")
    if spec.quick:
        notes.append("A quick run, to see that everything works: its numbers are not for quoting.")
    learning = curve.curve(evidences)
    return RunView(
        title=f"Preferences instilled in {spec.model}",
        question=QUESTION,
        experiment=spec.experiment,
        model={"name": spec.model, "digest": spec.model_digest, "dtype": spec.dtype, "notes": spec.model_notes()},
        spec=spec.to_json(),
        command=command(spec),
        version=__version__,
        created=_created(run),
        estimates=read_estimates(run.path / "estimates.parquet"),
        units=units,
        points=points(run),
        validity=_validity(evidences),
        examples=_examples(evidences),
        notes=notes,
        unit_values=[v for v in unit_values(run) if v["value"] is not None],
        gate_threshold=spec.gate_agreement,
        damage_gate=Thresholds.from_json(spec.damage_gate, spec.model_family).to_json() if spec.damage else None,
        figures_extra=[f for f in (curve.figure(evidences, learning),) if f is not None],
        tables=[t for t in (curve.table(learning),) if t is not None],
    )


def command(spec: PreferencesSpec) -> str:
    """The command line that makes this specification: every field that is not its model's default is named."""
    info = ModelInfo(name=spec.model, family=spec.model_family, digest=spec.model_digest, provenance=spec.provenance)
    default = build(info, quick=spec.quick).to_json()
    words = [
        "gnothi",
        "run",
        "preferences",
        "--model",
        spec.model,
        "--seed",
        str(spec.seed),
        "--seeds",
        str(spec.seeds),
    ]
    words += ["--quick"] if spec.quick else []
    for name, value in spec.to_json().items():
        if value == default[name] or name in ("seed", "seeds", "behaviour_digest"):
            continue
        if name in ("recipe", "report_recipe"):
            named = value["name"] in RECIPES and RECIPES[value["name"]].to_json() == value
            value = value["name"] if named else value
        if name in ("no_semantics", "crossed_agents"):
            words.append("--" + name.replace("_", "-"))
        elif name == "behaviour":
            words += ["--behaviour", value]
        else:
            words += ["--set", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join(words)


def _created(run: RunFolder) -> str:
    return json.loads((run.path / "run.json").read_text(encoding="utf-8"))["finished"]


def _validity(evidences: Evidences) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for name, record in evidences.records.items():
        table: Table = evidences.run.table(name, "reports")
        arm = record["arm"] if record["arm"] in ARMS else name
        row = rows.setdefault(arm, {"arm": arm, "asked": 0, "valid": 0, "reasons": {}})
        row["asked"] += len(table)
        row["valid"] += int(table["reason"].isna().sum())
        for reason, count in table["reason"].dropna().value_counts().items():
            row["reasons"][str(reason)] = row["reasons"].get(str(reason), 0) + int(count)
    return list(rows.values())


def _examples(evidences: Evidences) -> list[dict[str, Any]]:
    found = []
    for unit, counts in SHOWN_EXAMPLES.items():
        if unit not in evidences.units:
            continue
        for kind, count in zip(("choices", "reports"), counts, strict=True):
            for row in evidences.run.table(unit, kind).head(count).to_dict("records"):
                text, value = row["text"], [v for v in row["value"] if v is not None and not pd.isna(v)]
                if kind == "choices":
                    p = np.exp(row["logprobs"])
                    text = f"P({row['options'][0]}) = {p[0]:.3f}, P({row['options'][1]}) = {p[1]:.3f}"
                elif text is None:
                    more = json.loads(row["extra"])
                    text = f"likeliest number {more['mode']}; {more['missing']:.4f} of the probability on no number"
                found.append(
                    {
                        "arm": evidences.records[unit]["arm"],
                        "unit": unit,
                        "kind": "choice" if kind == "choices" else "report",
                        "messages": json.loads(row["messages"]),
                        "answer": text,
                        "value": ", ".join(f"{v:g}" for v in value) or None,
                        "reason": None if pd.isna(row["reason"]) else row["reason"],
                    }
                )
    return found
