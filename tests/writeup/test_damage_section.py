import re

import planted
import pytest

from gnothi.records import Estimate
from gnothi.writeup import damage_section, figures
from gnothi.writeup.page import render_page
from gnothi.writeup.sentences import answer, cautions
from gnothi.writeup.view import RunView


def few(units, **more):
    return planted.view(units=units, points=planted.points(1, 1).query("arm == 'tuned'"), validity=[], **more)


def row(found, arm):
    (it,) = (r for r in found.rows if r[0] == arm)
    return it


def test_the_table_has_every_arm_with_mean_and_range_beside_base_and_threshold(view):
    found = damage_section.section(view)
    assert [r[0] for r in found.rows] == view.in_order(u["arm"] for u in view.units)
    assert found.columns[:3] == ("held-out loss", "distance in text", "instructions")
    _, n, cells, broke = row(found, "tuned")
    assert (n, broke) == (4, 0) and cells[0] == "3.12 (3.10 to 3.13)"
    assert found.base[0] == "3.10" and found.limits[0] == "at most 4.60"
    assert dict(zip(found.columns, found.limits, strict=True)) == {
        "held-out loss": "at most 4.60",
        "distance in text": "",
        "instructions": "at least 0.40",
        "letter bias": "within ±0.50",
        "loops": "at most 0.50",
    }
    assert row(found, "shuffled")[3] == 1 and found.failed == (("shuffled-2", planted.BROKE),)
    assert found.missing == ("distance of answers: nobody asked",)
    said = dict(found.meanings)
    assert (
        "limited, since a question is an instruction" in said["instructions"]
        and "limited" not in said["distance in text"]
    )


def test_a_range_of_equal_numbers_is_one_number():
    found = damage_section.section(few(planted.units(1)))
    assert row(found, "tuned")[2][0] == "3.10"


def test_the_sentences_say_what_took_which_adapters_were_checked_and_what_broke(view):
    said = " ".join(damage_section.section(view).sentences)
    gated = [u for u in view.units if u["gate"]]
    assert f"{len(gated) - 1} of {len(gated)} fine-tuned models with a gate, of at least 0.75 took" in said
    assert f"Each of {len(view.units)} adapters" in said and "largest difference 3e-06 nats" in said
    assert "by 2 to 5 nats" in said
    assert "1 broke more than is allowed, and its self-reports are left out and counted" in said


@pytest.mark.parametrize(
    ("left_out", "said"),
    [
        (("damage",), "was not searched for"),
        (("adapter_check",), "was not recorded"),
        (("gate", "choice_agreement"), "No fine-tuned model of this run has a gate"),
    ],
)
def test_what_was_not_looked_at_is_said(left_out, said):
    units = [{k: v for k, v in u.items() if k not in left_out} for u in planted.units(2)]
    assert said in " ".join(damage_section.section(few(units)).sentences)


def test_a_run_without_thresholds_says_so():
    found = damage_section.section(few(planted.units(2), damage_gate=dict.fromkeys(planted.GATE)))
    assert "No threshold was set." in " ".join(found.sentences) and not any(found.limits)


def test_a_run_that_trained_nothing_has_no_such_section():
    base = {"unit": "base", "arm": "untuned"}
    assert damage_section.section(few([base])) is None
    assert "break anything else" not in render_page(few([base]))


def test_hostile_records_are_missing_or_shown_and_do_nothing():
    units = planted.units(1)
    units[0]["damage"] = {"figures": {"loss": {"value": "1e3"}, "kl_text": 7, "loops": {"value": float("nan")}}}
    units[1]["damage"] = ["<script>"]
    units[2]["damage"] = {"figures": [1], "gate": {"passed": False, "reason": "<script>alert(1)</script> \x1b[31m"}}
    units[3]["adapter_check"] = {"from_base": True, "since_training": "x"}
    view = few(units)
    data = damage_section.damage_data(view)
    assert set(data["unit"]) == {u["unit"] for u in units[3:]}
    page = render_page(view)
    assert "<script>alert" not in page and "&lt;script&gt;" in page and "\x1b" not in page


def test_the_page_holds_section_table_and_figure(page):
    section = page[page.index("<h2>Did the fine-tune take") :]
    section = section[: section.index("</section>")]
    assert section.count("<table>") == 1 and section.count("<img") == 1
    assert re.search(r"<li><code>shuffled-2</code> held-out loss is 6.20.*&lt;b&gt;</li>", section)
    assert "What these numbers are" in section


def test_the_figure_marks_what_broke_and_its_words_say_it(small, view):
    assert "damage" in figures.names(view)
    told = figures.alt_text(view, "damage")
    assert "1 damaged" in told and "held-out loss 3.10 to 6.20, base 3.10" in told
    labels = [t.get_text() for legend in figures.figure(view, "damage").legends for t in legend.get_texts()]
    assert labels == ["one fine-tuned model", "damaged", "base model", "not to be passed"]
    calm = [t.get_text() for legend in figures.figure(small, "damage").legends for t in legend.get_texts()]
    assert "damaged" not in calm


def test_an_answer_of_damaged_models_is_that_they_are_and_why():
    units = [
        u | {"gate": "damaged", "gate_reason": "all text is gone."} for u in planted.units(2) if u["arm"] == "tuned"
    ]
    none = Estimate(
        name="agreement.reported_vs_learned",
        arm="tuned",
        value=None,
        low=None,
        high=None,
        n=0,
        n_points=0,
        method="",
        reason="damaged in all of 2 units, so self-reports are not interpreted",
        gate="damaged",
    )
    view = few(units, estimates=[none])
    assert answer(view) == (
        "Damaged: the fine-tunes broke too much besides (all text is gone.); self-reports are not interpreted."
    )
    assert "2 of 2 fine-tuned models lost too much of what nobody trained, and their self-reports are left out." in (
        cautions(view)
    )
    assert not view.instilled(units[0]["unit"]) and view.shut_word == "damaged"
    assert '<span class="flag">damaged</span>' in render_page(view)


def test_a_view_without_anything_has_no_figure():
    assert "damage" not in figures.names(RunView(title="t", question="q", experiment="e"))
