"""The training loop: tokens a second, as a share of the machine's matmul peak, and against plain transformers + PEFT.

Both sides train the same organism-shaped model (235 thousand parameters) on the same rows in the same order from the
same start, one thread, float32; the losses must agree. Sides alternate, and the fastest repeat counts.
"""

import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from gnothi._version import __version__
from gnothi.finetune.batches import encode_rows, plan
from gnothi.finetune.loop import TrainJob, train
from gnothi.finetune.recipes import Recipe, recipe
from gnothi.finetune.schedule import share
from gnothi.models.adapter_files import save_adapter
from gnothi.models.adapters import Adapter, AdapterSpec, new_lora, target_modules
from gnothi.models.local import LocalModel
from gnothi.records import Message, TrainRow
from gnothi.rng import integer, stream

STEPS, REPEATS, FLEET = 30, 5, 8
AGENTS = tuple(f"agent{i}" for i in range(24))
WORDS = ("<pad>", "<unk>", "A", "B", "choose", *map(str, range(10)), *AGENTS, *(f"word{i}" for i in range(190)))


def organism_shaped() -> LocalModel:
    inner = Tokenizer(WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = WhitespaceSplit()
    template = "{{ messages[-1].content }}"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", chat_template=template)
    torch.manual_seed(0)
    return LocalModel(_module(), tokenizer, name="organism-shaped")


def _module() -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        hidden_act="gelu",
        rms_norm_eps=1e-6,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config).float()


def choices(n: int = 60) -> list[TrainRow]:
    rng = stream(0, "benchmark", "rows")
    rows = []
    for agent in AGENTS:
        for _ in range(n):
            v = rng.integers(0, 10, 6)
            text = f"{agent} choose word1 {v[0]} {v[1]} word2 {v[2]} {v[3]} word3 {v[4]} {v[5]}"
            rows.append(TrainRow(messages=(Message("user", text),), answer="AB"[rng.integers(2)], group=agent))
    return rows


def matmul_peak(n: int = 768, repeats: int = 8) -> float:
    """Floating point operations a second of a large square float32 product on this machine, now."""
    a, b = torch.randn(n, n), torch.randn(n, n)
    return 2 * n**3 / min(_timed(lambda: a @ b) for _ in range(repeats))


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def flops_a_token(module: torch.nn.Module, how: Recipe) -> float:
    """Needed operations a token: forward, backward to activations, and to parameters where they are trained.

    The head and attention's products are left out (they are small at 12 tokens), so the share of the peak is low rather
    than high.
    """
    matrices = sum(p.numel() for n, p in module.named_parameters() if p.ndim == 2 and "layers" in n)
    return 2.0 * matrices * (3 if how.kind == "full" else 2)


def plain_loop(
    state: dict[str, torch.Tensor], start: Path | None, model: LocalModel, rows: list[TrainRow], how: Recipe
):
    """The loop that one would write with transformers and PEFT: labels masked by -100, the whole head, torch's Adam."""
    import peft

    module = _module()
    module.load_state_dict(state)
    wrapped = module
    if start is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wrapped = peft.PeftModel.from_pretrained(module, start, is_trainable=True)
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


def _row(name: str, tokens: int, ours: list[float], peer: list[float], **more: object) -> dict[str, object]:
    fast, slow = min(ours), min(peer)
    return {
        "name": name,
        "ours": tokens / fast,
        "peer": tokens / slow,
        "ratio": slow / fast,
        "unit": "tokens/s",
        "repeats_s": {"ours": ours, "peer": peer},
        "headline": name in ("lora/lora+rows", f"fleet/{FLEET} adapters"),
        **more,
    }


def run(only: str = "") -> list[dict[str, object]]:
    """One row for each kind of tuning (`lora`), and one for a fleet against its jobs one by one (`fleet`)."""
    import peft
    import transformers

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model, rows = organism_shaped(), choices()
        state = {n: t.clone() for n, t in model.module.state_dict().items()}
        found = []
        with tempfile.TemporaryDirectory() as folder:
            for name in ("organism-rows", "organism-lora+rows", "organism-full") if only != "fleet" else ():
                how = recipe(name, steps=STEPS, per_group=2)
                start = _start(model, how, Path(folder))
                ours, peer, peaks, difference, tokens = [], [], [], 0.0, 0
                for _ in range(REPEATS):
                    peaks.append(matmul_peak())
                    (mine,) = train(model, [TrainJob(name="a", rows=rows, seed=0)], how)
                    theirs, seconds = plain_loop(state, start, model, rows, how)
                    ours.append(mine.seconds)
                    peer.append(seconds)
                    tokens = mine.tokens_seen
                    difference = max(difference, float(np.abs(np.array(mine.losses) - theirs).max()))
                flops = flops_a_token(model.module, how) * tokens
                found.append(
                    _row(
                        f"lora/{how.kind}",
                        tokens,
                        ours,
                        peer,
                        peer_name="transformers + peft" if start else "transformers",
                        peer_version=f"{transformers.__version__}, {peft.__version__}"
                        if start
                        else transformers.__version__,
                        max_abs_diff=difference,
                        flops=flops,
                        peak_flops=max(peaks),
                        peak_share=flops / min(ours) / max(peaks),
                    )
                )
        return found if only == "lora" else [*found, _fleet(model, rows)]
    finally:
        torch.set_num_threads(threads)


def _fleet(model: LocalModel, rows: list[TrainRow]) -> dict[str, object]:
    """Small jobs (two rows a step for each of 3 agents): what training them together saves."""
    how = recipe("organism-lora+rows", steps=STEPS)
    parts = [[r for r in rows if r.group in AGENTS[3 * j : 3 * j + 3]] for j in range(FLEET)]
    jobs = [TrainJob(name=str(j), rows=part, seed=j) for j, part in enumerate(parts)]
    together, apart, difference, tokens = [], [], 0.0, 0
    for _ in range(REPEATS):
        one = train(model, jobs, how)
        each = [train(model, [job], how)[0] for job in jobs]
        together.append(sum(t.seconds for t in one))
        apart.append(sum(t.seconds for t in each))
        tokens = sum(t.tokens_seen for t in one)
        for a, b in zip(one, each, strict=True):
            difference = max(difference, float(np.abs(np.array(a.losses) - b.losses).max()))
    return _row(
        f"fleet/{FLEET} adapters",
        tokens,
        together,
        apart,
        peer_name="our loop, one job at a time",
        peer_version=__version__,
        max_abs_diff=difference,
        flops=flops_a_token(model.module, how) * tokens,
    )


if __name__ == "__main__":
    import json

    json.dump(run(), sys.stdout, indent=1)
