import planted
from test_page import ATTRIBUTES, TAGS, Reader

from gnothi.writeup.page import MOST_COLUMNS, MOST_ROWS, render_page
from gnothi.writeup.view import RunView


def page(**table):
    table = {"title": "One word", "caption": "What it said.", "columns": ("word", "share"), "rows": ()} | table
    return render_page(RunView(title="t", question="q", experiment="e", tables=[table]))


def test_a_table_shows_text_numbers_and_what_is_missing():
    text = page(rows=[("bold", 0.5412, 54), ("cautious", None, 1200)], columns=("word", "share", "count"))
    assert "<h2>One word</h2>" in text and "What it said." in text
    assert '<tr><td>bold</td><td class="num">0.54</td><td class="num">54</td></tr>' in text
    assert '<tr><td>cautious</td><td class="num">none</td><td class="num">1,200</td></tr>' in text


def test_hostile_cells_are_shown_and_do_nothing():
    hostile = planted.HOSTILE.replace("\ud800", "")
    text = page(title=hostile, caption=hostile, columns=(hostile, "x"), rows=[(hostile, "7" * 100_000)])
    read = Reader(text)
    assert read.open == [] and {t for t, _ in read.tags} <= set((TAGS + " caption").split())
    for _, attributes in read.tags:
        assert set(attributes) <= set(ATTRIBUTES.split())
    assert "\x1b" not in text and "\u202e" not in text and "300 of 100,000 characters shown" in text
    assert len(text) < 30_000


def test_a_table_without_end_is_cut_and_says_so():
    columns = [f"c{i}" for i in range(50)]
    text = page(columns=columns, rows=[[i] * 50 for i in range(3000)])
    assert (
        text.count("<tr><td class") == MOST_ROWS
        and f"{MOST_ROWS} of 3,000 rows and {MOST_COLUMNS} of 50 columns" in text
    )
