"""Files that a run depends on: one's own behaviour or questions, fine-tunes that exist already, a judge; each tied by its digest."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gnothi.data import own_file
from gnothi.errors import ModelError, SpecError
from gnothi.experiments.study.spec import StudySpec
from gnothi.files import digest, file_digest
from gnothi.models.registry import resolve
from gnothi.render.questions.files import files_of


def with_digests(options: Mapping[str, Any]) -> dict[str, Any]:
    """Add the digest of every file that the options name.

    Raises:
        SpecError: A file that is not there.
        ModelError: An adapter folder, or a judge, that is not one.
    """
    found = _completed(options) if options.get("file") else dict(options)
    if found.get("questions") is not None:
        found["questions"] = str(found["questions"])
        found["questions_digest"] = _digest_of(Path(found["questions"]))
    if found.get("adapters"):
        given = found["adapters"]
        folders = [given] if isinstance(given, str | Path) else list(given)
        found["adapters"] = [str(f) for f in folders]
        found["adapter_digests"] = [_adapter_digest(Path(f)) for f in folders]
    if found.get("judge") is not None:
        try:
            found["judge_digest"] = resolve(str(found["judge"])).digest
        except (SpecError, ModelError) as error:
            raise type(error)(str(error).replace("--model", "--judge", 1)) from error
    return found


def _completed(options: Mapping[str, Any]) -> dict[str, Any]:
    """Add what a file on a behaviour of one's own states, under what was given by hand, and what a run keeps of it."""
    path = str(options["file"])
    facts = own_file.load(path).facts
    stated = {k: v for k, v in own_file.fields(path).items() if k != "model"}
    given = {k: v for k, v in options.items() if v is not None}
    found: dict[str, Any] = stated | given | {"file": path, "facts": facts.to_json(), "writes": not facts.options}
    if facts.demonstrations:
        found["rows_at_hand"] = facts.rows
    elif found.get("adapters"):
        found["train"] = False
    else:
        raise SpecError(
            f"{path} must name demonstrations or adapters, got neither. "
            "Add one of the two, or give a fine-tune's folder with --adapter."
        )
    return found


def check_digests(spec: StudySpec) -> None:
    """Refuse files that are no longer what the run was started with.

    Raises:
        SpecError: A question file, a file that it depends on, or an adapter that was changed since.
    """
    if spec.questions is not None and _digest_of(Path(spec.questions), known=False) != spec.questions_digest:
        raise SpecError(
            f"--questions {spec.questions} must be as it was when the run was started, with its systems.yaml and its word "
            "lists, got a file edited since. Put the old one back, or start a new run."
        )
    for folder, stated in zip(spec.adapters, spec.adapter_digests, strict=True):
        if _adapter_digest(Path(folder)) != stated:
            raise SpecError(
                f"--adapter {folder} must be as it was when the run was started, got one changed since. "
                "Put the old one back, or start a new run."
            )


def _digest_of(path: Path, *, known: bool = True) -> str | None:
    """Digest of a question file with every file that decides its prompts and scores.

    Args:
        path: The question file.
        known: Whether it is the user's own. Of a file that a stored run names, a mistake in it is not told: the digest
            is then None.
    """
    if not path.is_file():
        raise SpecError(f"--questions must name a file that exists, got {path}. See docs/questions.md.")
    try:
        path, *others = files_of(path)
    except SpecError:
        if known:
            raise
        return None
    if not others:
        return file_digest(path)
    return digest([[os.path.relpath(p.resolve(), path.parent.resolve()), file_digest(p)] for p in (path, *others)])


def _adapter_digest(folder: Path) -> str:
    found = sorted([*folder.glob("*.safetensors"), *folder.glob("*adapter*.json")]) if folder.is_dir() else []
    names = {p.name for p in found}
    if not names & {"adapter_model.safetensors", "parameters.safetensors"} or not any("adapter" in n for n in names):
        raise ModelError(
            f"--adapter {folder} must be an adapter's folder with adapter_model.safetensors in it, got none. "
            "Save it with save_pretrained of peft (safetensors is its default)."
        )
    return digest([[p.name, file_digest(p)] for p in found])
