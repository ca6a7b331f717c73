"""From a name or a specification to the study."""

import importlib

from gnothi.errors import SpecError
from gnothi.experiments import STUDIES
from gnothi.experiments.study.design import AbstractStudy
from gnothi.experiments.study.spec import StudySpec


def study_class(name: str) -> type[AbstractStudy]:
    """Import a study by name.

    Raises:
        SpecError: There is none of that name.
    """
    if name not in STUDIES:
        raise SpecError(f"EXPERIMENT must be one of {', '.join(STUDIES)}, got {name!r:.60}. See `gnothi run --help`.")
    module, _, found = STUDIES[name].partition(":")
    return getattr(importlib.import_module(module), found)


def study_of(spec: StudySpec) -> AbstractStudy:
    """The study of a specification.

    Raises:
        SpecError: A specification that does not fit it.
    """
    return study_class(spec.experiment)(spec)
