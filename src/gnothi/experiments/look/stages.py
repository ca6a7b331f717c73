"""The stages of a look at one model: each returns the rows of its tables and facts for the unit's record.

Rows hold plain values only. What stands in a table is every number that the page and the estimates are made from.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from gnothi.errors import ModelError
from gnothi.experiments.look import back, maps, undo
from gnothi.experiments.look.bench import LookBench, spaced
from gnothi.experiments.look.prompts import CHOICE, OPTIONS, REPORT, Prompt, opposite_pairs
from gnothi.experiments.look.readout import undone
from gnothi.mechanisms.curves import steps_to
from gnothi.mechanisms.probing import probe as fit_with_controls
from gnothi.mechanisms.random_values import reinitialised
from gnothi.mechanisms.sites import Site
from gnothi.rng import integer, stream

SAME = 0.02
"""Largest difference between a readout at hand and the stored one, in nats: two ways of adding up the same numbers."""
MOST_PROBED, FOLDS, SHUFFLES = 300, 3, 1
FACTORS = {"organism": 4, "hf": 8}
"""How many times more units are undone from one try to the next."""

Found = dict[str, Any]


def read(bench: LookBench) -> Found:
    """Readouts of base and tuned model on every prompt, and the streams at the answer's position.

    Raises:
        ModelError: No choices that can be read, or a model that is not the one that was measured.
    """
    prompts = bench.prompts
    if len(prompts.choice) < 8 or prompts.choice[0].kind != OPTIONS:
        raise ModelError(
            f"choices of {bench.unit.name} must be between two options with different first tokens, at least 8 of them, "
            f"got {len(prompts.choice)} (and {prompts.left_out[CHOICE]} of other kinds). Look at a run whose models choose."
        )
    rows: list[dict[str, Any]] = []
    bench.say(0, 1, "read choices")
    values = {m: np.zeros(len(prompts.choice)) for m in ("base", "tuned")}
    for name, found in values.items():
        found[bench.split.others] = bench.others_read[name][0]
        found[bench.split.shown] = getattr(bench.choices_crossed, name)
    sets = {**dict.fromkeys(bench.split.others, "others"), **dict.fromkeys(bench.split.shown, "shown")}
    sets |= dict.fromkeys(bench.split.tried, "tried") | dict.fromkeys(bench.split.choosing, "choosing")
    rows += [_read(CHOICE, p, sets[i], {m: v[i] for m, v in values.items()}) for i, p in enumerate(prompts.choice)]
    if bench.report:
        bench.say(0, 1, "read self-reports")
        seen = bench.reports_crossed
        rows += [
            _read(REPORT, p, "shown", {"base": seen.base[i], "tuned": seen.tuned[i]})
            for i, p in enumerate(bench.report)
        ]
    off = max((abs(r["tuned"] - r["stored"]) for r in rows if r["stored"] is not None), default=0.0)
    if off > SAME * max(1.0, max(abs(r["tuned"]) for r in rows)):
        raise ModelError(
            f"{bench.unit.name} must say what it said when it was measured, got readouts that are off by {off:.3g}. "
            "Look on the kind of machine that the run was made on."
        )
    return {
        "tables": {"prompts": rows},
        "facts": {
            "n_choices": len(prompts.choice),
            "n_reports": len(bench.report),
            "left_out": prompts.left_out,
            "reproduced_to": off,
            "report_kind": bench.report[0].kind if bench.report else None,
            "n_blocks": bench.body.n_blocks,
            "n_heads": bench.body.n_heads,
        },
    }


def _read(what: str, prompt: Prompt, used: str, values: dict[str, float]) -> dict[str, Any]:
    return {
        "what": what,
        "sample_id": prompt.sample_id,
        "kind": prompt.kind,
        "set": used,
        "base": float(values["base"]),
        "tuned": float(values["tuned"]),
        "stored": prompt.stored,
        "sign": -1 if prompt.flipped and prompt.kind == OPTIONS else 1,
    }


def choice_sites(bench: LookBench) -> Found:
    """Which sites carry the choice: base's activations in the tuned model and the other way round."""
    return {"tables": {"choice_sites": _sites(bench, bench.choices_crossed, CHOICE, bench.split.shown)}}


def report_sites(bench: LookBench) -> Found:
    """The same of the self-report."""
    rows = _sites(bench, bench.reports_crossed, REPORT, None) if bench.report else []
    return {"tables": {"report_sites": rows}}


def _sites(bench: LookBench, seen: maps.Crossed, what: str, shown: list[int] | None) -> list[dict[str, Any]]:
    body, spec = bench.body, bench.spec
    sites = maps.taken_apart(body)
    rows = []
    for direction in (maps.INTO_TUNED, maps.INTO_BASE):
        for site in sites:
            for at_end in (False, True):
                share = seen.share(site, direction, at_end=at_end)
                rows.append(_site(site, direction, "attribution", at_end, share))
    both = {s: _mean([seen.share(s, d) for d in (maps.INTO_TUNED, maps.INTO_BASE)]) for s in sites}
    rows += [_site(s, "both", "attribution", False, share) for s, share in both.items()]
    known = {s: v for s, v in both.items() if v is not None}
    top = maps.foremost(known, spec.exact)
    rest = [s for s in known if s.kind in ("attn", "mlp", "head") and s not in top]
    order = stream(spec.seed, "look", "random sites", what).permutation(len(rest))
    drawn = [rest[int(i)] for i in order[: spec.exact]]
    # exactly on fewer items; of choices, on those that changed models are shown on, so that numbers can be compared
    if shown is None:
        which = spaced(len(bench.report), max(2, min(spec.tried, len(bench.report))))
        reader = bench.reader(what, which)
    else:
        which = [shown.index(i) for i in bench.split.tried]
        reader = bench.reader(what, bench.split.tried)
    gap, tuned = seen.gap[which], seen.tuned[which]
    bench.say(0, 1, f"patch {len(top) + len(drawn)} sites of the {what.replace('_', '-')}")
    exact = maps.exchanged(bench.pair, reader, [*top, *drawn], maps.INTO_TUNED)
    for site in (*top, *drawn):
        share = undone(gap, tuned - exact[site])
        how = "exact" if site in top else "exact, random site"
        rows.append(_site(site, maps.INTO_TUNED, how, False, share))
    if shown is None:
        return rows
    for at_end in (False, True):
        exact = maps.exchanged(bench.pair, reader, bench.depths, maps.INTO_TUNED, at_end=at_end)
        for site in bench.depths:
            share = undone(gap, tuned - exact[site])
            rows.append(_site(site, maps.INTO_TUNED, "exact", at_end, share))
    return rows


def _site(site: Site, direction: str, method: str, at_end: bool, share: float | None) -> dict[str, Any]:
    return {
        "site": str(site),
        "kind": site.kind,
        "block": site.block,
        "head": site.head,
        "direction": direction,
        "method": method,
        "at_end": at_end,
        "share": share,
    }


def item_sites(bench: LookBench) -> Found:
    """Within each model: which sites carry the choice from an item to one with the opposite choice."""
    seen, reader = bench.choices_crossed, bench.reader(CHOICE, bench.split.shown)
    signs = np.array([-1.0 if p.flipped else 1.0 for p in reader.prompts])
    rows: list[dict[str, Any]] = []
    facts: dict[str, Any] = {}
    for model in ("base", "tuned"):
        values = signs * (seen.tuned if model == "tuned" else seen.base)
        pairs = opposite_pairs(values, n=bench.spec.pairs, seed=bench.spec.seed)
        facts[f"pairs_{model}"] = len(pairs)
        if not pairs:
            continue
        estimated = maps.between_items(seen, model, bench.body, signs, pairs)
        rows += [_site(s, model, "attribution", True, share) for s, share in estimated.items()]
        if model == "tuned":
            top = maps.foremost(estimated, bench.spec.exact)
            bench.say(0, 1, f"patch {len(top)} sites between items")
            some = pairs[: 2 * bench.spec.tried]
            exact = maps.patched_between(bench.pair.tuned, reader, seen, model, signs, some, top)
            rows += [_site(s, model, "exact", True, share) for s, share in exact.items()]
    return {"tables": {"item_sites": rows}, "facts": facts}


def probe(bench: LookBench) -> Found:
    """By depth, whether the option that the tuned model chooses can be read off streams at the answer's position.

    The same labels are read off the base's streams and off those of a model with random values.
    """
    table = [r for r in bench.found["read"]["tables"]["prompts"] if r["what"] == CHOICE]
    labels = np.array([r["tuned"] * r["sign"] > 0 for r in table])
    order = stream(bench.spec.seed, "look", "probed").permutation(len(labels))[:MOST_PROBED]
    # equal prompts are in one fold: a probe that has seen its test item has learnt it by heart
    first: dict[tuple[int, ...], int] = {}
    prompts = bench.prompts.choice
    fold = np.array([first.setdefault(prompts[i].ids, len(first)) % FOLDS for i in order.tolist()])
    n = {bool(v): int((labels[order] == v).sum()) for v in (True, False)}
    if min(n.values()) < 2 * FOLDS:
        return {"tables": {"probes": []}, "facts": {"probed": f"{min(n.values())} items of the rarer choice"}}
    sites = bench.depths
    bench.say(0, 1, "read streams of a random model")
    fresh = reinitialised(bench.pair.base, integer(bench.spec.seed, "look", "random"))
    read_off = {"random": maps.streams(fresh, bench.reader(CHOICE, order.tolist()), sites)[1]}
    del fresh
    for name in ("base", "tuned"):
        read_off[name] = {}
        for site in sites:
            every = np.zeros((len(labels), bench.body.width), np.float32)
            every[bench.split.others] = bench.others_read[name][1][site]
            every[bench.split.shown] = bench.choices_crossed.ends[name][site]
            read_off[name][site] = every[order]
    streams = {name: {s: torch.from_numpy(x) for s, x in by_site.items()} for name, by_site in read_off.items()}
    rows = []
    for j, site in enumerate(sites):
        bench.say(j, len(sites), "fit probes")
        for name in ("base", "tuned"):
            scores: dict[str, list[float]] = {"trained": [], "shuffled": []}
            if name == "tuned":
                scores["random_init"] = []
            for f in range(FOLDS):
                train, test = torch.from_numpy(fold != f), torch.from_numpy(fold == f)
                there = torch.from_numpy(labels[order].astype(np.int64))
                if len(there[test].unique()) < 2 or len(there[train].unique()) < 2:
                    continue
                found = fit_with_controls(
                    streams[name][site][train],
                    there[train],
                    streams[name][site][test],
                    there[test],
                    classes=2,
                    seed=integer(bench.spec.seed, "look", "probe", f),
                    random_train_x=streams["random"][site][train] if name == "tuned" else None,
                    random_test_x=streams["random"][site][test] if name == "tuned" else None,
                    shuffles=SHUFFLES,
                )
                for key, values in scores.items():
                    values.append(getattr(found, key).balanced)
            rows += [
                {"site": str(site), "block": site.block, "model": name, "probe": key, "balanced": _mean(values)}
                for key, values in scores.items()
            ]
    return {"tables": {"probes": rows}, "facts": {"n_probed": len(order), "probed": None}}


def undo_units(bench: LookBench) -> Found:
    """Whether a few units undo the fine-tune; the same units' share of the self-report's change besides."""
    scoring = bench.items(CHOICE, bench.split.others[: 2 * bench.spec.tried])
    others = bench.items(CHOICE, bench.split.others[: bench.spec.tried])
    reader, base, tuned = scoring
    bench.say(0, 1, "score units")
    units = undo.scored(bench.pair, reader, tuned - base)
    draws = [stream(bench.spec.seed, "look", "random units", i).permutation(units.n) for i in range(undo.DRAWS)]
    found, largest = np.argsort(-units.scores, kind="stable"), np.argsort(-units.sizes, kind="stable")
    ks = undo.counts(units.n, FACTORS[bench.spec.model_family])
    shown = bench.items(CHOICE, bench.split.tried)
    bench.say(0, 1, "undo the foremost units")
    rows = undo.curve(bench.pair, units, {"found": found}, ks, {"choosing": others, "shown": shown})
    chosen = undo.enough(rows, items="choosing", order="found") or units.n
    few = sorted({*ks[:: 2 if len(ks) > 4 else 1]} - {units.n} | {chosen})
    bench.say(0, 1, "undo units for comparison")
    rows += undo.curve(bench.pair, units, {"largest": largest, "random": draws[0]}, few, {"shown": shown})
    for i, order in enumerate(draws[1:], 1):
        rows += undo.curve(bench.pair, units, {f"random {i}": order}, [chosen], {"shown": shown})
    if bench.report:
        rows += undo.curve(bench.pair, units, {"found": found}, [chosen], {REPORT: bench.items(REPORT)})
    places = [{"name": name, "n": n} for name, n in units.places(found[:chosen].tolist()).items()]
    return {
        "tables": {"undo": rows, "undo_places": places},
        "facts": {"units": units.n, "undo_chosen": chosen, "undo_enough": chosen < units.n},
    }


def train_back(bench: LookBench) -> Found:
    """Reverse fine-tuning at every rate of the look, on choices; what becomes of the self-report is looked at with it."""
    spec = bench.spec
    others = bench.split.others
    base, _ = bench.readouts(CHOICE)
    rows = back.rows([bench.prompts.choice[i] for i in others], base[others])
    items = {
        "choosing": bench.items(CHOICE, bench.split.choosing),
        "shown": bench.items(CHOICE, bench.split.tried),
    }
    if bench.report:
        items[REPORT] = bench.items(REPORT, spaced(len(bench.report), max(2, min(spec.tried, len(bench.report)))))
    curves = {}
    for i, factor in enumerate(spec.rates):
        curves[factor] = back.trained_back(
            bench.local,
            bench.adapter,
            bench.recipe,
            rows,
            items,
            factor=factor,
            steps=spec.steps,
            seed=integer(spec.seed, "look", "back", bench.unit.seed),
            step=lambda done, total, i=i: bench.say(done, total, f"train back, rate {i + 1} of {len(spec.rates)}"),
        )
    choice = back.chosen_rate(curves, "choosing")
    table = [
        {"rate": factor, "chosen": factor == choice.lr, "items": name, "step": step, "share": share}
        for factor, by_items in curves.items()
        for name, curve in by_items.items()
        for step, share in zip(curve.steps, curve.values, strict=True)
    ]
    reached = {name: steps_to(curve, back.BACK, stays=2) for name, curve in curves[choice.lr].items()}
    facts = {
        "rate": choice.lr,
        "rate_at_edge": choice.at_edge,
        "back": {name: r.steps for name, r in reached.items()},
        "back_within": spec.steps,
        "back_rows": len(rows),
    }
    return {"tables": {"back": table}, "facts": facts}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None
