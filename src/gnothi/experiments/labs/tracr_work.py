"""Makes the units of the compiled-program lab; torch is here."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from gnothi.errors import TrainingError
from gnothi.experiments.labs.base import Bench, LabJob, UnitData
from gnothi.experiments.labs.tracr_curves import KINDS
from gnothi.experiments.labs.tracr_work_setting import LOOK, Setting, setting, trained
from gnothi.files import canonical
from gnothi.mechanisms.answers import Answers
from gnothi.mechanisms.attention import attention_maps
from gnothi.mechanisms.hooks import capture
from gnothi.mechanisms.pruning import PruneTask, prune
from gnothi.mechanisms.reversal import Curve
from gnothi.mechanisms.single_weights import single_weight
from gnothi.mechanisms.sites import Site
from gnothi.mechanisms.units import Unit, zeroed
from gnothi.testbeds.rasp import Compiled

COUNTS = (0, 1, 2, 3, 4, 6, 8, 12, 16)
"""Numbers of removed units that are evaluated, besides the last."""
PARTS = ("attn", "mlp.up", "mlp.down")
"""Where noise is tried alone."""


def work(spec: Mapping[str, Any], job: LabJob, bench: Bench) -> UnitData:
    """Make one unit; see `base.AbstractLab.work`."""
    found: Callable[[Setting, LabJob, Bench], UnitData] = {
        "compiled": _compiled,
        "never": _never,
        "tuned": _tuned,
        "curve": _curve,
        "back": _back,
    }[job.payload["kind"]]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # matrices are too small for more, and the same seed then gives the same numbers
    try:
        return found(setting(canonical(dict(spec)), job.payload["task"]), job, bench)
    finally:
        torch.set_num_threads(threads)


def _compiled(setting: Setting, job: LabJob, bench: Bench) -> UnitData:
    """The program, whether it is exact, and how much noise it bears."""
    spec, task = setting.spec, setting.task
    started = time.perf_counter()
    compiled = setting.compile(task.old)
    seconds = time.perf_counter() - started
    sets = {"any": None, "0": 0.0, "100": 1.0}
    untouched = {
        name: setting.answers(job.seed, "untouched", spec.test, "old", share).accuracy(compiled.module)
        for name, share in sets.items()
    }
    rows: list[dict[str, Any]] = []
    tests = {spec.seed + i: setting.test(spec.seed + i)["old/0"] for i in range(spec.seeds)}
    for done, level in enumerate(spec.noise):
        for seed, answers in tests.items():
            for part in ("", *PARTS) if seed == spec.seed else ("",):
                accuracy = answers.accuracy(setting.noisy(level, seed, part=part))
                rows.append({"level": level, "noisy_seed": seed, "part": part or "all", "accuracy": accuracy})
        bench.report(done + 1, len(spec.noise), "noise")
    table = pd.DataFrame(rows)
    kept = [
        level
        for level in spec.noise
        if min(r["accuracy"] for r in rows if (r["level"], r["part"]) == (level, "all")) >= spec.kept
    ]
    record = {
        "untouched": untouched,
        "noise": max(kept, default=0.0),
        "parameters": compiled.n_parameters,
        "compile_seconds": seconds,
        "shape": compiled.module.shape.to_json(),
        "seconds_kind": "compile",
        **_looked_at(setting, compiled.module),
    }
    return UnitData(record=record, tables={"noise": table}, tensors=_maps(setting, compiled.module))


def _tuned(setting: Setting, job: LabJob, bench: Bench) -> UnitData:
    """A fine-tune on the new task, what came of it, and what removing one weight does."""
    spec, task, seed = setting.spec, setting.task, job.seed
    level = bench.parent(f"{task.name}-compiled").record["noise"]
    module = setting.noisy(level, seed)
    rate, share = job.payload["rate"], job.payload["correlated"]
    tests = setting.test(seed)
    before = {name: answers.accuracy(module) for name, answers in tests.items()}
    curve = setting.train(module, rate, setting.batches(seed, f"tune/{rate}/{share}", "new", share), job, bench)
    record = {"before": before, "noise": level, **_outcome(curve, module, tests)}
    if curve.ended != "broke":
        record |= _looked_at(setting, module)
        if share == 1 and task.name == "counter":
            bench.report(0, 1, "pruning")
            record["pruned"] = _pruned(setting, module, seed)
    back = share in spec.back_correlated and rate in ("medium", "large")
    curve_ = share in spec.curve_correlated and rate in spec.curve_rates
    tensors = _maps(setting, module) if curve.ended != "broke" and seed == spec.seed else {}
    if task.name == "counter" and (back or curve_):
        tensors = tensors | {f"trained.{name}": values.detach() for name, values in trained(module).items()}
    return UnitData(record=record, tables={"curve": _table(curve)}, tensors=tensors)


def _never(setting: Setting, job: LabJob, bench: Bench) -> UnitData:
    """A program of the new task alone: what removing one weight does where the old task never was."""
    level = bench.parent(f"{setting.task.name}-compiled").record["noise"]
    module = setting.noisy(level, job.seed, never=True)
    accuracy = {name: answers.accuracy(module) for name, answers in setting.test(job.seed).items()}
    record = {"final": accuracy, "noise": level, "pruned": _pruned(setting, module, job.seed)}
    return UnitData(record=record | _looked_at(setting, module))


def _curve(setting: Setting, job: LabJob, bench: Bench) -> UnitData:
    """Weights and neurons of one fine-tune set to zero one after another, with every control beside."""
    spec, seed = setting.spec, job.seed
    level = bench.parent("counter-compiled").record["noise"]
    module = _stored(setting, bench.parent(job.payload["of"]), level, seed)
    if module is None:
        return UnitData(record={"reason": "its fine-tune broke"})
    record: dict[str, Any] = {"noise": level}
    if job.payload["correlated"] < 1:
        bench.report(0, 1, "one weight")
        record["pruned"] = _pruned(setting, module, seed)
    score_on, choose_on = (setting.answers(seed, use, spec.choose, "old", 0.0) for use in ("score", "choose"))
    tests = setting.test(seed, "shown")
    task = PruneTask.of_answers(score_on, choose_on, {name: tests[name] for name in ("old/0", "new/100")})
    tables = {}
    for kind in KINDS:
        found = prune(
            module,
            task,
            kind,
            most=spec.most,
            counts=[k for k in COUNTS if k < spec.most] + [spec.most],
            orders=("gradient", "again", "leave_one_out"),
            tried=max(spec.candidates, spec.most),
            untouched=setting.noisy(level, seed),
            never=setting.noisy(level, seed, never=True),
            seed=seed,
            progress=lambda done, total, kind=kind: bench.report(done, total, f"remove {kind}"),
        )
        record[kind] = {
            f"{c.who}/{c.how}/{c.draw}": {
                "k": c.chosen,
                "lift": c.at("old/0") - c.at("old/0", 0),
                **{name: c.at(name) for name in c.show},
            }
            for c in found.curves
        }
        tables[kind] = pd.DataFrame(found.rows())
    return UnitData(record=record, tables=tables)


def _stored(setting: Setting, tuned: UnitData, level: float, seed: int) -> nn.Module | None:
    """A fine-tune that was kept; None where it broke."""
    if tuned.record["ended"] == "broke":
        return None
    module = setting.noisy(level, seed)
    with torch.no_grad():
        for name, values in trained(module).items():
            values.copy_(tuned.tensors[f"trained.{name}"])
    return module


def _back(setting: Setting, job: LabJob, bench: Bench) -> UnitData:
    """Training on the old task again, on strings as they come: of a fine-tune, or of a program that never had it."""
    task, seed = setting.task, job.seed
    base = bench.parent(f"{task.name}-compiled")
    level = base.record["noise"]
    if "of" in job.payload:
        kept = _stored(setting, bench.parent(job.payload["of"]), level, seed)
        if kept is None:
            return UnitData(record={"ended": "broke", "final": None, "reason": "its fine-tune broke"})
        module = kept
    else:
        module = setting.noisy(level, seed, never=True)
    batches = setting.batches(seed, "back", "old", None)
    curve = setting.train(module, job.payload["rate"], batches, job, bench)
    record = _outcome(curve, module, setting.test(seed))
    return UnitData(record=record, tables={"curve": _table(curve)})


def _outcome(curve: Curve, module: nn.Module, tests: Mapping[str, Answers]) -> dict[str, Any]:
    """What a training came to; a diverged one has no accuracies."""
    broke = curve.ended == "broke"
    return {
        "losses": list(curve.losses),
        "ended": curve.ended,
        "final": None if broke else {name: answers.accuracy(module) for name, answers in tests.items()},
        "reason": "training diverged" if broke else "",
    }


def _table(curve: Curve) -> pd.DataFrame:
    return pd.DataFrame({"step": curve.steps, "old/0": curve.values, **dict(curve.others.items())})


def _pruned(setting: Setting, module: nn.Module, seed: int) -> dict[str, Any]:
    """One weight, against the best of many random ones: chosen on uncorrelated strings, shown on others."""
    spec = setting.spec
    score_on = setting.answers(seed, "score", spec.choose, "old", 0.0)
    choose_on = setting.answers(seed, "choose", spec.choose, "old", 0.0)
    shown = setting.test(seed, "shown")
    found = single_weight(
        module,
        PruneTask.of_answers(score_on, choose_on, shown),
        seed=seed,
        candidates=spec.candidates,
        random=spec.random,
    )
    result = found.to_json()
    unit = found.best.unit
    if unit is None:
        raise TrainingError("single_weight must find a weight, got none.")
    classes = len(setting.compiled.outputs.values)
    result["before_classes"] = shown["old/0"].histogram(module, classes)
    with zeroed(module, [unit]):
        result["after_classes"] = shown["old/0"].histogram(module, classes)
    result["right_classes"] = torch.bincount(shown["old/0"].labels, minlength=classes).tolist()
    result["value"] = _entry(module, unit)
    result["says"] = _direction(setting.compiled, unit)
    return result


def _entry(module: nn.Module, unit: Unit) -> float:
    matrix = module.get_parameter(f"blocks.{unit.block}.{unit.part}.weight").detach()
    return float(matrix[unit.index])


def _direction(compiled: Compiled, unit: Unit) -> str:
    """The direction of the stream that a weight reads or writes."""
    row, column = unit.index
    reads = unit.part in ("attn.q", "attn.k", "attn.v", "mlp.up")
    return f"{'reads' if reads else 'writes'} {compiled.directions[column if reads else row]}"


def _looked_at(setting: Setting, module: nn.Module) -> dict[str, Any]:
    """Attention of the answering position in the block that counts, by what is attended to, mean over strings."""
    task, compiled = setting.task, setting.compiled
    answers = setting.answers(setting.spec.seed, "attention", LOOK, "old", 0.0)
    block = min(1, compiled.module.shape.layers - 1)
    maps = attention_maps(module, answers.ids, answers.mask)[block][:, 0, task.answer_row]  # (n, T)
    if task.name != "counter":
        return {"attention": {"beginning": float(maps[:, 0].mean())}}
    said = {"old": task.old, "new": task.new, "end": task.letters, "beginning": compiled.beginning}
    shares = {name: float((maps * (answers.ids == token)).sum(1).mean()) for name, token in said.items()}
    return {"attention": {**shares, "others": 1 - sum(shares.values())}}


def _maps(setting: Setting, module: nn.Module) -> dict[str, Tensor]:
    """Attention maps and first-MLP activations on one correlated string."""
    answers = setting.answers(setting.spec.seed, "example", 1, "old", 1.0)
    maps = attention_maps(module, answers.ids, answers.mask)
    site = Site.parse("block.0.mlp.neurons")
    _, kept = capture(module, answers.ids, [site], mask=answers.mask)
    return {
        "example": answers.ids[0].to(torch.int64),
        "attention": torch.stack([m[0, 0] for m in maps]),
        "activations": kept[site][0].detach(),
    }
