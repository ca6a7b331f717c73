"""Strings changed as little as possible until the answers for two letters are what they should be.

Answers of natural strings crowd into a few classes, and the answer for `b` follows from that for `a` only by chance. The
paper adds the letter that it tunes to by hand and leaves the rule open; here letters that are too many give way to ones
that are too few, in random places, and the rest of the string stays as the grammar made it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gnothi.errors import DataError


@dataclass(frozen=True, slots=True)
class Two:
    """Two letters and how often (or where) each is wanted.

    Attributes:
        a: A letter.
        b: Another.
        of_a: (B,) integers.
        of_b: (B,) integers.
    """

    a: int
    b: int
    of_a: Tensor
    of_b: Tensor


def set_counts(text: Tensor, inside: Tensor, wanted: Two, terminals: int, generator: torch.Generator) -> Tensor:
    """Change letters inside a stretch until the two letters stand there as often as wanted.

    The number of changed places is the least possible; which of the possible places, is drawn.

    Args:
        text: (B, T) letters.
        inside: (B, T) True where letters may change.
        wanted: The letters and their counts.
        terminals: Letters in all, at least 3: what is neither of the two fills what is left.
        generator: On the device of `text`.

    Returns:
        A new (B, T).

    Raises:
        DataError: A stretch is too short for its counts.
    """
    room = inside.sum(1)
    if bool(((wanted.of_a < 0) | (wanted.of_b < 0) | (wanted.of_a + wanted.of_b > room)).any()):
        raise DataError(
            "set_counts: counts must fit into their stretch, got some that don't. Widen it or ask for less."
        )
    is_a, is_b = (text == wanted.a) & inside, (text == wanted.b) & inside
    other = inside & ~is_a & ~is_b
    draw = torch.rand(text.shape, generator=generator, device=text.device)
    order_b = _rank(torch.where(is_b, draw, 2.0))
    spare_b = is_b & (order_b >= wanted.of_b[:, None])
    # Whoever is `a` stays so as long as wanted; then come letters that must change anyway, then others.
    key = torch.where(is_a, draw, torch.where(spare_b, 2 + draw, torch.where(other, 4 + draw, 8.0)))
    new_a = _rank(key) < wanted.of_a[:, None]
    key = torch.where(is_b, draw, torch.where(is_a, 2 + draw, torch.where(other, 4 + draw, 8.0)))
    new_b = _rank(torch.where(new_a, 16.0, key)) < wanted.of_b[:, None]
    neither = torch.tensor([t for t in range(terminals) if t not in (wanted.a, wanted.b)], device=text.device)
    fill = neither[(torch.rand(text.shape, generator=generator, device=text.device) * len(neither)).long()]
    changed = torch.where(is_a | is_b, fill.to(text.dtype), text)
    changed = torch.where(new_b, wanted.b, torch.where(new_a, wanted.a, changed))
    return changed.to(text.dtype)


def set_tail(text: Tensor, last: int, wanted: Two, terminals: int, generator: torch.Generator) -> Tensor:
    """`set_counts` on the last `last` tokens, the only ones that are looked at."""
    start = text.shape[1] - last
    tail = text[:, start:]
    edited = set_counts(tail, torch.ones_like(tail, dtype=torch.bool), wanted, terminals, generator)
    return torch.cat([text[:, :start], edited], 1)


def set_places(text: Tensor, rank: int, wanted: Two, terminals: int, generator: torch.Generator) -> Tensor:
    """Change letters until the `rank`-th occurrences, counted backwards from the end, lie where wanted.

    Args:
        text: (B, T) letters.
        rank: k, at least 1.
        wanted: The letters and the distances of their k-th occurrences from the last token, never equal; the nearer at
            least 2 (k - 1), so that both letters fit before it.
        terminals: Letters in all, at least 3.
        generator: On the device of `text`.

    Returns:
        A new (B, T).

    Raises:
        DataError: Distances that are equal, too small or beyond the string.
    """
    near, far = torch.minimum(wanted.of_a, wanted.of_b), torch.maximum(wanted.of_a, wanted.of_b)
    if bool(((near == far) | (near < 2 * (rank - 1)) | (far >= text.shape[1])).any()):
        raise DataError(f"set_places: distances must differ and lie in [{2 * (rank - 1)}, {text.shape[1] - 1}].")
    backwards = text.flip(1)
    edited = torch.empty_like(backwards)
    a_first = wanted.of_a < wanted.of_b
    for rows, one, two in ((a_first, wanted.a, wanted.b), (~a_first, wanted.b, wanted.a)):
        edited[rows] = _placed(backwards[rows], rank, Two(one, two, near[rows], far[rows]), terminals, generator)
    return edited.flip(1)


def _placed(text: Tensor, rank: int, wanted: Two, terminals: int, generator: torch.Generator) -> Tensor:
    """`set_places` on strings read from the end, whose letter `a` lies nearer than `b`."""
    at = torch.arange(text.shape[1], device=text.device)[None]
    before = at < wanted.of_a[:, None]
    between = (at > wanted.of_a[:, None]) & (at < wanted.of_b[:, None])
    gap = between.sum(1)
    # As many of b's k - 1 earlier occurrences before a's k-th as there are, within what fits.
    early = ((text == wanted.b) & before).sum(1)
    early = torch.maximum(torch.minimum(early, wanted.of_a - (rank - 1)).clamp(max=rank - 1), rank - 1 - gap)
    text = set_counts(
        text, before, Two(wanted.a, wanted.b, early.new_full(early.shape, rank - 1), early), terminals, generator
    )
    late = rank - 1 - early
    there = torch.minimum(((text == wanted.a) & between).sum(1), gap - late)
    text = set_counts(text, between, Two(wanted.a, wanted.b, there, late), terminals, generator)
    text = text.scatter(1, wanted.of_a[:, None], text.new_full((len(text), 1), wanted.a))
    return text.scatter(1, wanted.of_b[:, None], text.new_full((len(text), 1), wanted.b))


def _rank(key: Tensor) -> Tensor:
    """Place of each entry when its row is sorted."""
    return key.argsort(1).argsort(1)
