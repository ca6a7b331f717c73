"""Ten thousand choices of the organism through the public code, against the shortest path that its size allows.

The peer does by hand what suits an organism: prompts of one length in full batches, no padding, no shared beginnings,
`local_llama.end_logits` at the last position. The public code may take 1.3 times as long an item.
"""

import time
from typing import Any

import numpy as np
import torch

from benchmarks.rows import in_turns, row
from benchmarks.serving import counted_flops
from gnothi._version import __version__
from gnothi.behaviours.preferences import domain_for
from gnothi.models import local_llama
from gnothi.models.local import LocalModel
from gnothi.models.organism import organism_folder
from gnothi.records import Messages
from gnothi.render.wordings import wording_for
from gnothi.rng import stream

N, REPEATS = 10_000, 5
BATCH = 170
"""Prompts of a forward pass: about 2,000 tokens, which stay in the cache."""
SLOWER = 1.3
"""Times as long, at most."""


def choices(n: int, agents: int = 50) -> list[Messages]:
    """`n` choice items of organism agents, as the experiments put them."""
    domain, wording = domain_for("organism"), wording_for("organism")
    found: list[Messages] = []
    contexts = domain.contexts(agents, seed=0)
    for c in contexts:
        items = domain.draw_items(c, -(-n // agents), rng=stream(0, "benchmarks", c.context_id), prefix="items")
        found += [wording.choice(item, c) for item in items]
    return found[:n]


def by_hand(model: LocalModel, prompts: list[Messages], options: tuple[str, ...], batch: int = BATCH) -> np.ndarray:
    """Log-probabilities of the options, (n_prompts, n_options), each one token."""
    prompt_ids, answer_ids = model.codec.encode_many(prompts, [options] * len(prompts))
    answers = torch.tensor(answer_ids)[..., 0]
    by_length: dict[int, list[int]] = {}
    for i, ids in enumerate(prompt_ids):
        by_length.setdefault(len(ids), []).append(i)
    found = np.zeros((len(prompts), len(options)))
    with torch.inference_mode(), model.attached() as module:
        for same in by_length.values():
            for start in range(0, len(same), batch):
                taken = same[start : start + batch]
                ids = torch.tensor([prompt_ids[i] for i in taken])
                logits = local_llama.end_logits(module, ids, 1)[:, -1].float()
                found[taken] = torch.log_softmax(logits, -1).gather(1, answers[taken]).numpy()
    return found


def run(n: int = N, repeats: int = REPEATS) -> list[dict[str, Any]]:
    """One row."""
    torch.set_num_threads(1)
    model = LocalModel.load(organism_folder("organism"), name="organism")
    prompts, options = choices(n), wording_for("organism").options
    theirs, flops_by_hand = counted_flops(lambda: by_hand(model, prompts, options))
    mine, flops = counted_flops(lambda: model.option_logprobs(prompts, [options] * n))
    difference = float(np.abs(np.array(mine) - theirs).max())
    started = time.perf_counter()
    model.codec.encode_many(prompts, [options] * n)
    encoding = time.perf_counter() - started
    ours, peer = in_turns(
        repeats,
        lambda: model.option_logprobs(prompts, [options] * n),
        lambda: by_hand(model, prompts, options),
    )
    return [
        row(
            f"organism/{n} choices",
            amount=n,
            unit="items/s",
            ours=ours,
            peer=peer,
            peer_name="the organism's own path, by hand",
            peer_version=__version__,
            max_abs_diff=difference,
            flops={"ours": flops, "peer": flops_by_hand},
            headline=True,
            encoding_s=encoding,
            least_ratio=1 / SLOWER,
            note=f"at least {1 / SLOWER:.2f} is wanted",
        )
    ]
