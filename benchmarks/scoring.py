"""Option scoring against lm-evaluation-harness: the same options after the same tokens, by its `hf` model.

Both sides give the log-probability of every option over the whole vocabulary in float32, with one thread; the harness
uses the batch size that was fastest for it on a part of the items. Repeats are taken in turns, and the fastest counts.

Where the gain comes from is measured too. The harness applies the head at every position and takes a log-softmax over
all of them. `gains.head` is its time over the time of the very same batches with the head at one position a sequence;
`gains.rest` (shared beginnings, less around the arithmetic) is what remains, so that the ratio is their product, and
`head_share` the head's part of its logarithm. Two kinds of A/B items are asked: six of each of two agents, which begin alike
as an experiment's items do, and rows about risk that share nothing, where little but the head is left to win.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import subjects
from benchmarks.peers import Worker
from benchmarks.rows import Repeats, in_turns, row
from benchmarks.serving import counted_flops
from gnothi.models.local import LocalModel
from gnothi.records import Messages

PEER = "lm-evaluation-harness, hf"
BATCHES = (1, 2, 4, 8, 16)
"""Batch sizes tried for the harness, until two in a row are slower than the best."""
REPEATS = 4
"""Of headlines; one less elsewhere."""
LARGEST_DIFFERENCE = 1e-3
"""Nats; more than this is no comparison of like with like."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Items to score."""

    name: str
    prompts: Sequence[Messages]
    options: Sequence[Sequence[str]]
    tried: int
    """Items that batch sizes are tried on."""
    headline: bool = True

    def pairs(self, model: LocalModel, n: int | None = None) -> list[tuple[str, str]]:
        """Contexts and continuations as texts, of the first `n` items or all."""
        prompts, options = self.prompts[:n], self.options[:n]
        texts = model.codec.render(prompts)
        return [(t, model.codec.join(o)) for t, found in zip(texts, options, strict=True) for o in found]


def check_tokens(model: LocalModel, peer: Worker, case: Case) -> None:
    """Both sides must score the same tokens after the same tokens."""
    prompts, answers = model.codec.encode_many(case.prompts, case.options)
    ours = [[p, a] for p, found in zip(prompts, answers, strict=True) for a in found]
    theirs = peer.ask("encode", pairs=case.pairs(model))
    wrong = [i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
    if wrong:
        raise ValueError(
            f"{case.name}: tokens must be the same on both sides, got {ours[wrong[0]]}, {theirs[wrong[0]]}"
        )


def best_batch(peer: Worker, pairs: Sequence[tuple[str, str]]) -> tuple[int, dict[int, float]]:
    """The harness' fastest batch size, and the seconds of each that was tried."""
    peer.ask("score", pairs=pairs[: max(1, len(pairs) // 4)], batch=1)  # first calls are slow
    tried: dict[int, float] = {}
    for size in BATCHES:
        tried[size] = peer.ask("score", pairs=pairs, batch=size)["seconds"]
        best = min(tried, key=lambda b: tried[b])
        if size > best and len([b for b in tried if b > best]) >= 2:
            break
    return best, tried


def measured(model: LocalModel, peer: Worker, version: str, case: Case) -> dict[str, Any]:
    """One row."""
    repeats = REPEATS if case.headline else max(1, REPEATS - 1)
    check_tokens(model, peer, case)
    pairs = case.pairs(model)
    batch, tried = best_batch(peer, case.pairs(model, case.tried))
    counted = peer.ask("score", pairs=pairs, batch=batch, count=True)
    mine, flops = counted_flops(lambda: model.option_logprobs(case.prompts, case.options))
    difference = float(np.abs(np.concatenate(mine) - np.array(counted["logprobs"])).max())
    if not difference < LARGEST_DIFFERENCE:
        raise ValueError(f"{case.name}: log-probabilities must agree to {LARGEST_DIFFERENCE}, got {difference}")

    (headless,) = in_turns(min(2, repeats), lambda: peer.ask("headless"))
    ours, theirs = in_turns(
        repeats,
        lambda: model.option_logprobs(case.prompts, case.options),
        lambda: peer.ask("score", pairs=pairs, batch=batch),
    )
    ratio, head = min(theirs.wall) / min(ours.wall), min(theirs.wall) / min(headless.wall)
    predicted = counted["flops"] / flops
    return row(
        f"scoring/{case.name}",
        amount=len(case.prompts),
        unit="items/s",
        ours=ours,
        peer=theirs,
        peer_name=f"{PEER}, batch {batch}",
        peer_version=version,
        max_abs_diff=difference,
        flops={"ours": flops, "peer": counted["flops"]},
        headline=case.headline,
        predicted_ratio=predicted,
        share_of_predicted=ratio / predicted,
        gains={"head": head, "rest": ratio / head},
        head_share=log(head) / log(ratio) if ratio > 1.2 else None,
        headless_s=headless.wall,
        batch_sizes_s=tried,
        n_items=len(case.prompts),
        n_options=len(pairs),
        note=f"x{head:.1f} from the head, x{ratio / head:.1f} from the rest; operations predict {predicted:.1f}",
    )


def distribution(model: LocalModel, prompts: Sequence[Messages], like: dict[str, Any]) -> dict[str, Any]:
    """Numbers as a distribution, beside the harness' time for the bare options: ours also rules out longer numbers."""
    found = model.number_distribution(prompts, 0, 100)
    bare = model.option_logprobs(prompts, [tuple(map(str, range(101)))] * len(prompts))
    # a number is at most as likely as its digits as a beginning
    above = max(float((f.probabilities - np.exp(b)).max()) for f, b in zip(found, bare, strict=True))
    if above > LARGEST_DIFFERENCE:
        raise ValueError(f"number_distribution must be below the options' probabilities, got {above} above")
    (ours,) = in_turns(max(1, REPEATS - 1), lambda: model.number_distribution(prompts, 0, 100))
    return row(
        "scoring/0 to 100 as a distribution",
        amount=len(prompts),
        unit="items/s",
        ours=ours,
        peer=Repeats(like["repeats_s"]["peer"], like["cpu_s"]["peer"]),
        peer_name=like["peer_name"],
        peer_version=like["peer_version"],
        max_abs_diff=None,
        note="the peer's time is of the row above, for the digits alone",
    )


def run() -> list[dict[str, Any]]:
    """One row a case."""
    import torch

    torch.set_num_threads(1)
    rows = []
    for folder, cases in ((subjects.gemma(), on_gemma()), (subjects.small_llama(), on_small_llama())):
        rows += on_folder(folder, cases)
    return rows


def on_gemma() -> list[Case]:
    """A/B items whose beginnings are shared within an agent, A/B items that share nothing, scales, and phrases."""
    (a, b), (c, d) = subjects.preferences(12, 2), subjects.letters(16)
    (e, f), (g, h) = subjects.scales(3), subjects.phrases(5)
    on = "on Gemma 3 270M"
    return [
        Case(name=f"A/B, two agents, {on}", prompts=a, options=b, tried=8),
        Case(name=f"A/B, nothing shared, {on}", prompts=c, options=d, tried=8, headline=False),
        Case(name=f"0 to 100 {on}", prompts=e, options=f, tried=1),
        Case(name=f"four phrases {on}", prompts=g, options=h, tried=2),
    ]


def on_small_llama() -> list[Case]:
    """A/B items where the head is small: what is left is shared beginnings and overhead."""
    a, b = subjects.letters(96)
    return [Case(name="A/B on a small-vocabulary Llama", prompts=a, options=b, tried=24, headline=False)]


def on_folder(folder: Path, cases: Sequence[Case]) -> list[dict[str, Any]]:
    """The rows of one model."""
    rows = []
    model = LocalModel.load(folder, name=folder.name)
    with Worker("benchmarks.theirs.scoring") as peer:
        version = peer.ask("load", folder=str(folder))["version"]
        for case in cases:
            found = measured(model, peer, version, case)
            rows.append(found)
            if case.name.startswith("0 to 100"):
                rows.append(distribution(model, case.prompts, found))
    return rows
