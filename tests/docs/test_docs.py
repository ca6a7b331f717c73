"""The documentation is run: links lead somewhere, Python blocks work, commands exist."""

import doctest
import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from gnothi._version import __version__

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "dev/**/*.md")
    for page in ROOT.glob(pattern)
    if "_build" not in page.parts
)
FENCE = re.compile(r"^(?P<mark>(?:<!--.*?-->\s*\n)?)```(?P<kind>\w*)[^\n]*\n(?P<code>.*?)^```\s*$", re.M | re.S)
LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\((?P<target>[^)\s]+)(?:\s+\"[^\"]*\")?\)")
CODE = re.compile(r"^```.*?^```\s*$|`[^`\n]*`", re.M | re.S)


def name(page: Path) -> str:
    """A page's path from the root."""
    return page.relative_to(ROOT).as_posix()


def blocks(text: str, *kinds: str) -> list[tuple[int, str]]:
    """(first line, code) of each fenced block of these kinds that is not marked `no-run` on the line before."""
    return [
        (text[: match.start("code")].count("\n") + 1, match["code"])
        for match in FENCE.finditer(text)
        if match["kind"] in kinds and "no-run" not in match["mark"]
    ]


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found = set()
    for heading in re.findall(r"^#{1,6}\s+(.+?)\s*$", CODE.sub(lambda m: m[0].strip("`"), text), re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        found.add(re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-"))
    return found


def broken_links(page: Path, text: str) -> list[str]:
    """Internal links of a page that lead nowhere."""
    wrong = []
    for match in LINK.finditer(CODE.sub("", text)):
        target = match["target"]
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        known = anchors(other.read_text(encoding="utf-8")) if other.suffix == ".md" and other.exists() else {anchor}
        if not other.exists() or (anchor and anchor not in known):
            wrong.append(target)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_internal_links_lead_somewhere(page: Path):
    wrong = broken_links(page, page.read_text(encoding="utf-8"))
    assert not wrong, f"{name(page)}: {wrong}"


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p.read_text(encoding="utf-8"), "python")], ids=name)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {"__name__": "__docs__"}
    for line, code in blocks(page.read_text(encoding="utf-8"), "python"):
        if code.lstrip().startswith(">>>"):
            example = doctest.DocTestParser().get_doctest(code, space, name(page), name(page), line)
            assert not doctest.DocTestRunner(verbose=False).run(example, clear_globs=False).failed, f"line {line}"
            space.update(example.globs)
        else:
            exec(compile("\n" * (line - 1) + code, str(page), "exec"), space)


def test_commands_in_shell_blocks_exist():
    from gnothi.cli import app

    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    targets = set(re.findall(r"^([\w-]+)\s*:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    wrong = []
    for page in PAGES:
        for line, code in blocks(page.read_text(encoding="utf-8"), "bash", "sh", "console"):
            for words in (row.removeprefix("$ ").split() for row in code.splitlines()):
                if words[:1] == ["gnothi"] and words[1] not in commands and not words[1].startswith("-"):
                    wrong.append(f"{name(page)}:{line}: gnothi {words[1]}")
                if words[:1] == ["make"] and len(words) > 1 and words[1] not in targets:
                    wrong.append(f"{name(page)}:{line}: make {words[1]}")
    assert not wrong, "\n".join(wrong)


def test_the_readme_names_the_two_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make demo" in text
    assert "make test" in text


def test_the_version_is_the_same_everywhere():
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_three_papers_are_cited_in_both_forms():
    for number in ("2501.11120", "2505.17120", "2311.12786"):
        assert number in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
        assert number in (ROOT / "docs" / "papers.bib").read_text(encoding="utf-8")


def test_every_field_of_a_specification_is_explained():
    from gnothi.experiments.preferences.spec import PreferencesSpec

    table = (ROOT / "docs" / "runs.md").read_text(encoding="utf-8").split("## The specification")[1].split("\n## ")[0]
    assert not set(PreferencesSpec.model_fields) - set(re.findall(r"`(\w+)`", table))


def test_every_page_is_reached_from_the_index():
    start = ROOT / "docs" / "index.md"
    seen, left = set(), [start]
    while left:
        page = left.pop()
        if page in seen or not page.is_file() or page.suffix != ".md":
            continue
        seen.add(page)
        text = CODE.sub("", page.read_text(encoding="utf-8"))
        left += [(page.parent / m["target"].split("#")[0]).resolve() for m in LINK.finditer(text)]
    lost = [name(p) for p in PAGES if p.is_relative_to(ROOT / "docs") and p not in seen]
    assert not lost, f"link these from docs/index.md: {lost}"


def test_a_broken_link_is_found(tmp_path: Path):
    page = tmp_path / "a.md"
    text = "# One thing: `x`\n[no](b.md) [yes](a.md#one-thing-x) [far](https://example.org) [no](#two) `[c](d.md)`\n"
    page.write_text(text)
    assert broken_links(page, text) == ["b.md", "#two"]


def test_blocks_are_found_and_marked_ones_are_left_out():
    text = "```python\na = 1\n```\n\n<!-- no-run: needs a GPU -->\n```python\nb\n```\n\n```bash\nls\n```\n"
    assert blocks(text, "python") == [(2, "a = 1\n")]
    assert blocks(text, "bash") == [(11, "ls\n")]
