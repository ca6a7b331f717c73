"""Which jobs a look has: one a model."""

from collections.abc import Mapping, Sequence
from typing import Any

from gnothi._version import __version__
from gnothi.executor import Job
from gnothi.experiments.base import PlannedJob
from gnothi.experiments.look.spec import Looked, LookSpec, parse
from gnothi.files import digest
from gnothi.records import SCHEMA_VERSION


def key(spec: LookSpec, unit: Looked) -> str:
    """sha256 of everything that decides what is seen in one model: other models of the look do not."""
    shared = spec.model_dump(mode="json", exclude={"units", "seeds"})
    return digest([shared, unit.model_dump(mode="json"), __version__, SCHEMA_VERSION])


def jobs(values: Mapping[str, Any]) -> Sequence[PlannedJob]:
    """Each model's job and the unit that it leaves, which has the model's name."""
    spec = parse(values)
    return [(Job(name=u.name, payload={"unit": u.name}), {u.name: key(spec, u)}) for u in spec.units]


def looked(spec: LookSpec, name: str) -> Looked:
    """The model of this name."""
    (found,) = (u for u in spec.units if u.name == name)
    return found
