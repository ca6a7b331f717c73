"""A probabilistic context-free grammar as data: read from YAML, checked so that every string ends and every symbol counts.

Source: the grammar in `paper.yaml` is that of arXiv:2311.12786, section C.2. That a grammar ends with probability 1 where
the spectral radius of its matrix of expected children is below 1 is the standard result on branching processes (Booth
and Thompson 1973); we ask for a radius below .999, so that lengths have a mean one can wait for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from gnothi.errors import SpecError
from gnothi.yaml_file import read_yaml

PAPER = Path(__file__).with_name("paper.yaml")
FIELDS = ("start", "terminals", "rules")
MOST_SYMBOLS = 500
LONGEST_MEAN = 100_000
"""Longer strings on average are refused."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """A checked grammar.

    Attributes:
        start: The symbol that every string grows from.
        terminals: What strings are made of, in the order of their token ids.
        rules: Symbol -> its right sides with their probabilities, which add up to 1.
    """

    start: str
    terminals: tuple[str, ...]
    rules: Mapping[str, tuple[tuple[tuple[str, ...], float], ...]]

    def to_json(self) -> dict[str, Any]:
        """Plain values, which `make_grammar` takes back."""
        rules = {left: {" ".join(right): p for right, p in sides} for left, sides in self.rules.items()}
        return {"start": self.start, "terminals": list(self.terminals), "rules": rules}

    def mean_lengths(self) -> dict[str, float]:
        """Expected number of terminals under each symbol."""
        names = list(self.rules)
        children, leaves = _children(self.rules, names)
        return dict(zip(names, np.linalg.solve(np.eye(len(names)) - children, leaves).tolist(), strict=True))


def read_grammar(path: str | Path) -> Grammar:
    """The grammar of a YAML file with the fields `start`, `terminals` and `rules`; the name `paper` is the paper's.

    A symbol's rules are a list of right sides, symbols apart by spaces and all equally likely, or a mapping from right
    sides to weights.

    Raises:
        SpecError: No such file, no such YAML, or a grammar that `make_grammar` refuses.

    >>> grammar = read_grammar("paper")
    >>> grammar.start, grammar.terminals, grammar.rules["d"]
    ('s', ('a', 'b', 'c'), ((('c', 'a'), 0.5), (('a', 'b', 'c'), 0.5)))
    """
    entry, source = read_yaml(PAPER if str(path) == "paper" else Path(path))
    source.fields(entry, "the grammar", FIELDS, FIELDS)
    return make_grammar(entry.plain(), where=str(path))


def make_grammar(given: Any, *, where: str = "grammar") -> Grammar:
    """A checked grammar from plain values.

    Args:
        given: A mapping with `start`, `terminals` and `rules`, as in a file.
        where: How messages name it.

    Raises:
        SpecError: A field that is missing or of another kind; a symbol that is used and defined nowhere, that is
            defined and never reached from the start, that is both a terminal and has rules, or that never ends.
    """
    where = f"grammar {where}" if where != "grammar" else where
    start, terminals, rules = _fields(given, where)
    grammar = Grammar(start, terminals, rules)
    _check_names(grammar, where)
    _check_reached(grammar, where)
    _check_ends(grammar, where)
    return grammar


def _fields(given: Any, where: str) -> tuple[str, tuple[str, ...], dict[str, Any]]:
    if not isinstance(given, Mapping) or set(given) != set(FIELDS):
        got = f"{', '.join(map(str, given)) or 'none'}" if isinstance(given, Mapping) else repr(given)
        raise SpecError(f"{where} must have the fields {', '.join(FIELDS)}, got {got!s:.80}. Write just these.")
    terminals, rules = given["terminals"], given["rules"]
    if not isinstance(terminals, list | tuple) or not all(_is_symbol(t) for t in terminals):
        raise SpecError(f"{where}: terminals must be a list of symbols without spaces, got {terminals!r:.80}. Mend it.")
    if not 2 <= len(set(terminals)) == len(terminals) <= MOST_SYMBOLS:
        raise SpecError(f"{where}: terminals must be 2 to {MOST_SYMBOLS} different symbols, got {terminals!r:.80}.")
    if not isinstance(rules, Mapping) or not 1 <= len(rules) <= MOST_SYMBOLS:
        raise SpecError(f"{where}: rules must be a mapping from symbols to right sides, got {rules!r:.80}. Mend it.")
    if not _is_symbol(given["start"]):
        raise SpecError(f"{where}: start must be a symbol, got {given['start']!r:.80}. Name one of {_some(rules)}.")
    return given["start"], tuple(terminals), {left: _sides(where, left, sides) for left, sides in rules.items()}


def _sides(where: str, left: Any, sides: Any) -> tuple[tuple[tuple[str, ...], float], ...]:
    if not _is_symbol(left):
        raise SpecError(f"{where}: rules must be of symbols without spaces, got {left!r:.80}. Rename it.")
    if isinstance(sides, str):
        sides = [sides]
    weights = sides if isinstance(sides, Mapping) else dict.fromkeys(sides, 1.0) if isinstance(sides, list) else {}
    if not weights or (isinstance(sides, list) and len(weights) < len(sides)):
        raise SpecError(f"{where}: rules of {left!r} must be different right sides, at least one, got {sides!r:.80}.")
    for right, weight in weights.items():
        if not isinstance(right, str) or not right.split():
            fix = "Empty right sides are not taken."
            raise SpecError(
                f"{where}: a right side of {left!r} must be symbols apart by spaces, got {right!r:.80}. {fix}"
            )
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < 1e9:
            raise SpecError(f"{where}: a weight of {left!r} must be a number above 0, got {weight!r:.80}. Mend it.")
    total = sum(weights.values())
    return tuple((tuple(right.split()), weight / total) for right, weight in weights.items())


def _is_symbol(value: Any) -> bool:
    return isinstance(value, str) and value.split() == [value] and len(value) <= 40


def _some(names: Any) -> str:
    listed = [str(n) for n in names]
    return ", ".join(listed[:8]) + (", …" if len(listed) > 8 else "")


def _near(name: str, known: Sequence[str], otherwise: str) -> str:
    near = get_close_matches(name, known, 1, 0.5)
    return f"Did you mean {near[0]}?" if near else otherwise


def _check_names(grammar: Grammar, where: str) -> None:
    known = [*grammar.rules, *grammar.terminals]
    if grammar.start not in grammar.rules:
        fix = _near(grammar.start, list(grammar.rules), f"Symbols: {_some(grammar.rules)}.")
        raise SpecError(f"{where}: start must be a symbol with rules, got {grammar.start!r}. {fix}")
    if both := sorted(set(grammar.rules) & set(grammar.terminals)):
        fix = "Take it out of terminals or out of rules."
        raise SpecError(f"{where}: a symbol must have rules or be a terminal, got both for {both[0]!r}. {fix}")
    for left, sides in grammar.rules.items():
        for name in (n for right, _ in sides for n in right):
            if name not in known:
                fix = _near(name, known, "Give it rules, or add it to terminals.")
                raise SpecError(
                    f"{where}: every symbol must have rules or be a terminal, got the undefined {name!r} in a rule of "
                    f"{left!r}. {fix}"
                )


def _check_reached(grammar: Grammar, where: str) -> None:
    reached, new = {grammar.start}, [grammar.start]
    while new:
        found = {n for right, _ in grammar.rules.get(new.pop(), ()) for n in right} - reached
        reached |= found
        new += sorted(found)
    if lost := [n for n in (*grammar.rules, *grammar.terminals) if n not in reached]:
        fix = _near(lost[0], sorted(reached), "Use it in a rule, or take it out.")
        fix = fix.replace("Did you mean", "Is a rule meant to say it, as") if fix.startswith("Did") else fix
        raise SpecError(
            f"{where}: every symbol must be reached from {grammar.start!r}, got the unreachable {_some(lost)}. {fix}"
        )


def _check_ends(grammar: Grammar, where: str) -> None:
    ends = set(grammar.terminals)
    while more := {
        s for s, sides in grammar.rules.items() if s not in ends and any(ends.issuperset(r) for r, _ in sides)
    }:
        ends |= more
    if stuck := [s for s in grammar.rules if s not in ends]:
        raise SpecError(
            f"{where}: every symbol must end in terminals, got {_some(stuck)}, which never end"
            f"{'s' if len(stuck) == 1 else ''}. Give {stuck[0]!r} a rule without itself."
        )
    names = list(grammar.rules)
    children, _ = _children(grammar.rules, names)
    radius = float(np.abs(np.linalg.eigvals(children)).max())
    if radius >= 0.999:
        worst = names[int(np.argmax(children.sum(1)))]
        raise SpecError(
            f"{where}: strings must end with probability 1 and have a mean length, got a grammar that never ends (a "
            f"symbol grows into {radius:.2f} of its kind on average). Give the rules of {worst!r} that end more weight."
        )
    if (mean := grammar.mean_lengths()[grammar.start]) > LONGEST_MEAN:
        raise SpecError(f"{where}: strings must have at most {LONGEST_MEAN} tokens on average, got {mean:.0f}.")


def _children(rules: Mapping[str, Any], names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Expected children of each kind under each symbol (n, n), and expected terminals right under it (n,)."""
    place = {name: i for i, name in enumerate(names)}
    children, leaves = np.zeros((len(names), len(names))), np.zeros(len(names))
    for left, sides in rules.items():
        for right, p in sides:
            for name in right:
                if name in place:
                    children[place[left], place[name]] += p
                else:
                    leaves[place[left]] += p
    return children, leaves
