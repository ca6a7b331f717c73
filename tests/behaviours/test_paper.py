"""Paper B's domain: its files, its draws by seed, and our draws from streams."""

import csv
import json
import os
import random
from pathlib import Path

import numpy as np
import pytest

from gnothi.behaviours.paper import (
    PaperDomain,
    decimals,
    items_from_seed,
    pair,
    stretched,
    weights_from_seed,
)
from gnothi.behaviours.paper_schema import read_agents, read_choice_types, validate_choice_types
from gnothi.errors import DataError, SpecError
from gnothi.records import Attribute
from gnothi.rng import stream

PUBLISHED = Path(os.environ.get("GNOTHI_PUBLISHED", Path(__file__).parents[2] / "../shared/published"))
INPUTS = PUBLISHED / "self-interpretability" / "inputs"
needs_published = pytest.mark.skipif(not INPUTS.is_dir(), reason="the authors' files (GNOTHI_PUBLISHED) are not here")


def choice_type(name: str, n: int = 5) -> dict:
    ranges = [[0, 70], [0.1, 10], [2, 4.5], [0.2, 0.6], [1, 8], [0, 1]]
    attributes = [{"name": f"{name}_{i}", "units": "units", "range": ranges[i]} for i in range(n)]
    return {"short_name": name, "question": f"Which {name} would you prefer?", "attributes": attributes}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    kinds, agents = tmp_path / "kinds.json", tmp_path / "agents.txt"
    kinds.write_text(json.dumps([choice_type(n) for n in ("kettle", "lamp", "rope", "sled")]))
    agents.write_text("role\nAda\nBo \n\na baker\n")
    return kinds, agents


@pytest.fixture
def domain(files: tuple[Path, Path]) -> PaperDomain:
    return PaperDomain(*files)


def test_contexts_take_choice_types_in_order_and_agents_by_seed(domain: PaperDomain):
    contexts = domain.contexts(4, seed=3)
    assert [c.context_id for c in contexts] == ["kettle", "lamp", "rope", "sled"]
    expected = ["role", "Ada", "Bo", "a baker"]  # a heading is an agent, as in the paper; blank lines are not
    random.Random(3).shuffle(expected)
    assert [c.agent for c in contexts] == expected
    assert domain.contexts(2, seed=3) + domain.contexts(2, skip=2, seed=3) == contexts
    assert domain.scale == (-100, 100)


def test_the_package_has_files_of_its_own():
    contexts = PaperDomain().contexts(200, seed=0)
    assert len({c.context_id for c in contexts}) == 200
    assert {c.n_attributes for c in contexts} == {5}


def test_values_are_rounded_by_the_range(domain: PaperDomain):
    context = domain.contexts(1, seed=0)[0]
    assert [decimals(a) for a in context.choice_type.attributes] == [0, 0, 1, 2, 0]
    items = domain.draw_items(context, 300, rng=stream(0, "items"), prefix="x")
    assert items[7].item_id == "x/kettle/7"
    assert {i.shown for i in items} == {(0, 1, 2, 3, 4)}
    values = np.array([[i.a, i.b] for i in items])
    for j, digits in enumerate([0, 0, 1, 2, 0]):
        assert np.array_equal(values[..., j], np.round(values[..., j], digits))
    assert np.allclose(values[..., 0].mean(), 35, atol=3)  # uniform over the range
    assert all(isinstance(v, float) for v in items[0].a)


def test_ranges_under_one_keep_two_digits_that_differ():
    assert [decimals(Attribute(name="x", low=0, high=h)) for h in (0.9, 0.4, 0.1, 0.03)] == [2, 2, 2, 3]


def test_weights_are_whole_numbers_with_one_at_the_end_of_the_scale(domain: PaperDomain):
    weights = domain.draw_weights(domain.contexts(4, seed=0) * 50, rng=stream(0, "weights"))
    assert weights.shape == (200, 5)
    assert np.array_equal(weights, np.round(weights))
    assert (np.abs(weights).max(axis=1) == 100).all()
    assert 0.4 < (weights > 0).mean() < 0.6
    assert not np.signbit(weights[weights == 0]).any()


def test_draws_depend_on_the_stream_alone(domain: PaperDomain):
    context = domain.contexts(1, seed=0)[0]
    first, again, other = (domain.draw_items(context, 3, rng=stream(s, "i"), prefix="x") for s in (0, 0, 1))
    assert first == again != other


def test_draws_by_seed_go_on_from_context_to_context_unless_told_otherwise(domain: PaperDomain):
    contexts = domain.contexts(2, seed=0)
    on = items_from_seed(contexts, 1, seed=6)
    again = items_from_seed(contexts, 1, seed=6, again_for_each=True)
    assert on[0] == again[0]
    assert on[1][0].a != again[1][0].a
    assert again[0][0].a == again[1][0].a  # the same ranges, so the same values


@needs_published
def test_pairing_and_weights_are_the_published_ones():
    kinds, agents = read_choice_types(INPUTS / "candidate_scenarios.json"), read_agents(INPUTS / "roles.csv")
    assert (len(kinds), len(agents), agents[0]) == (1365, 1134, "role")
    contexts = pair(kinds, agents)[:1100]
    assert "role" in [c.agent for c in contexts]
    with (INPUTS / "scenarios.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(c.context_id, f"Imagine you are {c.agent}. {c.choice_type.question}") for c in contexts] == [
        (r["scenario"], r["question"]) for r in rows
    ]
    with (INPUTS / "instilled_weights.csv").open(encoding="utf-8", newline="") as file:
        targets = [[int(r[f"attr{i}"]) for i in range(1, 6)] for r in csv.DictReader(file)]
    assert np.array_equal(weights_from_seed(contexts), targets)


@needs_published
def test_the_authors_choice_types_pass_the_schema():
    assert validate_choice_types(INPUTS / "candidate_scenarios.json") == []


def test_a_choice_type_with_four_attributes_is_refused_by_name(tmp_path: Path, files: tuple[Path, Path]):
    path = tmp_path / "four.json"
    path.write_text(json.dumps([choice_type("kettle"), choice_type("lamp", 4)]))
    with pytest.raises(SpecError, match="'lamp' must have exactly 5 attributes, got 4"):
        PaperDomain(path, files[1])


def test_all_problems_are_listed_at_once(tmp_path: Path):
    rows = [choice_type(n) for n in "abcdefg"]
    rows[0]["question"] = "Choose."
    rows[1]["attributes"][2]["range"] = [4, 4]
    rows[2]["attributes"][0]["units"] = " "
    rows[3]["short_name"] = "a"
    rows[4]["attributes"][1]["name"] = rows[4]["attributes"][0]["name"]
    rows[5]["attributes"][4]["range"] = [0, float("inf")]
    del rows[6]["short_name"]
    path = tmp_path / "kinds.json"
    path.write_text(json.dumps([*rows, "x", {"short_name": "h", "question": "?", "attributes": None}]))
    found = validate_choice_types(path)
    for text in (
        "'a' must have a question that ends with '?', got 'Choose.'",
        "'b': attribute 'b_2' must have a range of finite low < high, got [4, 4]",
        "'c': attribute 'c_0' must have units, got ' '",
        "'a' must be named once, got it in entries 0 and 3",
        "'e': attribute 'e_0' must be named once, got it twice",
        "'f': attribute 'f_4' must have a range of finite low < high, got [0, inf]",
        "entry 6 must have a short_name, got None",
        "entry 7 must be an object, got str",
        "'h' must have a list of attributes, got NoneType",
    ):
        assert text in found
    assert len(found) == 9
    with pytest.raises(SpecError, match=r"got 9 problems: .* and 1 more. Correct these entries"):
        read_choice_types(path)


@pytest.mark.parametrize(
    "text, message",
    [
        ("[1,", "must be JSON, got"),
        ("[]", "the file must be a list of choice types, got nothing"),
        ('{"a": 1}', "must be a list of choice types, got dict"),
        ('[{"short_name": "x", "question": "x?", "attributes": [1, 2, 3, 4, 5]}]', "attribute 0 must be an object"),
        ("[" * 100_000, "must be JSON, got"),
    ],
)
def test_broken_files_of_choice_types_are_refused(tmp_path: Path, text: str, message: str):
    path = tmp_path / "kinds.json"
    path.write_text(text)
    with pytest.raises(SpecError, match=message):
        read_choice_types(path)


def test_agents_in_a_csv_may_be_quoted_but_have_one_column(tmp_path: Path):
    path = tmp_path / "roles.csv"
    path.write_text('role\n"James ""Sulley"" Sullivan"\n"Bond, James"\nZeus\n')
    assert read_agents(path) == ("role", 'James "Sulley" Sullivan', "Bond, James", "Zeus")
    path.write_text("Bond, James\n")
    with pytest.raises(SpecError, match=r"must hold one agent a line, got 2 columns in 'Bond, James'. Quote a name"):
        read_agents(path)
    path.write_text('"Zeus\n')
    with pytest.raises(SpecError, match="must be CSV, got unexpected end of data"):
        read_agents(path)


def test_bad_input_is_refused_with_a_reason(tmp_path: Path, domain: PaperDomain):
    with pytest.raises(SpecError, match=r"skip \+ n must be within 4 \(4 choice types, 4 agents\), got 2 \+ 3"):
        domain.contexts(3, skip=2, seed=0)
    with pytest.raises(DataError, match=r"weights must be finite and not all 0, got \[0.0, 0.0\]. Draw them again"):
        stretched([0.0, 0.0])
    with pytest.raises(SpecError, match="must be a file that can be read, got No such file"):
        PaperDomain(tmp_path / "none.json")
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(SpecError, match=r"must hold at least one agent, got none. Write one a line"):
        read_agents(tmp_path / "empty.txt")
    (tmp_path / "latin.txt").write_bytes(b"Dvo\xf8\xe1k\n")
    with pytest.raises(SpecError, match=r"must be UTF-8 text, got .*. Save it as UTF-8"):
        read_agents(tmp_path / "latin.txt")
