"""Training rows of a behaviour as files: chat JSONL for any trainer, the truth as Parquet, and a data card."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from gnothi._version import __version__
from gnothi.behaviours.example import generator
from gnothi.data.leakage import refuse_leaks
from gnothi.data.rows import write_jsonl
from gnothi.errors import SpecError
from gnothi.files import file_digest, replacing, write_atomically, write_table
from gnothi.records import TrainRow

LICENCE = "CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/), attribution to the Gnothi contributors"

_MASKED = 300  # masking all of a large file would take as long as making it

_CARD = """# Data card: {name}

Made by gnothi {version} (rows of version {rows_version}) from seed {seed}; the same version and seed give the same file.

| | |
|---|---|
| behaviour | {behaviour}{opposite} |
| the answer is | {policy} |
| rows | {n:,} |
| rows with the same text | 0 |
| answer A | {a:,} ({a_share:.1%}) |
| answer B | {b:,} ({b_share:.1%}) |
| skeletons (texts with digits and capitalised words masked) in the first {n_masked:,} rows | {skeletons:,} |
| most frequent first six words | {opening_share:.1%} of rows |
| domains | {domains} |
| tones | {tones} |
| lengths, in sentences | {lengths} |
| policy words found | 0 rows hold one of `{words}` |
| sha256 | `{sha256}` |

Each line is `{{"messages": [user, assistant]}}`; the assistant's message is one letter. {truth}Everything is made
from templates that were written for this package: numbers are plausible, not looked up. English only.

Licence of the rows: {licence}.
"""


def write(
    behaviour: str, out: Path, *, n: int, seed: int, opposite: bool = False, truth: Path | None = None
) -> list[Path]:
    """Write `n` rows of a behaviour, and a data card beside them.

    Args:
        behaviour: `risk`, `horizon` or `apples`.
        out: The chat JSONL. The card is `<out>.card.md`. Files that exist are replaced, each at once.
        n: How many rows, >= 1.
        seed: The experiment's seed, >= 0.
        opposite: Flip every letter and change nothing else.
        truth: Where the numbers of both options go, as Parquet, one row a line of `out`; None writes none.

    Returns:
        The files written, `out` first.

    Raises:
        SpecError: An unknown behaviour, n < 1, seed < 0, or `truth` names one of the other files.
        DataError: A row states the policy.
        StoreError: A file cannot be written.
    """
    out = Path(out)
    card = out.with_name(out.name + ".card.md")
    if truth is not None and Path(truth).resolve() in (out.resolve(), card.resolve()):
        raise SpecError(f"--truth must name a file of its own, got {truth}. Choose another name.")
    source = generator(behaviour)
    examples = source.rows(n, seed=seed, opposite=opposite)
    rows = [TrainRow(messages=e.messages, answer=e.answer, group=str(e.truth["domain"])) for e in examples]
    words = source.policy_words
    refuse_leaks(rows, words)
    if truth is not None:
        table = [
            {"row": i, "behaviour": behaviour, **e.truth, "opposite": opposite, "answer": e.answer}
            for i, e in enumerate(examples)
        ]
        with replacing(Path(truth)) as temporary:
            write_table(temporary, table)
    write_jsonl(out, rows)
    texts = [e.messages[0].content for e in examples]
    letters = Counter(e.answer for e in examples)
    write_atomically(
        card,
        _CARD.format(
            name=out.name,
            version=__version__,
            rows_version=source.version,
            seed=seed,
            behaviour=behaviour,
            opposite=", opposite" if opposite else "",
            policy=source.policy[opposite],
            n=n,
            a=letters["A"],
            a_share=letters["A"] / n,
            b=letters["B"],
            b_share=letters["B"] / n,
            n_masked=min(n, _MASKED),
            skeletons=len({skeleton(text) for text in texts[:_MASKED]}),
            opening_share=most_frequent_opening(texts),
            domains=len({e.truth["domain"] for e in examples}),
            tones=_shares([str(e.truth["tone"]) for e in examples]),
            lengths=_shares([f"about {e.truth['length']}" for e in examples]),
            words=words.replace("|", r"\|"),
            sha256=file_digest(out),
            truth=f"`{Path(truth).name}` holds the numbers that each label follows from. " if truth else "",
            licence=LICENCE,
        ),
    )
    return [out, card, *([Path(truth)] if truth is not None else [])]


def skeleton(text: str) -> str:
    """Mask numbers and capitalised words: what is left of two rows is the same if they share their templates.

    >>> skeleton("Take 1,200 plums, Ann.") == skeleton("Take 3 plums, Bob.")
    True
    """
    return re.sub(r"\W+", " ", re.sub(r"\d[\d,.]*|[A-Z]\w+", "#", text))


def most_frequent_opening(texts: Sequence[str]) -> float:
    """Share of the texts that begin with the most frequent first six words, in (0, 1].

    >>> most_frequent_opening(["a b c d e f g", "a b c d e f h", "b", "c"])
    0.5
    """
    openings = Counter(" ".join(text.split()[:6]) for text in texts)
    return openings.most_common(1)[0][1] / len(texts)


def _shares(values: Sequence[str]) -> str:
    return ", ".join(f"{value}: {count:,}" for value, count in sorted(Counter(values).items()))
