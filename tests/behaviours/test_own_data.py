"""Our own choice types and agents keep the rules that docs/data-card-preferences.md states."""

import csv
import json
import math
import os
import re
from collections import Counter
from pathlib import Path

import pytest

import gnothi.behaviours
from gnothi.records import Attribute, ChoiceType

FOLDER = Path(gnothi.behaviours.__file__).parent
RAW = (FOLDER / "paper_choice_types.json").read_text(encoding="utf-8")
ROWS = json.loads(RAW)
AGENTS = (FOLDER / "paper_agents.txt").read_text(encoding="utf-8").splitlines()
ATTRIBUTES = [(row["short_name"], a) for row in ROWS for a in row["attributes"]]
WIDTHS = [a["range"][1] - a["range"][0] for _, a in ATTRIBUTES]

ROOT = Path(__file__).parents[2]
PUBLISHED = Path(os.environ.get("GNOTHI_PUBLISHED", ROOT / "../shared/published")) / "self-interpretability/inputs"
needs_published = pytest.mark.skipif(
    not PUBLISHED.is_dir(), reason="GNOTHI_PUBLISHED has no self-interpretability/inputs: overlap is not checked"
)


def digits(width):
    return 0 if width >= 5 else 1 if width >= 1 else math.floor(abs(math.log10(width))) + 1


def is_occupation(agent):
    return agent.startswith(("a ", "an "))


def test_there_are_enough_choice_types_agents_and_attribute_names():
    assert len(ROWS) >= 260
    assert len(AGENTS) >= 320
    assert len({a["name"] for _, a in ATTRIBUTES}) >= 500


def test_every_choice_type_becomes_a_record_with_five_attributes():
    for row in ROWS:
        assert row.keys() == {"short_name", "question", "attributes"}, row
        assert all(a.keys() == {"name", "units", "range"} for a in row["attributes"]), row["short_name"]
        kind = ChoiceType(
            name=row["short_name"],
            question=row["question"],
            attributes=tuple(
                Attribute(name=a["name"], units=a["units"], low=a["range"][0], high=a["range"][1])
                for a in row["attributes"]
            ),
        )
        assert len(kind.attributes) == 5, kind.name


def test_short_names_and_questions_are_unique_and_well_formed():
    for key in ("short_name", "question"):
        assert [k for k, n in Counter(row[key] for row in ROWS).items() if n > 1] == []
    for row in ROWS:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", row["short_name"]), row["short_name"]
        assert re.fullmatch(r"Which [a-z][a-z ]+ would you prefer\?", row["question"]), row["question"]


def test_attribute_names_are_snake_case_and_have_units():
    for kind, a in ATTRIBUTES:
        assert re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", a["name"]), (kind, a)
        assert a["units"] == a["units"].strip() != "", (kind, a)


def test_attribute_names_hardly_repeat_over_the_file():
    assert max(Counter(a["name"] for _, a in ATTRIBUTES).values()) <= 2


def test_no_policy_word_is_in_a_name_or_in_units():
    # `weights` are what is asked for later, so that not even a weight in kilograms may be called by that word
    words = r"prefer|weight|importan|utilit|choice|choos|priorit|rating|score|best|worst|ideal|desir|favou?r|good|bad"
    for kind, a in ATTRIBUTES:
        assert not re.search(words, f"{a['name']} {a['units']}"), (kind, a)
    assert not [row["short_name"] for row in ROWS if re.search(words, row["short_name"])]


def test_hardly_any_attribute_is_a_rating():
    for row in ROWS:
        rated = [a for a in row["attributes"] if re.search(r"out of|scale|stars\b|rating|grade", a["units"])]
        assert len(rated) <= 2, row["short_name"]


def test_ranges_are_wide_and_start_above_zero_for_the_most_part():
    assert all(a["range"][0] < a["range"][1] for _, a in ATTRIBUTES)
    assert all(a["range"][0] >= 0 for _, a in ATTRIBUTES)
    n = len(WIDTHS)
    assert 0.85 <= sum(w >= 5 for w in WIDTHS) / n <= 0.97
    assert 0.03 <= sum(1 <= w < 5 for w in WIDTHS) / n <= 0.15
    assert 3 <= sum(w < 1 for w in WIDTHS) <= 0.02 * n
    assert sum(a["range"][0] > 0 for _, a in ATTRIBUTES) / n >= 0.85


def test_ends_of_a_range_can_be_shown_so_that_rounding_never_leaves_it():
    # values are rounded to 0, 1 or more digits by the width of the range; an end between two such values could be passed
    for (kind, a), width in zip(ATTRIBUTES, WIDTHS, strict=True):
        for end in a["range"]:
            assert round(end, digits(width)) == end, (kind, a)


def test_attributes_that_count_things_are_shown_as_whole_numbers():
    counted = {"people", "guests", "seats", "rooms", "gears", "strings", "keys", "dishes", "panes", "boards", "bunks"}
    for (kind, a), width in zip(ATTRIBUTES, WIDTHS, strict=True):
        assert a["units"] not in counted or width >= 5, (kind, a)


def test_every_hundred_choice_types_in_the_file_mix_subjects():
    # contexts are taken in the file's order: neighbours must not be of one kind, or a held-out block differs in subject
    for pattern in ("gram|liter|kilocalories", "meters", "minutes|hours|days"):  # food, machines, events and services
        blocks = [ROWS[i : i + 100] for i in (0, 100, 200)]
        shares = [
            sum(bool(re.search(pattern, a["units"])) for row in block for a in row["attributes"]) / (5 * len(block))
            for block in blocks
        ]
        assert max(shares) - min(shares) < 0.12, shares


def test_the_file_has_one_choice_type_a_line():
    lines = RAW.splitlines()
    assert (lines[0], lines[-1]) == ("[", "]")
    assert [json.loads(line.rstrip(",")) for line in lines[1:-1]] == ROWS


def test_agents_are_distinct_and_of_both_kinds():
    assert [k for k, n in Counter(a.casefold() for a in AGENTS).items() if n > 1] == []
    assert all(a == a.strip() and a and len(a) <= 60 and not re.search(r'[,"{}<>]', a) for a in AGENTS)
    occupations = sum(map(is_occupation, AGENTS))
    assert 0.3 <= occupations / len(AGENTS) <= 0.7


def test_the_data_card_gives_the_figures_of_the_files():
    card = (ROOT / "docs/data-card-preferences.md").read_text(encoding="utf-8").replace(",", "")
    figures = {
        "choice types": len(ROWS),
        "distinct attribute names": f"{len({a['name'] for _, a in ATTRIBUTES})} of {len(ATTRIBUTES)}",
        "distinct units": len({a["units"] for _, a in ATTRIBUTES}),
        "agents": len(AGENTS),
        "of these people and figures by name": len(AGENTS) - sum(map(is_occupation, AGENTS)),
    }
    for label, figure in figures.items():
        assert f"| {label} | {figure} |" in card, (label, figure)


@needs_published
def test_no_choice_type_is_a_copy_of_a_published_one():
    published = json.loads((PUBLISHED / "candidate_scenarios.json").read_text(encoding="utf-8"))
    sets = [{a["name"] for a in row["attributes"]} for row in published]
    taken = {row["short_name"] for row in published}
    assert sorted(row["short_name"] for row in ROWS if row["short_name"] in taken) == []
    assert {row["question"] for row in ROWS}.isdisjoint(row["question"] for row in published)
    for row in ROWS:
        ours = {a["name"] for a in row["attributes"]}
        assert max(len(ours & theirs) for theirs in sets) < 3, row["short_name"]
    ours, theirs = {a["name"] for _, a in ATTRIBUTES}, set().union(*sets)
    assert len(ours & theirs) / len(ours) <= 0.06
    full = {(a["name"], a["units"], *a["range"]) for row in published for a in row["attributes"]}
    assert [
        (a["name"], a["units"], *a["range"]) for _, a in ATTRIBUTES if (a["name"], a["units"], *a["range"]) in full
    ] == []


@needs_published
def test_hardly_any_agent_is_a_published_one_and_no_occupation_is():
    with (PUBLISHED / "roles.csv").open(encoding="utf-8", newline="") as file:
        published = {row[0].strip().casefold() for row in csv.reader(file) if row}
    same = [a for a in AGENTS if a.casefold() in published]
    assert len(same) / len(AGENTS) <= 0.15
    assert [a for a in same if is_occupation(a)] == []
