import re
from html.parser import HTMLParser

import planted
from hypothesis import given, settings
from hypothesis import strategies as st

from gnothi.writeup.page import render_page
from gnothi.writeup.view import RunView


def few(**changes):
    """One model, one arm, one figure or two: drawn fast."""
    points = planted.points(4, 1).query("arm == 'tuned'")
    return planted.view(**{"points": points, "units": planted.units(1)[:1], "validity": [], **changes})


class Reader(HTMLParser):
    """Collects tags, attributes and text as a browser would see them."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.open = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)


def test_the_page_is_well_formed_and_has_what_a_phone_needs(page):
    read = Reader(page)
    assert read.open == []
    metas = [a for t, a in read.tags if t == "meta"]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in metas
    assert "<title>Do tuned organisms know what they were tuned to want? – Gnothi</title>" in page
    assert page.count('class="scroll"') == page.count("<table")


def test_nothing_is_loaded_and_nothing_runs(page):
    read = Reader(page)
    assert not {t for t, _ in read.tags} & {"script", "link", "iframe", "object", "embed", "form", "base"}
    for tag, attributes in read.tags:
        assert "href" not in attributes and not any(name.startswith("on") for name in attributes)
        if tag == "img":
            assert attributes["src"].startswith("data:image/svg+xml;base64,")
    csp = next(a["content"] for t, a in read.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert csp.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    assert not re.search(r"@import|url\(", page)


def test_hostile_answers_are_shown_and_inert(page):
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    for escape in ("\\x1b", "\\u202e", "\\x00", "\\ud800"):
        assert f'<span class="esc">{escape}</span>' in page
    assert not set("\x1b\x00\u202e") & set(page) and "{{ 7 * 7 }}" in page
    assert "4,000 of 100,000 characters shown" in page and "7" * 4001 not in page
    assert "100,000 characters, the first 4,000 of them here" in page
    page.encode("utf-8")


@given(st.text(st.characters(), max_size=40))
@settings(max_examples=40, deadline=None)
def test_no_text_of_a_run_becomes_markup(text):
    model = {"name": text, "digest": text, "notes": [text], text: text}
    messages = [{"role": text, "content": text}]
    example = {
        "arm": text,
        "unit": text,
        "kind": text,
        "messages": messages,
        "answer": text,
        "value": None,
        "reason": text,
    }
    filled = {"title": text, "question": text, "command": text, "version": text, "created": text, "notes": [text]}
    view = RunView(**filled, experiment=text, model=model, spec={text: text, "recipe": text}, examples=[example])
    read = Reader(render_page(view))
    assert read.open == []
    assert {t for t, _ in read.tags} <= set(TAGS.split())
    for _, attributes in read.tags:
        assert set(attributes) <= set(ATTRIBUTES.split())


TAGS = "html head meta title style body header main section p h1 h2 h3 ul li div table tbody thead tr th td details summary"
TAGS += " pre code span small br"
ATTRIBUTES = "lang charset http-equiv content name class aria-label scope open dir tabindex role colspan"


def test_the_same_view_gives_the_same_bytes():
    one, two = (few() for _ in range(2))
    assert render_page(one) == render_page(two)


def test_headline_controls_and_the_words_a_reader_looks_for_are_in_the_text(page):
    text = " ".join(Reader(page).text)
    for said in ("0.87", "0.82", "0.92", "-0.04", "interval", "shuffled", "untuned", "seed", "Gnothi", "not instilled"):
        assert said in text
    assert "needs the reports of another seed, got a run of one table" in text
    assert "gnothi run preferences --model organism" in text
    assert len(page) < 2e6


def test_the_parts_come_in_order(page):
    heads = re.findall(r"<h2>(.*?)</h2>", page)
    assert heads == [
        "All arms",
        "Reported against learned weights",
        "Manipulation check",
        "Did the fine-tune take, and did it break anything else?",
        "Valid self-reports",
        "Report training",
        "Learning curves",
        "Raw prompts and answers",
        "Methods",
        "Provenance",
    ]


def test_every_picture_has_words_for_who_cannot_see_it(page):
    alts = [a["alt"] for t, a in Reader(page).tags if t == "img"]
    assert len(alts) == 8 and all(len(alt) > 20 for alt in alts)
    assert "tuned 0.87 [0.82, 0.92]" in alts[1]


def test_an_empty_run_says_what_it_lacks():
    text = " ".join(Reader(render_page(RunView(title="t", question="q", experiment="preferences"))).text)
    assert "No answer" in text and "No fine-tuned model is part of this run" in text
    assert "Not part of this run:" in text and "shuffled" in text and "No training seed is recorded" in text


def test_a_run_with_one_unit_and_no_controls_says_so():
    alone = planted.estimate("agreement.reported_vs_learned", "tuned", 0.7, n=1, method="bootstrap over agents, 95%")
    view = few(estimates=[alone])
    text = " ".join(Reader(render_page(view)).text)
    assert "over 1 fine-tuned model (bootstrap over agents, 95%); no null control has a value beside it." in text


def test_later_pictures_are_images_so_that_their_scripts_are_dead():
    svg = '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    view = RunView(
        title="t",
        question="q",
        experiment="e",
        figures_extra=[{"title": "Where it lies", "svg": svg, "caption": "By layer."}],
    )
    page = render_page(view)
    assert "alert" not in page and "<h2>Where it lies</h2>" in page and "By layer." in page


def test_what_a_unit_does_not_say_is_left_out():
    said = planted.units(1)[0]
    units = [
        {k: v for k, v in said.items() if k not in (left_out, "losses")} | {"unit": f"without {left_out}"}
        for left_out in said
    ]
    units = [{"arm": "tuned", **u} for u in units]
    view = planted.view(units=units, points=planted.points(1, 1).query("arm == 'tuned'"), validity=[])
    assert Reader(render_page(view)).open == []
