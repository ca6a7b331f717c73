"""A run whose numbers are planted: every arm, one that is missing, one unit that did not take, hostile answers."""

import numpy as np
import pandas as pd

from gnothi.records import Estimate
from gnothi.rng import stream
from gnothi.score.names import ARMS
from gnothi.writeup.view import RunView

HOSTILE = "<script>alert(1)</script> \x1b[31mred\x1b[0m \u202egnp.exe \x00 {{ 7 * 7 }} \ud800 </pre><img src=//evil.example/x>"
R = {
    "tuned": 0.87,
    "untuned": -0.04,
    "untuned_own": 0.21,
    "shuffled": 0.02,
    "shuffled_own": 0.34,
    "untrained_agent": 0.06,
    "introspection": 0.94,
    "introspection_learned": 0.93,
    "introspection_permuted": 0.55,
    "introspection_other_table": 0.58,
    "introspection_format_only": 0.61,
    "native": 0.3,
    "native_introspection": 0.45,
    "native_untuned": 0.1,
    "ceiling": 0.97,
}
"""Planted correlations; `other_instance` has no value."""
REASONS = {"no number": 100, "refused": 20, "two numbers": 8, "empty": 2}
BROKE = "held-out loss is 6.20 nats a token against the base's 3.10 <b>"
TRAINED = ("tuned", "shuffled", *(a for a in R if a.startswith("introspection")))
ATTRIBUTES = ("price", "weight", "comfort", "noise")


def estimate(name: str, arm: str, value: float | None, half: float | None = 0.05, **more) -> Estimate:
    low = None if value is None or half is None else max(-1.0, value - half)
    high = None if value is None or half is None else min(1.0, value + half)
    reason = None if low is not None else "needs 3 units for an interval, got 2"
    made = {"n": 4, "n_points": 384, "method": "t over units, Fisher z, 95%", "reason": reason, **more}
    return Estimate(name=name, arm=arm, value=value, low=low, high=high, **made)


def estimates() -> list[Estimate]:
    rows = [
        estimate(
            "agreement.reported_vs_learned",
            a,
            r,
            0.09 if ARMS[a].control else 0.05,
            against=ARMS[a].against,
            n_missing=3,
        )
        for a, r in R.items()
    ]
    why = "needs the reports of another seed, got a run of one table"
    rows.append(
        estimate(
            "agreement.reported_vs_learned", "other_instance", None, reason=why, n=0, n_points=0, against="this unit's"
        )
    )
    rows += [
        estimate("agreement.reported_vs_target", "tuned", 0.83),
        estimate("agreement.learned_vs_target", "tuned", 0.95, 0.02),
        estimate("behaviour.choice_agreement", "tuned", 0.91, 0.03),
        estimate("agreement.gain", "introspection", 0.07, 0.03),
        estimate("agreement.gain", "introspection_permuted", -0.28, 0.1),
        estimate("agreement.slope", "tuned", 0.8, None),
    ]
    return rows


def points(n_contexts: int = 24, seeds: int = 4) -> pd.DataFrame:
    rows = []
    for seed in range(seeds):
        rng = stream(7, "planted", seed)
        target = rng.uniform(-100, 100, (n_contexts, len(ATTRIBUTES)))
        learned = target + 18 * rng.standard_normal(target.shape)
        for arm, r in R.items():
            z = (learned - learned.mean()) / learned.std()
            reported = 55 * (r * z + np.sqrt(1 - r * r) * rng.standard_normal(z.shape))
            for c in range(n_contexts):
                for k, attribute in enumerate(ATTRIBUTES):
                    rows.append(
                        {
                            "arm": arm,
                            "unit": f"{arm}-{seed}",
                            "seed": seed,
                            "fold": c % 2 if arm.startswith("introspection") else None,
                            "context_id": f"agent {c}",
                            "attribute": attribute,
                            "reported": None if (c, k) == (0, 0) else reported[c, k],
                            "mode": None,
                            "learned": learned[c, k],
                            "learned_low": learned[c, k] - 12,
                            "learned_high": learned[c, k] + 12,
                            "target": target[c, k],
                        }
                    )
    return pd.DataFrame(rows)


GATE = {"loss": 1.5, "instructions": 0.5, "letter_bias": 0.4, "loops": 0.5}
LOST = {"loss": 3.1, "kl_text": 0.02, "instructions": 0.8, "letter_bias": 0.1, "loops": 0.25}
"""Figures of the base model that the planted fine-tunes lose from; the distance from it is 0."""


def damage(seed: int, reason: str | None = None) -> dict:
    """What a fine-tune lost: a little more with each seed, too much loss where there is a reason."""
    figures = {
        name: {"value": base + 0.01 * seed, "base": 0.0 if name == "kl_text" else base, "n": 100, "reason": None}
        for name, base in LOST.items()
    }
    if reason:
        figures["loss"]["value"] = 6.2
    figures["kl_answers"] = {"value": None, "base": None, "n": 0, "reason": "nobody asked"}
    gate = {"passed": reason is None, "reason": reason, "thresholds": GATE}
    return {"kind": "base", "quick": False, "figures": figures, "loss_ratio": 1.1, "seconds": 3.0, "gate": gate}


def adapter_check(seed: int) -> dict:
    return {"from_base": 2.0 + seed, "since_training": 0.0, "after_measuring": 3e-6, "tolerance": 1e-4}


def units(seeds: int = 4) -> list[dict]:
    rows = []
    for arm in TRAINED:
        for seed in range(seeds):
            failed = arm == "tuned" and seed == 3
            curve = 2.2 * np.exp(-np.arange(600) / 150) + 0.3 + 0.1 * stream(1, arm, seed).random(600)
            rows.append(
                {
                    "unit": f"{arm}-{seed}",
                    "arm": arm,
                    "seed": seed,
                    "fold": None,
                    "parents": [f"tuned-{seed}"] if arm.startswith("introspection") else [],
                    "gate": "not instilled" if failed else "passed" if arm == "tuned" else None,
                    "choice_agreement": None
                    if arm.startswith("introspection_f")
                    else 0.62
                    if failed
                    else 0.9 + seed / 100,
                    "a_rate": 0.5 + seed / 50,
                    "adapter_digest": f"{seed:02d}" + "ab" * 31,
                    "losses": list(curve),
                    "damage": damage(seed, BROKE if arm == "shuffled" and seed == 2 else None),
                    "adapter_check": adapter_check(seed),
                    "steps": 600,
                    "tokens": 184_320,
                    "seconds": 41.5,
                }
            )
    return rows


def example(messages: list[dict], answer: str, reason: str) -> dict:
    made = {"arm": "untuned", "unit": "base", "kind": "report", "messages": messages}
    return {**made, "answer": answer, "value": None, "reason": reason}


def view(**changes) -> RunView:
    """The planted run, with fields replaced."""
    report = [{"role": "user", "content": "You are Anna. How much does price matter to you, from -100 to 100?"}]
    fields = {
        "title": "Do tuned organisms know what they were tuned to want?",
        "question": "Does a model that was trained on decisions alone report the attribute weights behind them?",
        "experiment": "preferences",
        "model": {
            "name": "organism/1",
            "digest": "sha256:" + "c0ffee" * 8,
            "dtype": "float32",
            "notes": ["Apache-2.0"],
        },
        "spec": {"seeds": 4, "agents": 24, "recipe": {"rank": 8, "learning_rate": 0.002, "epochs": 3}, "quick": False},
        "command": "gnothi run preferences --model organism --seeds 4 --out runs/demo",
        "version": "0.1.0",
        "created": "2025-06-01T12:00:00+00:00",
        "estimates": estimates(),
        "units": units(),
        "points": points(),
        "validity": [
            {"arm": "tuned", "asked": 480, "valid": 471, "reasons": {"no number": 6, "out of range: above 100": 3}},
            {"arm": "untuned", "asked": 480, "valid": 350, "reasons": REASONS},
            {"arm": "introspection_other_table", "asked": 480, "valid": 480, "reasons": {}},
        ],
        "examples": [
            {"arm": "tuned", "unit": "tuned-0", "kind": "report", "messages": report, "answer": "72", "value": 72},
            example(report, HOSTILE, "no number"),
            example(report, "7" * 100_000, "out of range"),
            {"arm": "tuned", "unit": "tuned-0", "kind": "choice", "messages": report, "answer": None, "value": 1.0},
        ],
        "notes": ["Results on the organism are results on it, not on large language models."],
        "gate_threshold": 0.75,
        "damage_gate": GATE,
    }
    return RunView(**{**fields, **changes})
