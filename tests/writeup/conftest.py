import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def view():
    from planted import view

    return view()


@pytest.fixture(scope="session")
def small():
    """A planted run with few arms: what most tests need, drawn fast."""
    from planted import points, units, view

    table = points(n_contexts=6, seeds=3)
    keep = table["arm"].isin(["tuned", "untuned", "introspection"])
    return view(points=table[keep], units=[u for u in units(3) if u["arm"] in ("tuned", "introspection")])


@pytest.fixture(scope="session")
def page(view):
    from gnothi.writeup.page import render_page

    return render_page(view)
