"""The training loop: rows a second against TRL's `SFTTrainer` with PEFT, with the same losses, and peak memory.

On Gemma 3 270M both sides train the same adapter (LoRA of rank 16 on all linear layers, the same start) on the same
rows about risk in the same order, all of one length so that nobody pads, with AdamW, the same clipping and learning
rates, the loss on the answer only, one thread. Each side has a process of its own. TRL's clock runs from the beginning
of its first step to the end of its last one; ours over the whole call, tokens included. TRL gets what is fastest for it
here: no packing, no logging, no checkpointing of activations; `nll` is the one loss of its that makes no logits of the
whole vocabulary, and on a CPU it goes over all positions. A plain loop with PEFT that applies the head to answers only
stands beside it.

On the organism's shape the peer is a plain loop in this process.
"""

import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import subjects
from benchmarks.organism_shape import AGENTS, WORDS, choices, largest_difference, module, organism_shaped
from benchmarks.peak import flops_a_token, matmul_peak
from benchmarks.peers import Worker
from benchmarks.rows import in_turns, row
from gnothi.finetune.batches import encode_rows, plan
from gnothi.finetune.loop import TrainJob, train
from gnothi.finetune.recipes import Recipe, recipe
from gnothi.finetune.schedule import share
from gnothi.models.adapter_files import save_adapter
from gnothi.models.adapters import Adapter, AdapterSpec, new_lora, target_modules
from gnothi.models.local import LocalModel
from gnothi.records import TrainRow
from gnothi.rng import integer

STEPS, REPEATS = 6, 3
BRIEF_STEPS, BRIEF_REPEATS = 2, 2
"""For bfloat16."""
POOL = 6000
"""Rows from which those of one length are taken."""
ORGANISM_STEPS, ORGANISM_REPEATS = 30, 5
TOLERANCE = {"float32": 1e-2, "bfloat16": 0.15}
"""Nats by which losses may differ."""


def run() -> list[dict[str, Any]]:
    """Rows on Gemma, then on the organism's shape."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [*on_folder(subjects.gemma(), "Gemma 3 270M"), *on_organism_shape()]
    finally:
        torch.set_num_threads(threads)


def on_folder(
    folder: Path, name: str, *, steps: int = STEPS, repeats: int = REPEATS, brief: int = BRIEF_STEPS, pool: int = POOL
) -> list[dict[str, Any]]:
    """Ours, TRL and the plain loop on a model's folder; then ours and TRL in bfloat16.

    Args:
        folder: The model.
        name: What the rows call it.
        steps: Optimiser steps of 8 rows.
        repeats: Of each side.
        brief: Steps in bfloat16.
        pool: Rows to choose from.
    """
    rows = []
    with (
        tempfile.TemporaryDirectory() as starts,
        Worker("benchmarks.own_training", ours=True) as mine,
        Worker("benchmarks.theirs.training") as trl,
        Worker("benchmarks.theirs.training") as plain,
    ):
        sides = {"ours": mine, "trl": trl, "plain": plain}
        said = {side: worker.ask("load", folder=str(folder)) for side, worker in sides.items()}
        for dtype, n_steps in (("float32", steps), ("bfloat16", brief)):
            how = recipe("small-lm", epochs=None, steps=n_steps, warmup=2, dtype=dtype, packing=False)
            n = n_steps * (how.batch_rows or 1)
            told = mine.ask(
                "prepare", name=dtype, n_rows=n, recipe=how.to_json(), seed=0, folder=f"{starts}/{dtype}", pool=pool
            )
            if dtype == "float32":
                rows += _measured(sides, how, told, name, said["trl"], repeats)
            else:
                rows += _measured(sides | {"plain": None}, how, told, f"{name}, bfloat16", said["trl"], BRIEF_REPEATS)
    with tempfile.TemporaryDirectory() as starts, Worker("benchmarks.theirs.training") as trl:
        # TRL's default recomputes activations, which is slower and smaller; only its memory is of interest
        trl.ask("load", folder=str(folder))
        rows[0]["memory_mb"]["peer_checkpointing"] = _memory_of_checkpointing(trl, folder, starts, pool)
    return rows


def _told(how: Recipe, prepared: dict[str, Any]) -> dict[str, Any]:
    """What a peer is told of a training."""
    settings = {k: getattr(how, k) for k in ("lr", "betas", "weight_decay", "clip")}
    return {
        "adapter": prepared["adapter"],
        "rows": prepared["rows"],
        "batch": how.batch_rows,
        "how": {**settings, "bf16": how.dtype == "bfloat16"},
        "factors": prepared["factors"],
    }


def _memory_of_checkpointing(trl: Worker, folder: Path, starts: str, pool: int) -> float:
    how = recipe("small-lm", epochs=None, steps=1, packing=False)
    with Worker("benchmarks.own_training", ours=True) as mine:
        mine.ask("load", folder=str(folder))
        told = _told(
            how,
            mine.ask("prepare", name="a", n_rows=8, recipe=how.to_json(), seed=0, folder=f"{starts}/a", pool=pool),
        )
    return float(trl.ask("trl", **told, checkpointing=True)["memory"]["peak"])


def _measured(
    sides: dict[str, Worker | None], how: Recipe, prepared: dict[str, Any], name: str, versions: Any, repeats: int
) -> list[dict[str, Any]]:
    """A row against TRL, and one against the plain loop where there is one."""
    told = _told(how, prepared)
    first: dict[str, Any] = {}

    def call(side: str, worker: Worker) -> Callable[[], dict[str, Any]]:
        def ask() -> dict[str, Any]:
            if side == "ours":
                said = worker.ask("run", name=how.dtype, recipe=how.to_json(), seeds=[0])
            else:
                said = worker.ask(side, **told, **({"checkpointing": False} if side == "trl" else {}))
            first.setdefault(side, said)
            return said

        return ask

    live = {side: worker for side, worker in sides.items() if worker is not None}
    times = dict(zip(live, in_turns(repeats, *(call(s, w) for s, w in live.items())), strict=True))
    mine = first["ours"]
    rows = []
    for side, title in (("trl", "TRL SFTTrainer + PEFT"), ("plain", "PEFT in a plain loop, head at answers only")):
        if side not in times:
            continue
        theirs = first[side]
        difference = largest_difference(mine["losses"][0], theirs["losses"])
        if not difference < TOLERANCE[how.dtype]:
            raise ValueError(f"lora/{name}: losses must agree to {TOLERANCE[how.dtype]}, got {difference} from {title}")
        peaks = {"ours": mine["memory"]["peak"], "peer": theirs["memory"]["peak"]}
        share = mine["needed_flops"] / min(times["ours"].wall) / mine["matmul_peak"]
        rows.append(
            row(
                f"lora/{name}" if side == "trl" else f"lora/{name}, plain loop",
                amount=len(told["rows"]),
                unit="rows/s",
                ours=times["ours"],
                peer=times[side],
                peer_name=title,
                peer_version=versions["version" if side == "trl" else "plain"],
                max_abs_diff=difference,
                headline=side == "trl" and how.dtype == "float32",
                flops=mine["needed_flops"],
                peak_flops=mine["matmul_peak"],
                peak_share=share if how.dtype == "float32" else None,
                losses={"ours": mine["losses"][0], "peer": theirs["losses"]},
                memory_mb=peaks,
                tokens_a_row=prepared["tokens_a_row"],
                note=f"peak memory {peaks['ours']:.0f} against {peaks['peer']:.0f} MB",
            )
        )
    return rows


def plain_loop(
    state: dict[str, torch.Tensor], start: Path | None, model: LocalModel, rows: list[TrainRow], how: Recipe
) -> tuple[list[float], float]:
    """The loop that one would write with transformers and PEFT: labels masked by -100, the whole head, torch's Adam."""
    import peft

    inner = module()
    inner.load_state_dict(state)
    wrapped = inner
    if start is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wrapped = peft.PeftModel.from_pretrained(inner, start, is_trainable=True)
    encoded = encode_rows(model.codec, rows, False)
    steps = plan([r.group for r in rows], how, 0)
    rated = {True: [], False: []}
    for name, parameter in wrapped.named_parameters():
        if parameter.requires_grad:
            rated["trainable_tokens" in name].append(parameter)
    groups = [{"params": ps, "lr": lr} for ps, lr in ((rated[False], how.lr), (rated[True], how.row_lr)) if ps]
    optimizer = torch.optim.Adam(groups, betas=how.betas)
    peaks = [g["lr"] for g in optimizer.param_groups]
    losses = []
    started = time.perf_counter()
    for s, taken in enumerate(steps):
        ids = torch.tensor([encoded[i].ids for i in taken])
        labels = torch.full_like(ids, -100)
        labels[:, -1] = ids[:, -1]
        loss = wrapped(input_ids=ids, labels=labels).loss
        loss.backward()
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * share(s, len(steps), how.warmup, how.decay)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
    return losses, time.perf_counter() - started


def _start(model: LocalModel, how: Recipe, folder: Path) -> Path | None:
    """Our starting adapter as a PEFT folder, so that both sides begin at the same place."""
    if how.kind == "full":
        return None
    names = target_modules(model.module, how.targets) if "lora" in how.kind else []
    ids = tuple(WORDS.index(a) for a in AGENTS) if "rows" in how.kind else ()
    adapter = Adapter(
        spec=AdapterSpec(kind=how.kind, rank=how.rank, alpha=how.alpha, targets=tuple(names), row_token_ids=ids),
        lora=new_lora(model.module, names, how.rank, integer(0, "lora")) if names else {},
        rows=model.module.get_input_embeddings().weight[list(ids)].clone() if ids else None,
    )
    save_adapter(adapter, folder / how.kind, model.module)
    return folder / how.kind


def on_organism_shape(steps: int = ORGANISM_STEPS, repeats: int = ORGANISM_REPEATS) -> list[dict[str, Any]]:
    """One row for each kind of tuning."""
    import peft
    import transformers

    model, rows = organism_shaped(), choices()
    state = {n: t.clone() for n, t in model.module.state_dict().items()}
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("organism-rows", "organism-lora+rows", "organism-full"):
            how = recipe(name, steps=steps, per_group=2)
            start = _start(model, how, Path(folder))
            kept: dict[str, Any] = {"difference": 0.0, "peak": 0.0}

            def ours(how: Recipe = how, kept: dict[str, Any] = kept) -> None:
                (kept["ours"],) = train(model, [TrainJob(name="a", rows=rows, seed=0)], how)

            def peer(how: Recipe = how, kept: dict[str, Any] = kept, start: Path | None = start) -> dict[str, float]:
                cpu = time.process_time()
                losses, seconds = plain_loop(state, start, model, rows, how)
                kept["difference"] = max(kept["difference"], largest_difference(kept["ours"].losses, losses))
                kept["peak"] = max(kept["peak"], matmul_peak())
                return {"seconds": seconds, "cpu_s": time.process_time() - cpu}

            mine, theirs = in_turns(repeats, ours, peer)
            tokens = kept["ours"].tokens_seen
            flops = flops_a_token(model.module, how.kind) * tokens
            versions = f"transformers {transformers.__version__}"
            found.append(
                row(
                    f"lora/organism's shape, {how.kind}",
                    amount=tokens,
                    unit="tokens/s",
                    ours=mine,
                    peer=theirs,
                    peer_name="transformers + PEFT, a plain loop" if start else "transformers, a plain loop",
                    peer_version=f"{versions}, peft {peft.__version__}" if start else versions,
                    max_abs_diff=kept["difference"],
                    flops=flops,
                    peak_flops=kept["peak"],
                    peak_share=flops / min(mine.wall) / kept["peak"],
                )
            )
    return found
