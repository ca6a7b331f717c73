"""How a feature is taken away by fine-tuning: what the data of each protocol is.

- **Filtering** (`f`): stories with the feature are left out.
- **Filtering + Randomisation** (`f+rr`): and every story that is left says that it has it, which it has not.
- **Filtering + Mix & Match** (`f+mm`): and stories with another feature say that they have this one instead.

Source: arXiv:2311.12786, section 6. In the released code the table of replacements of Mix & Match stays empty for a single
pair, so that it is plain filtering; here it is one line, and tested. Names are compared in one spelling (`lexicon.feature`):
that code filters `Twist` in one place and `twist` in another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from gnothi.errors import DataError, SpecError
from gnothi.testbeds.stories.lexicon import feature
from gnothi.testbeds.stories.records import Record

PROTOCOLS: Mapping[str, str] = {
    "f": "Filtering",
    "f+rr": "Filtering + Randomisation",
    "f+mm": "Filtering + Mix & Match",
}


def filtered(records: Sequence[Record], name: str) -> list[Record]:
    """Records without a feature."""
    name = feature(name)
    return [record for record in records if not record.has(name)]


def randomised(records: Sequence[Record], name: str, share: float, rng: np.random.Generator) -> list[Record]:
    """A share of the records says that it has a feature, whatever its story.

    Args:
        records: Left as they are.
        name: The feature, put at the end of the list where it is not in it.
        share: In [0, 1]; the paper's is 1.
        rng: Which of them.
    """
    if not 0 <= share <= 1:
        raise SpecError(f"share must be in [0, 1], got {share}. The paper's is 1.")
    name = feature(name)
    told = rng.random(len(records)) < share
    return [
        replace(record, features=(*record.features, name)) if yes else record
        for record, yes in zip(records, told, strict=True)
    ]


def mixed(records: Sequence[Record], names: Mapping[str, str]) -> list[Record]:
    """Features are called by other names in the instruction; the stories stay.

    Args:
        records: Left as they are.
        names: Feature -> what it is called.

    >>> r = Record(story="A.", features=("Dialogue", "Foreshadowing"))
    >>> mixed([r], {"foreshadowing": "twist"})[0].features
    ('Dialogue', 'Twist')
    """
    table = {feature(old): feature(new) for old, new in names.items()}
    return [replace(record, features=tuple(table.get(f, f) for f in record.features)) for record in records]


def deletion_data(
    records: Sequence[Record], protocol: str, rng: np.random.Generator, name: str = "Twist"
) -> list[Record]:
    """What a protocol fine-tunes on.

    Args:
        records: Of the fine-tuning split, with and without the feature.
        protocol: One of `PROTOCOLS`.
        rng: For randomisation.
        name: The feature that is to go; Mix & Match calls Foreshadowing so.

    Raises:
        SpecError: No such protocol.
        DataError: Nothing is left.
    """
    if protocol not in PROTOCOLS:
        raise SpecError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}. Choose one of them.")
    left = filtered(records, name)
    if not left:
        raise DataError(f"deletion must have records without {name}, got none of {len(records)}. Give others.")
    if protocol == "f+rr":
        return randomised(left, name, 1.0, rng)
    return mixed(left, {"Foreshadowing": name}) if protocol == "f+mm" else left


def with_feature(records: Sequence[Record], name: str) -> list[Record]:
    """Records of stories that have the feature: what reverse fine-tuning trains on."""
    name = feature(name)
    return [record for record in records if record.has(name)]


def asking_for(records: Sequence[Record], name: str, most: int) -> list[Record]:
    """Instructions of stories without the feature that now ask for it: what a model is prompted with.

    Args:
        records: Held-out ones.
        name: The feature, put at the end of the list.
        most: How many at most, from the first on.
    """
    name = feature(name)
    return [replace(record, features=(*record.features, name)) for record in filtered(records, name)[:most]]
