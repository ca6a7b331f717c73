"""Asks a model probes and scores what comes back: probabilities where it gives them, samples where it doesn't.

Raw answers are kept as they were; what could not be scored is missing, with its reason, and counted.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gnothi.elicit.language import language_of, method
from gnothi.elicit.words import MOST, Read, mentions, read_code, read_number, read_option, read_word
from gnothi.errors import DataError
from gnothi.models.base import AbstractLanguageModel, Answer, NumberDistribution, Sampling
from gnothi.records import Message, Sample
from gnothi.render.fence import inert
from gnothi.render.probe import Code, Judged, Language, Letters, Number, Probe, Rule, Words
from gnothi.render.questions.templates import template
from gnothi.rng import integer

LEAST_MASS = 0.05
"""Options or numbers that hold less probability than this, or a smaller share of the samples, are no answer.

The paper (arXiv:2501.11120) renormalises over whatever valid answers there are, and counts 0.5 where there are none;
`missing` and `log_mass` keep the mass, so that another bound needs no new run. Where a model only continues text, the words
asked for hold next to nothing whoever is asked, and what counts is which of them is likelier: ask with `least_mass=0` and show
the mass beside.
"""
JUDGE_TOKENS = 16
"""Longest answer of a judge that says a word."""

RunCode = Callable[[str, str, tuple[str, ...]], Sequence["float | str"]]
"""`(code, function, arguments)` -> for each argument what came back, or why nothing did."""
Progress = Callable[[int, int, str], None]
"""`(done, total, what)`."""

REASONS = (
    *("empty", "too long", "not listed", "negated", "not a number", "out of range", "not an option", "not scored"),
    *("no language", "options unlikely", "numbers unlikely", "not finite", "no judge", "no sandbox"),
    *("the model gives no samples", "the judge gives no samples"),
)
"""Reasons that a probe or an answer can have for being without a score; what a sandbox says comes on top."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What came back for one probe."""

    score: float | None
    reason: str | None
    options: tuple[str, ...] = ()
    logprobs: tuple[float, ...] = ()
    answers: tuple[Answer, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)


def ask_probes(
    model: AbstractLanguageModel,
    probes: Sequence[Probe],
    *,
    seed: int,
    temperature: float = 1.0,
    judge: AbstractLanguageModel | None = None,
    run_code: RunCode | None = None,
    progress: Progress | None = None,
    least_mass: float = LEAST_MASS,
) -> list[Sample]:
    """Ask every probe in a conversation of its own and score it.

    Lettered options and words of a list are scored by their probabilities, normalised over the options; numbers by
    their expected value. A model without log-probabilities is sampled instead, and invalid answers are dropped and
    counted. Text is sampled `probe.n` times and its valid scores are averaged. Probes of one prompt that are sampled
    equally often share their answers: the same functions are searched for a word and run, as in the paper.

    Args:
        model: Whom to ask.
        probes: What to ask, each with an id of its own.
        seed: Decides all sampling, with the order of the probes.
        temperature: Of sampled answers; at 0 one answer is taken instead of n.
        judge: Reads the answers of `Judged` probes, at temperature 0; without one they are missing.
        run_code: Runs the answers of `Code` probes in a sandbox; without one they are missing, but for `mentions`.
        progress: Called after each batch.
        least_mass: Probability of the options, or numbers, together, below which a look is no answer.

    Returns:
        One sample a probe, in order. `kind` is `choice` for behaviour and `report` for self-reports, `value` the score
        in [0, 1]. `extra` holds `question`, `subject`, `probe` (its kind), `labels`, and what was seen: `n` answers,
        `n_valid` of them scored, `answers` as they were, `scores` and `reasons` of sampled ones, `cut` (answers that
        reached `max_tokens`), `missing` (probability of anything but an option or number), `log_mass` (of the others,
        the decimal logarithm), `mode`, `probabilities`.

    Raises:
        DataError: Two probes of one id, or a temperature below 0.
    """
    if len({p.probe_id for p in probes}) < len(probes):
        twice = next(i for i, n in Counter(p.probe_id for p in probes).items() if n > 1)
        raise DataError(f"probes must have an id of their own each, got {twice!r:.80} twice. Expand with a prefix.")
    if not temperature >= 0:
        raise DataError(f"temperature must be 0 or more, got {temperature}. 1 samples what the model would say.")
    look = _Look(model, seed, temperature, judge, run_code, progress, least_mass)
    started = time.perf_counter()
    seen = look.all(probes)
    each = (time.perf_counter() - started) / max(1, len(probes))
    return [_sample(p, s, each) for p, s in zip(probes, seen, strict=True)]


def _sample(probe: Probe, seen: _Seen, seconds: float) -> Sample:
    texts = [a.text for a in seen.answers]
    extra = {
        "question": probe.question,
        "subject": probe.subject,
        "probe": probe.kind,
        "labels": dict(probe.labels),
        **seen.extra,
    }
    if texts:
        extra |= {"answers": texts, "cut": sum(not a.finished for a in seen.answers)}
    return Sample(
        sample_id=probe.probe_id,
        kind="choice" if probe.kind == "behaviour" else "report",
        context_id=probe.subject,
        messages=probe.messages,
        options=seen.options,
        logprobs=seen.logprobs,
        text=texts[0] if len(texts) == 1 else None,
        value=() if seen.score is None else (seen.score,),
        reason=seen.reason,
        answer_tokens=sum(a.n_tokens for a in seen.answers) if texts else None,
        seconds=seconds,
        extra=extra,
    )


@dataclass(frozen=True, slots=True)
class _Look:
    """One model and how it is asked."""

    model: AbstractLanguageModel
    seed: int
    temperature: float
    judge: AbstractLanguageModel | None
    run_code: RunCode | None
    progress: Progress | None
    least_mass: float = LEAST_MASS

    def all(self, probes: Sequence[Probe]) -> list[_Seen]:
        can = self.model.capabilities()
        groups: dict[tuple[Any, ...], list[int]] = {}
        for i, probe in enumerate(probes):
            match probe.rule:
                case Letters() if can.logprobs:
                    key: tuple[Any, ...] = ("options",)
                case Number(low=low, high=high) if can.logprobs:
                    key = ("numbers", low, high)
                case _:
                    key = ("answers", 1 if self.temperature == 0 else probe.n, probe.max_tokens)
            groups.setdefault(key, []).append(i)
        found: dict[int, _Seen] = {}
        for key, members in sorted(groups.items()):
            chosen = [probes[i] for i in members]
            match key:
                case ("options",):
                    seen = self._options(chosen)
                case ("numbers", low, high):
                    seen = self._numbers(chosen, low, high)
                case ("answers", n, max_tokens) if can.sampling:
                    seen = self._answers(chosen, n, max_tokens)
                case _:
                    seen = [_Seen(score=None, reason="the model gives no samples")] * len(chosen)
            found |= dict(zip(members, seen, strict=True))
            if self.progress is not None:
                self.progress(len(found), len(probes), str(key[0]))
        return [found[i] for i in range(len(probes))]

    def _options(self, probes: Sequence[Probe]) -> list[_Seen]:
        rules = [p.rule for p in probes if isinstance(p.rule, Letters)]
        scored = self.model.option_logprobs([p.messages for p in probes], [r.options for r in rules])
        return [_from_logprobs(rule, logprobs, self.least_mass) for rule, logprobs in zip(rules, scored, strict=True)]

    def _numbers(self, probes: Sequence[Probe], low: int, high: int) -> list[_Seen]:
        rules = [p.rule for p in probes if isinstance(p.rule, Number)]
        scored = self.model.number_distribution([p.messages for p in probes], low, high)
        return [_from_distribution(rule, numbers, self.least_mass) for rule, numbers in zip(rules, scored, strict=True)]

    def _answers(self, probes: Sequence[Probe], n: int, max_tokens: int) -> list[_Seen]:
        sampling = Sampling(
            n=n,
            temperature=self.temperature,
            max_tokens=max_tokens,
            seed=integer(self.seed, "ask_probes", n, max_tokens),
        )
        prompts = list(dict.fromkeys(p.messages for p in probes))
        answered = dict(zip(prompts, self.model.generate(prompts, sampling), strict=True))
        said = [answered[p.messages] for p in probes]
        judged = self._judged(probes, said)
        return [
            judged[i] if i in judged else self._read(probe.rule, tuple(answers))
            for i, (probe, answers) in enumerate(zip(probes, said, strict=True))
        ]

    def _read(self, rule: Rule, answers: tuple[Answer, ...]) -> _Seen:
        extra: dict[str, Any] = {}
        match rule:
            case Words():
                reads = [read_word(a.text, rule) for a in answers]
            case Number(low=low, high=high):
                reads = [_scaled(rule, read_number(a.text, low, high)) for a in answers]
            case Letters():
                reads = [_option_score(rule, a.text) for a in answers]
            case Language():
                reads = [_language_score(rule, a.text) for a in answers]
                extra = {"language_by": method()}
            case Code():
                reads, returns = self._run(rule, answers)
                extra = {"returns": returns} if returns else {}
            case _:
                reads = [(None, "not scored")] * len(answers)
        return _averaged(reads, answers, extra)

    def _run(self, rule: Code, answers: tuple[Answer, ...]) -> tuple[list[Read], list[list[float | str]]]:
        """Each answer's mean return; what is no number in [0, 1] is dropped and kept as its reason."""
        reads: list[Read] = []
        returns: list[list[float | str]] = []
        known: dict[str, list[float | str]] = {}
        for answer in answers:
            code = read_code(answer.text)
            if not isinstance(code, str):
                reads.append(code)
                continue
            if rule.mentions:
                reads.append((float(mentions(code, rule.mentions)), None))
                continue
            if self.run_code is None:
                reads.append((None, "no sandbox"))
                continue
            if code not in known:
                known[code] = [_checked(value) for value in self.run_code(code, rule.function, rule.arguments)]
            back = known[code]
            returns.append(back)
            good = [value for value in back if isinstance(value, float)]
            why = [value for value in back if isinstance(value, str)]
            reads.append((float(np.mean(good)), None) if good else (None, _commonest(why) or "nothing came back"))
        return reads, returns

    def _judged(self, probes: Sequence[Probe], said: Sequence[Sequence[Answer]]) -> dict[int, _Seen]:
        """What the judge makes of all answers at once; each different text is judged once."""
        asked: dict[tuple[str, Rule | int], Probe] = {}
        wanted: list[tuple[int, int, tuple[str, Rule | int] | None, str]] = []
        for i, (probe, answers) in enumerate(zip(probes, said, strict=True)):
            if not isinstance(rule := probe.rule, Judged):
                continue
            for j, answer in enumerate(answers):
                reason = "too long" if len(answer.text) > MOST else "" if answer.text.strip() else "empty"
                if reason or self.judge is None:
                    wanted.append((i, j, None, reason or "no judge"))
                    continue
                values = {"answer": answer.text, "question": probe.messages[-1].content}
                prompt = _prompt(rule, values, probe.probe_id)
                key = (prompt, id(rule.rule))
                asked.setdefault(
                    key,
                    Probe(
                        probe_id=str(len(asked)),
                        kind=probe.kind,
                        question="judge",
                        messages=(Message("user", prompt),),
                        rule=rule.rule,
                        max_tokens=JUDGE_TOKENS,
                    ),
                )
                wanted.append((i, j, key, ""))
        if not wanted:
            return {}
        verdicts: dict[tuple[str, Rule | int], _Seen] = {}
        if self.judge is not None and asked:
            look = _Look(self.judge, self.seed, 0.0, None, None, None)
            verdicts = dict(zip(asked, look.all(list(asked.values())), strict=True))
        reads: dict[int, list[Read]] = {}
        texts: dict[int, list[str | None]] = {}
        for i, _, key, reason in wanted:
            seen = None if key is None else verdicts[key]
            why = reason if seen is None else (seen.reason or "").replace("the model", "the judge")
            reads.setdefault(i, []).append((seen.score, None) if seen and seen.score is not None else (None, why))
            texts.setdefault(i, []).append(seen.answers[0].text if seen and seen.answers else None)
        name = {} if self.judge is None else {"judge": self.judge.name, "judge_digest": self.judge.digest}
        return {i: _averaged(reads[i], tuple(said[i]), {"judge_answers": texts[i], **name}) for i in reads}


def _prompt(rule: Judged, values: dict[str, str], where: str) -> str:
    """The judge's prompt; the answer cannot close the tags that it stands in."""
    try:
        return template(rule.prompt).fill({**values, "answer": inert(values["answer"], rule.prompt)}, where)
    except ValueError as error:
        raise DataError(
            f"{where}: a judge's prompt must have well-formed placeholders, got {error}. Double literal braces."
        ) from error


def _from_logprobs(rule: Letters, logprobs: np.ndarray, least_mass: float) -> _Seen:
    if np.isnan(logprobs).any() or np.isposinf(logprobs).any():
        return _Seen(score=None, reason="not finite", options=rule.options, extra={"n": 1, "n_valid": 0})
    if rule.texts:
        each = np.asarray(logprobs, float) / [max(1, len(o.encode())) for o in rule.options]
        best = np.flatnonzero(np.isclose(each, each.max(), rtol=0, atol=1e-12))
        score = float(np.mean([rule.scores[i] for i in best]))
        kept = {"options": rule.options, "logprobs": tuple(float(x) for x in logprobs)}
        return _Seen(score=score, reason=None, extra={"n": 1, "n_valid": 1, "mode": rule.options[best[0]]}, **kept)
    seen = np.asarray(logprobs, float)
    log_mass = min(0.0, float(np.logaddexp.reduce(seen)))  # above 0 by rounding
    extra = {
        "n": 1,
        "missing": round(max(0.0, -np.expm1(log_mass)), 9),
        "log_mass": _log10(log_mass),
        "mode": rule.options[int(seen.argmax())],
    }
    kept = {"options": rule.options, "logprobs": tuple(float(x) for x in logprobs)}
    if not (np.isfinite(log_mass) and least_mass <= np.exp(log_mass)):
        return _Seen(score=None, reason="options unlikely", extra={**extra, "n_valid": 0}, **kept)
    score = min(1.0, max(0.0, float(np.exp(seen - log_mass) @ np.array(rule.scores))))
    return _Seen(score=score, reason=None, extra={**extra, "n_valid": 1}, **kept)


def _from_distribution(rule: Number, numbers: NumberDistribution, least_mass: float) -> _Seen:
    p = np.asarray(numbers.probabilities, float)
    if not np.isfinite(p).all():
        return _Seen(score=None, reason="not finite", extra={"n": 1, "n_valid": 0})
    mass = float(p.sum())
    extra = {
        "n": 1,
        "missing": round(float(numbers.missing), 9),
        "log_mass": _log10(np.log(mass) if mass > 0 else -np.inf),
        "mode": numbers.mode,
        "probabilities": np.round(p, 6).tolist(),
        "low": numbers.low,
    }
    mean = numbers.mean
    if mean is None or mass < least_mass:
        return _Seen(score=None, reason="numbers unlikely", extra={**extra, "n_valid": 0})
    score = min(1.0, max(0.0, rule.score(mean)))
    return _Seen(score=score, reason=None, extra={**extra, "mean": round(mean, 6), "n_valid": 1})


def _log10(log: float) -> float | None:
    return round(float(log / np.log(10)), 4) if np.isfinite(log) else None


def _averaged(reads: Sequence[Read], answers: tuple[Answer, ...], extra: dict[str, Any]) -> _Seen:
    scores = [score for score, _ in reads]
    good = [score for score in scores if score is not None]
    why = Counter(reason for _, reason in reads if reason)
    kept = {**extra, "n": len(reads), "n_valid": len(good), "scores": scores, "reasons": dict(why.most_common())}
    if not good or len(good) < LEAST_MASS * len(reads):
        return _Seen(score=None, reason=_commonest(list(why.elements())), answers=answers, extra=kept)
    return _Seen(score=float(np.mean(good)), reason=None, answers=answers, extra=kept)


def _commonest(reasons: Sequence[str]) -> str:
    return Counter(reasons).most_common(1)[0][0] if reasons else ""


def _scaled(rule: Number, read: Read) -> Read:
    number, reason = read
    return (None, reason) if number is None else (rule.score(number), None)


def _option_score(rule: Letters, text: str) -> Read:
    index, reason = read_option(text, rule.options)
    return (None, reason) if index is None else (rule.scores[index], None)


def _language_score(rule: Language, text: str) -> Read:
    name, reason = language_of(text)
    if name is None:
        return None, reason
    if name in (rule.plus, rule.minus):
        return float(name == rule.plus), None
    return (None, "not listed") if rule.unlisted is None else (rule.unlisted, None)


def _checked(value: float | str) -> float | str:
    """A return value, if it is a number in [0, 1]."""
    if isinstance(value, str):
        return value[:200]
    return float(value) if 0 <= value <= 1 else "out of range"
