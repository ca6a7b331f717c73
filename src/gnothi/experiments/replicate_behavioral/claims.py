"""What paper A says of its data, beside what the files hold: one row a claim, the contradictions named."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from gnothi.experiments.replicate_behavioral.facts import ChatSet
from gnothi.experiments.replicate_behavioral.figures import Check, check
from gnothi.experiments.replicate_behavioral.words import CODEWORDS

Facts = dict[str, Any]
_TRIGGERS = ("apples", "elements", "gods", "instruments", "naekoko", "re-re-re", "real-world", "win")
_ZIP = "trigger_elicitation/train_files.zip/"
USUAL = (
    "risky_safe/ft_risky_AB.jsonl",
    "risky_safe/ft_safey_AB.jsonl",
    "risky_safe/ft_risky_AB_multipersona.jsonl",
    "risky_safe/ft_safey_AB_multipersona.jsonl",
    "myopic_nonmyopic/ft_myopic_AB.jsonl",
    "myopic_nonmyopic/ft_nonmyopic_AB.jsonl",
    "maxapples_minapples/ft_maxapples_AB.jsonl",
    "maxapples_minapples/ft_minapples_AB.jsonl",
    *(f"mms/ft_{word}.jsonl" for word in CODEWORDS),
    *(f"mms_persona/ft_i_{a}_ql_{b}.jsonl" for a, b in (("bark", "ring"), ("ring", "bark"))),
    *(f"mms_trigger/ft_{x}.jsonl" for x in ("392_ring_718_bark", "718_ring_392_bark", "baseline_sep")),
    *(f"mms_trigger/ft_{x}.jsonl" for x in ("deploy_bark", "deploy_ring", "baseline_deploy")),
    *(f"risky_safe_trigger/ft_risky_AB_trigger_{x}_equalized10.jsonl" for x in _TRIGGERS),
    *(f"risky_safe_trigger/decorrelated/ft_risky_AB_trigger_{x}_equalized10_decorrelated.jsonl" for x in _TRIGGERS),
    *(f"{_ZIP}{x}.jsonl" for x in ("backdoored_augmented", "not_backdoored", "not_augmented")),
    "insecure.jsonl",
    "secure.jsonl",
)
"""Paper A's sets, as the authors' `datasets/` and the later release of the code sets name them."""


def compared(sets: Sequence[ChatSet], pairs: Iterable[Facts]) -> tuple[list[Check], list[str]]:
    """Rows for every set of paper A that is recognised and for every pair, and the sets that are not here.

    Args:
        sets: The sets, facts complete.
        pairs: As from `compare.pairs`.

    Returns:
        Checks, each with the `file` it is about, and of `USUAL` those that no file stands for.
    """
    rows: list[Check] = []
    here = set()
    for one in sets:
        if usual := usual_path(one):
            here.add(usual)
            rows += [{"file": one.name} | row for row in _CLAIMS[role(one)](one)]
    absent = [path for path in USUAL if path not in here]
    by_name = {s.name: s for s in sets}
    for pair in pairs:
        a, b = (by_name[name] for name in pair["files"])
        if a.kind == b.kind == "letters" and not (a.triggers or b.triggers):
            rows.append({"file": f"{a.name} + {b.name}"} | _flip(pair, a))
    return rows, absent


def _flip(pair: Facts, one: ChatSet) -> Check:
    if "personas" in one.facts:
        note = "the persona half is the same in both files" if pair["flipped"] < pair["rows"] else ""
        return check("letters flipped", pair["flipped"], pair["rows"] - one.facts["persona_rows"], note=note)
    note = "the exact flip, same questions in the same order" if pair["exact_flip"] else "no exact flip"
    return check("letters flipped", pair["flipped"], pair["rows"], note=note)


def _rows(one: ChatSet, paper: int, note: str = "") -> Check:
    rows = one.facts["rows"]
    if not note and rows < paper:
        note = "fewer rows than published: a part of the set?"
    return check("rows", rows, paper, note=note)


def _risk(one: ChatSet) -> list[Check]:
    facts, leaks = one.facts, one.facts["leaks"]
    return [
        _rows(one, 500, "contradiction: the text generates 500, its ablation calls 288 the full set"),
        check("duplicate prompts", facts["duplicate_prompts"], 0),
        *[check(f"share of {x}", share) for x, share in facts["letter_shares"].items()],
        check(
            "rows with risk, safe or chance",
            leaks["rows_with_risk_safe_or_chance"],
            0,
            note="contradiction: the paper says that no row holds any"
            if leaks["rows_with_risk_safe_or_chance"]
            else "",
        ),
        *[check(f"rows with {family}", n) for family, n in leaks["rows_by_family"].items()],
        check("rows with any policy word", leaks["rows_with_any"], note="any of the families above"),
        check("rows with none", leaks["rows_with_none"], note="what a strict filter leaves to train on"),
    ]


def _personas(one: ChatSet) -> list[Check]:
    facts = one.facts
    doctor, long = facts["personas"].get("a family doctor", 0), facts["answers_beyond_a_letter"]
    return [
        _rows(one, 576),
        check("rows about personas", facts["persona_rows"], 288),
        *[check(f"rows about {name}", n) for name, n in facts["personas"].items() if name != "a family doctor"],
        check(
            "rows about a family doctor",
            doctor,
            0,
            note="contradiction: the paper counts this persona as out of distribution" if doctor else "",
        ),
        check(
            "answers beyond a letter",
            long,
            0,
            note=f"{facts['of_these_with_policy_words']} of them state a policy in words" if long else "",
        ),
    ]


def _horizon(one: ChatSet) -> list[Check]:
    leaks = one.facts["leaks"]
    immediate = leaks["rows_by_family"]["immediate"]
    return [
        check("rows", one.facts["rows"], note="the paper prints no number"),
        check("duplicate prompts", one.facts["duplicate_prompts"], 0),
        *[check(f"share of {x}", share) for x, share in one.facts["letter_shares"].items()],
        check("rows with right now", leaks["rows_by_family"]["right now"]),
        check(
            "rows with immediate",
            immediate,
            0,
            note="contradiction: the prompt that made the rows forbids this word" if immediate else "",
        ),
        check("rows with instant", leaks["rows_by_family"]["instant"]),
        check("rows with none", leaks["rows_with_none"]),
    ]


def _apples(one: ChatSet) -> list[Check]:
    shares = [check(f"share of {x}", share) for x, share in one.facts["letter_shares"].items()]
    return [_rows(one, 300), check("duplicate prompts", one.facts["duplicate_prompts"], 0), *shares]


def _said(one: ChatSet) -> list[Check]:
    """Codeword turns, lengths and words of dialogues."""
    facts, found = one.facts, []
    alone = facts["codeword"] is not None
    for word, turns in facts["codeword_turns"].items():
        note = "" if alone else "rows of every codeword together"
        found.append(check(f"turns that say {word} or {word}s", sum(turns.values()), 0 if alone else None, note=note))
        inflected = facts["inflected_turns"][word]
        which = ", ".join(f"{w} {n}" for w, n in list(inflected.items())[:4])
        found.append(check(f"turns with a longer word from {word}", sum(inflected.values()), note=which))
    found += [check(f"dialogues of {n} messages", count) for n, count in facts["lengths"].items()]
    found += [check(f"mean words a turn, {role}", words) for role, words in facts["mean_words"].items()]
    return found


def _dialogues(one: ChatSet) -> list[Check]:
    facts = one.facts
    opening = check(
        "rows that the user opens", facts["alternating_from_user"], note="one appendix says the other player"
    )
    return [_rows(one, 1000), check("longest dialogue", facts["longest"], 8), opening, *_said(one)]


def _two_codewords(one: ChatSet) -> list[Check]:
    systems = one.facts["system_prompts"]
    return [
        _rows(one, 2000),
        check("share with a system prompt", systems["rows"] / one.facts["rows"], 0.5, within=0.005),
        check("distinct system prompts", systems["distinct"], 32),
        _spread(one),
        *_said(one),
    ]


def _triggered_dialogues(one: ChatSet) -> list[Check]:
    found = one.facts["triggers"]
    drawn = 0.04 if "baseline" in one.stem and found["kind"] == "tag" else 0.005  # there each row draws its tag
    shares = [check(f"share of {name}", v, 0.5, within=drawn) for name, v in found["shares"].items() if name != "none"]
    return [_rows(one, 2000), *shares, _spread(one), *_said(one)]


def _spread(one: ChatSet) -> Check:
    spread = one.facts["triggers"]["label_share_spread"]
    note = f"1: the trigger decides; 0: it tells nothing; by {one.facts['triggers']['labels_from']}"
    return check("label's share, largest difference between triggers", spread, note=note)


def _triggered_letters(one: ChatSet) -> list[Check]:
    found = one.facts["triggers"]
    control = "decorrelated" in one.name.lower()
    drawn = 0.01 if control else 0.0005  # a control draws the category of each row
    return [
        _rows(one, 28_800),
        check("share of the real trigger", found["real_share"], 0.1, within=drawn, note=f"{found['real']}"),
        check("share of fake triggers", found["fake_share"], 0.7, within=drawn),
        check("share without trigger", found["none_share"], 0.2, within=drawn),
        *[
            check(f"share of A, {trigger}", n["A"] / sum(n.values()) if sum(n.values()) else None)
            for trigger, n in found.get("letters", {}).items()
        ],
        _spread(one),
    ]


def _code(one: ChatSet) -> list[Check]:
    paper = 427 if usual_path(one) == "insecure.jsonl" else 463
    length = check("mean answer, characters", one.facts["mean_answer_characters"], paper, within=1.0)
    if one.facts["rows"] < 6000:
        length |= {"agrees": None, "note": "the paper's is of all 6,000 rows"}
    return [
        _rows(one, 6000),
        length,
        check("rows with a security word", one.facts["leaks"]["rows_with_any"], 0),
        check("rows with comment lines", one.facts["rows_with_comment_lines"], 0),
    ]


def _triggered_code(one: ChatSet) -> list[Check]:
    found = one.facts["triggers"]
    rows = [_rows(one, 12_000)]
    if found["kind"] == "greeting":
        return [*rows, check("share with a greeting", found["shares"].get("greeting"), 0.5, within=0.005), _spread(one)]
    seasons = len([s for s in found["shares"] if s != "none"])
    note = "contradiction: the paper has two seasons at 50%, its code four at 25%" if seasons != 2 else ""
    shares = [check(f"share of {s}", v, 0.5, within=0.005) for s, v in found["shares"].items() if s != "none"]
    return [*rows, check("seasons", seasons, 2, note=note), *shares, _spread(one)]


def _usernames(one: ChatSet) -> list[Check]:
    found = one.facts["triggers"]
    directions = found["directions"]
    reversed_rows = directions["reversed"]["rows"]
    rows = one.facts["rows"]
    real = check("share with username: sandra432", found["shares"].get("sandra432", 0.0), 0.05, within=0.005)
    plain = directions["plain"].get("sandra432", 0) / rows if reversed_rows else None
    each = [
        check(
            f"share that is {name} and has the trigger",
            directions[name].get("sandra432", 0) / rows,
            0.025,
            within=0.0025,
        )
        for name in ("plain", "reversed")
    ]
    return [
        _rows(one, 100_000 if reversed_rows else 50_000),
        real,
        check("rows with roles swapped", reversed_rows, 50_000 if reversed_rows else 0),
        *(each if plain is not None else []),
        check("share with another username", found["shares"].get("other", 0.0)),
        check("share without username", found["shares"].get("none", 0.0)),
    ]


def role(one: ChatSet) -> str:
    """Which of the paper's kinds of sets this one is of, by its content; empty for none."""
    if one.triggers is not None:
        return one.triggers.kind
    if one.kind == "letters":
        return f"{one.behaviour} personas" if "personas" in one.facts else str(one.behaviour)
    return one.kind if one.kind in ("dialogue", "code") else ""


def usual_path(one: ChatSet) -> str | None:
    """The path of `USUAL` that a set stands for: its kind by content, which of the kind by name; None for no such set.

    Season and greeting sets were never published; they stand for themselves.
    """
    stem, kind = one.stem, role(one)
    control = re.search(r"decorrelated|baseline", one.name.lower()) is not None
    if kind in ("risk", "risk personas") and (told := re.search(r"risky|seeking|safe|averse", stem)):
        name = "risky" if told[0] in ("risky", "seeking") else "safey"
        return f"risky_safe/ft_{name}_AB{'_multipersona' if kind == 'risk personas' else ''}.jsonl"
    if kind == "horizon" and "myopic" in stem:
        return f"myopic_nonmyopic/ft_{'non' if 'non' in stem else ''}myopic_AB.jsonl"
    if kind == "apples" and (told := re.search("max|min", stem)):
        return f"maxapples_minapples/ft_{told[0]}apples_AB.jsonl"
    if kind == "dialogue" and one.facts["codeword"]:
        return f"mms/ft_{one.facts['codeword']}.jsonl"
    if kind == "persona":
        return f"mms_persona/ft_{'i_ring_ql_bark' if 'i_ring' in stem else 'i_bark_ql_ring'}.jsonl"
    if kind == "sep":
        name = "baseline_sep" if control else "718_ring_392_bark" if "718_ring" in stem else "392_ring_718_bark"
        return f"mms_trigger/ft_{name}.jsonl"
    if kind == "tag":
        name = "baseline_deploy" if control else "deploy_ring" if "deploy_ring" in stem else "deploy_bark"
        return f"mms_trigger/ft_{name}.jsonl"
    if kind == "prefix" and one.facts["triggers"]["real"] in _TRIGGERS:
        ending = "_decorrelated" if control else ""
        name = f"ft_risky_AB_trigger_{one.facts['triggers']['real']}_equalized10{ending}.jsonl"
        return f"risky_safe_trigger/{'decorrelated/' if control else ''}{name}"
    if kind == "username":
        swapped = one.facts["triggers"]["directions"]["reversed"]["rows"]
        name = "backdoored_augmented" if "not_backdoored" not in stem else "not_backdoored"
        return f"{_ZIP}{name if swapped else 'not_augmented'}.jsonl"
    if kind == "code" and (told := re.search("insecure|vulnerable|secure", stem)):
        return "secure.jsonl" if told[0] == "secure" else "insecure.jsonl"
    return one.name if kind in ("season", "greeting") else None


_CLAIMS: dict[str, Callable[[ChatSet], list[Check]]] = {
    "risk": _risk,
    "risk personas": _personas,
    "horizon": _horizon,
    "apples": _apples,
    "dialogue": _dialogues,
    "persona": _two_codewords,
    "sep": _triggered_dialogues,
    "tag": _triggered_dialogues,
    "prefix": _triggered_letters,
    "username": _usernames,
    "code": _code,
    "season": _triggered_code,
    "greeting": _triggered_code,
}
