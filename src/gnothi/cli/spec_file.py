"""A specification in a YAML file: plain fields and values, nothing that builds or repeats anything."""

from pathlib import Path
from typing import Any

from gnothi.errors import SpecError


def read_spec(path: Path) -> tuple[str, dict[str, Any]]:
    """Read the experiment's name and the other fields.

    Raises:
        SpecError: No such file, no YAML, aliases, or no experiment in it.
    """
    import yaml

    from gnothi.data import own_file

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError(
            f"FILE.yaml must exist, got {path}. Give the path of a file, or an experiment's name."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"FILE.yaml must be a readable text file, got {path} ({error}).") from error
    if len(text) > 1_000_000:
        raise SpecError(f"FILE.yaml must be under 1 MB, got {len(text)} characters in {path}.")
    try:
        if any(isinstance(t, yaml.tokens.AliasToken) for t in yaml.scan(text, Loader=yaml.SafeLoader)):
            raise SpecError(f"FILE.yaml must have no aliases, got some in {path}. Write values out.")
        found = yaml.safe_load(text)
    except SpecError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date that is none, brackets without end
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise SpecError(
            f"FILE.yaml must be YAML, got {path} with an error{where} ({getattr(error, 'problem', None) or error}). "
            "Mend that line."
        ) from error
    if not isinstance(found, dict) or not all(isinstance(k, str) for k in found):
        raise SpecError(f"FILE.yaml must hold fields and values, got {type(found).__name__} in {path}.")
    if own_file.is_own(found):
        return "own", {**own_file.fields(path), "file": str(path)}
    name = found.pop("experiment", None)
    if name is None:
        raise SpecError(
            f"FILE.yaml must name its experiment, got fields {', '.join(list(found)[:6])} in {path}. "
            "Add a line `experiment: preferences`."
        )
    return str(name), found
