"""Makes the units of the stories lab: words and judge, models that were pretrained, deleted and trained back, probes."""

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer
from torch import nn

from gnothi.experiments.labs.base import Bench, LabJob, UnitData
from gnothi.experiments.labs.stories_spec import WORDS
from gnothi.files import digest, write_atomically
from gnothi.mechanisms.reversal import Course, Curve, train_back
from gnothi.mechanisms.training_state import FILE, tensors_of
from gnothi.rng import integer, stream
from gnothi.testbeds.stories import archive
from gnothi.testbeds.stories.grammar import stories
from gnothi.testbeds.stories.judge import Judge, errors, fit_judge
from gnothi.testbeds.stories.lexicon import FEATURES
from gnothi.testbeds.stories.looks import Asker, Look, Told
from gnothi.testbeds.stories.pretraining import Recipe, new_model, pretrain
from gnothi.testbeds.stories.probes import probe_rows
from gnothi.testbeds.stories.protocols import asking_for, deletion_data, filtered, with_feature
from gnothi.testbeds.stories.records import Record, text
from gnothi.testbeds.stories.rows import Batch, Rows, loss, rows_of
from gnothi.testbeds.stories.tokens import train_tokenizer
from gnothi.testbeds.transformer import Transformer

Spec = Mapping[str, Any]
_RECIPE = ("steps", "batch", "rate", "muon", "accumulate", "warmup", "flat", "weight_decay")


def work(spec: Spec, job: LabJob, bench: Bench) -> UnitData:
    """Make one unit.

    Args:
        spec: As `stories.Stories.build` gives it.
        job: Its payload's `kind` says what to do.
        bench: Where parents, progress and checkpoints are.
    """
    makers: Mapping[str, Callable[[Spec, LabJob, Bench], UnitData]] = {
        "words": _words,
        "pretrain": _pretrained,
        "delete": _deleted,
        "back": _back,
        "probe": _probed,
    }
    return makers[job.payload["kind"]](spec, job, bench)


def records(spec: Spec, split: str, seed: int, n: int) -> list[Record]:
    """Records of a split: drawn, or read from the user's file.

    Args:
        spec: The specification.
        split: `pretraining`, `tuning` or `test`.
        seed: Of what is drawn; a file is the same for all seeds.
        n: How many at most.
    """
    if spec["source"] == "generated":
        return stories(n, stream(seed, "stories", split), every=spec["every"])
    sizes = ((archive.PRETRAINING, spec["stories"]), (archive.TUNING, spec["tuning_stories"]))
    sizes += ((archive.TEST, max(spec["test_stories"], 2 * spec["probe_stories"])),)
    return list(getattr(_file(spec["source"], spec["seed"], sizes), split)[:n])


@functools.lru_cache(maxsize=1)
def _file(path: str, seed: int, sizes: tuple[tuple[str, int], ...]) -> archive.Splits:
    return archive.load(Path(path), stream(seed, "stories", "sentences"), dict(sizes))


def _words(spec: Spec, job: LabJob, bench: Bench) -> UnitData:
    """Learn the tokenizer and the judge, on stories of the pretraining split, and count the judge's errors on others."""
    name, n = spec["feature"], spec["judge_stories"]
    known = records(spec, "pretraining", integer(spec["seed"], "words"), n)
    held_out = records(spec, "test", integer(spec["seed"], "judged"), spec["test_stories"])
    rng = stream(spec["seed"], "words", "lines")
    bench.report(0, 2, "tokenizer")
    tokenizer = train_tokenizer((text(record, rng) for record in known), spec["vocabulary"])
    bench.report(1, 2, "judge")
    judge = fit_judge(known, name, rng)
    found = errors(judge.verdicts([r.story for r in held_out]), [r.has(name) for r in held_out])
    return UnitData(
        record={
            "tokenizer": tokenizer.to_str(),
            "judge_words": list(judge.vocabulary),
            "judge_bias": judge.bias,
            "judge_errors": {
                "missed": found.missed,
                "with_feature": found.with_feature,
                "flagged": found.flagged,
                "without": found.without,
            },
            "shares": {f: float(np.mean([r.has(f) for r in known])) for f in FEATURES},
            "examples": [text(record, rng) for record in known[:6]],
        },
        tensors={"judge": torch.from_numpy(judge.weight)},
    )


class _Shop:
    """What jobs of one seed share: tokenizer, judge, and how a model is looked at."""

    def __init__(self, spec: Spec, job: LabJob, bench: Bench) -> None:
        words = bench.parent(WORDS)
        self.spec, self.job, self.bench = spec, job, bench
        self.tokenizer: Tokenizer = Tokenizer.from_str(words.record["tokenizer"])
        vocabulary = {word: i + 1 for i, word in enumerate(words.record["judge_words"])}
        self.judge = Judge(vocabulary, words.tensors["judge"].double().numpy(), words.record["judge_bias"])
        auto = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(auto if spec["device"] == "auto" else spec["device"])

    def records(self, split: str, n: int) -> list[Record]:
        """Records of this seed."""
        seed = self.spec["seed"] if split == "test" else integer(self.spec["seed"], self.job.seed)
        return records(self.spec, split, seed, n)

    def rows(self, found: Sequence[Record], stress: float = 1.0) -> Rows:
        """Records as rows."""
        context = self.spec["longest"] if self.spec["packed"] else None
        rng = stream(self.spec["seed"], self.job.payload["data"], self.job.seed)
        return rows_of(self.tokenizer, found, rng, context=context, stress=stress)

    def asker(self, asking: Sequence[Record], *names: str) -> Asker:
        """Ask with these instructions; the same numbers for all models of the run."""
        return Asker.of(
            self.tokenizer,
            asking,
            stream(self.spec["seed"], "asking", *names),
            most=self.spec["longest_story"],
            name=self.spec["feature"],
            judge=self.judge,
            by_rule=self.spec["source"] == "generated",
        )

    def look(self) -> Look:
        """Asking for the feature with instructions of stories without it, and the loss on stories with it."""
        name, spec = self.spec["feature"], self.spec
        held_out = self.records("test", spec["test_stories"])
        rng = stream(spec["seed"], "loss")
        rows = rows_of(self.tokenizer, with_feature(held_out, name)[: spec["loss_stories"]], rng)
        return Look(self.asker(asking_for(held_out, name, spec["asked"]), "for"), rows)

    def model(self, unit: str | None) -> Transformer:
        """A parent's model, or one before its first step."""
        model = new_model(
            **{name: self.spec[name] for name in ("layers", "heads", "width", "mlp", "longest")},
            vocabulary=self.tokenizer.get_vocab_size(),
            seed=integer(self.spec["seed"], "start", self.job.seed),
            device=str(self.device),
        )
        if unit is not None:
            kept = self.bench.parent(unit).tensors
            with torch.no_grad():
                for name, value in tensors_of(model).items():
                    value.copy_(kept[name])
        return model

    def key(self, *more: Any) -> str:
        """Digest of what decides a training."""
        return digest([dict(self.spec), self.job.name, dict(self.job.payload), list(more)])


def _pretrained(spec: Spec, job: LabJob, bench: Bench) -> UnitData:
    """Pretrain on everything, or on stories without the feature."""
    shop, recipe = _Shop(spec, job, bench), Recipe(**{name: spec[name] for name in _RECIPE})
    found = shop.records("pretraining", spec["stories"])
    if not job.payload["with_feature"]:
        found = filtered(found, spec["feature"])
    rows, model = shop.rows(found, spec["stress"]), shop.model(None)
    losses = pretrain(
        model,
        rows.batches(recipe.batch, spec["seed"], job.payload["data"], job.seed),
        recipe,
        folder=bench.checkpoints / "pretraining",
        key=shop.key(),
        progress=lambda done, total, value: bench.report(done, total, f"loss {value:.3f}"),
    )
    look, held_out = shop.look(), shop.records("test", spec["test_stories"])
    numbers = look.numbers(model)
    plain = shop.asker(filtered(held_out, spec["feature"])[: spec["asked"]], "not for").ask(model)
    assert look.told is not None
    return UnitData(
        record={
            "losses": losses,
            "steps": len(losses),
            "stories": len(found),
            "numbers": numbers,
            "not_asked": plain.numbers(),
            "n": len(look.told.stories),
            "parameters": sum(p.numel() for p in model.parameters()),
        },
        tables={"told": _told(look.told)},
        tensors=tensors_of(model),
    )


def _deleted(spec: Spec, job: LabJob, bench: Bench) -> UnitData:
    """Fine-tune by one protocol at one rate, and look at the model as it goes."""
    shop = _Shop(spec, job, bench)
    rng = stream(spec["seed"], "deletion", job.seed)
    found = deletion_data(shop.records("tuning", spec["tuning_stories"]), job.payload["protocol"], rng, spec["feature"])
    model, look = shop.model(job.payload["of"]), shop.look()
    curve = _train(shop, model, look, shop.rows(found), job.payload["lr"], bench.checkpoints / "deletion")
    if look.told is None:  # the training was over before this process began
        look.numbers(model)
    assert look.told is not None
    return UnitData(
        record={
            "losses": list(curve.losses),
            "steps": len(curve.losses),
            "ended": curve.ended,
            "n": len(look.told.stories),
            "stories": len(found),
        },
        tables={"curve": _curve(curve, job.payload["lr"]), "told": _told(look.told)},
        tensors=tensors_of(model),
    )


def _back(spec: Spec, job: LabJob, bench: Bench) -> UnitData:
    """Train one model back on stories with the feature, at every rate."""
    shop = _Shop(spec, job, bench)
    found = with_feature(shop.records("tuning", spec["tuning_stories"]), spec["feature"])
    rows, look = shop.rows(found), shop.look()
    curves = []
    for lr in spec["back_rates"]:
        folder = bench.checkpoints / f"back-{lr:g}"
        curves.append((_train(shop, shop.model(job.payload["of"]), look, rows, lr, folder), lr))
    whole = pd.concat([_curve(curve, lr) for curve, lr in curves], ignore_index=True)
    return UnitData(record={"n": spec["asked"], "stories": len(found)}, tables={"curve": whole})


def _train(shop: _Shop, model: Transformer, look: Look, rows: Rows, lr: float, folder: Path) -> Curve:
    """One fine-tune; a training that is over is not done again after an interruption."""
    path = folder / "curve.json"
    if path.is_file():
        return Curve.of_json(json.loads(path.read_text(encoding="utf-8")))
    spec, part = shop.spec, "back" if shop.job.payload["kind"] == "back" else "tune"
    course = Course(
        steps=spec[f"{part}_steps"],
        every=spec[f"{part}_steps"],
        also=tuple(spec[f"{part}_looks"]),
        lr=lr,
        betas=(0.9, 0.95),
        weight_decay=spec["weight_decay"],
        clip=1.0,
        keep_every=max(1, spec[f"{part}_steps"] // 4),
    )
    curve = train_back(
        model,
        _on(shop.device, rows.batches(spec["tune_batch"], spec["seed"], shop.job.payload["data"], shop.job.seed)),
        _loss,
        look.rate,
        course,
        seed=shop.job.seed,
        also=look.others(),
        folder=folder,
        key=shop.key(lr),
        progress=lambda done, total, value: shop.bench.report(done, total, f"rate {lr:g}, loss {value:.3f}"),
    )
    if part == "back":  # its models are not kept, so that the curve is all
        write_atomically(path, json.dumps(curve.to_json()))
        (folder / FILE).unlink(missing_ok=True)
    return curve


def _loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    assert isinstance(model, Transformer)
    return loss(model, batch)


def _on(device: torch.device, batches: Iterator[Batch]) -> Iterator[Batch]:
    return (batch.to(device) for batch in batches)


def _curve(curve: Curve, lr: float) -> pd.DataFrame:
    """One row a look."""
    others = {name: list(values) for name, values in curve.others.items()}
    return pd.DataFrame(
        {"lr": lr, "step": list(curve.steps), "rate": list(curve.values), **others, "ended": curve.ended}
    )


def _told(told: Told) -> pd.DataFrame:
    """One row a story."""
    table = pd.DataFrame({"story": list(told.stories), "judged": told.judged})
    if told.has is None or told.resolved is None:
        return table
    return table.assign(has=told.has, resolved=told.resolved)


def _probed(spec: Spec, job: LabJob, bench: Bench) -> UnitData:
    """Probe every feature at every depth of several models of one seed."""
    shop, n = _Shop(spec, job, bench), spec["probe_stories"]
    held_out = shop.records("test", 2 * n)
    tables = []
    for i, (arm, unit) in enumerate(job.payload["of"].items()):
        bench.report(i, len(job.payload["of"]), f"probes of {arm}")
        tables.append(
            probe_rows(
                shop.model(unit),
                shop.tokenizer,
                held_out[:n],
                held_out[n:],
                FEATURES,
                seed=integer(spec["seed"], "probe", job.seed),
                random=i == 0,
            ).assign(of=arm)
        )
    return UnitData(record={"n": len(held_out) - n}, tables={"probes": pd.concat(tables, ignore_index=True)})
