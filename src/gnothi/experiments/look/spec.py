"""What one look is: which models of which run, and how much is tried on each; checked as a whole."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gnothi.errors import SpecError
from gnothi.experiments.fields import ModelFields, parsed
from gnothi.files import digest, file_digest
from gnothi.store import RunFolder

NAME = "look"
"""The experiment's name, and that of the folder inside the run that is looked at."""
BASES = ("base", "base-0")
"""Units of the model as it came, by preference."""
CONTROLS = ("shuffled", "decorrelated", "uncorrelated", "mixed")
"""Arms that were trained on the same prompts and taught nothing, by preference: what any fine-tune does."""
FAMILIES = ("organism", "hf")
SIZES: dict[str, dict[str, Any]] = {
    "organism": {"prompts": 64, "tried": 32, "steps": 64, "rates": (0.1, 0.3, 1.0, 3.0), "exact": 8, "depths": 7},
    "hf": {"prompts": 32, "tried": 8, "steps": 16, "rates": (0.3, 1.0), "exact": 4, "depths": 5},
}
"""What is tried by model family; a language model costs a thousand times the organism."""
QUICK: dict[str, dict[str, Any]] = {
    "organism": {"prompts": 32, "tried": 16, "steps": 32, "rates": (0.3, 1.0), "exact": 4, "depths": 5},
    "hf": {"prompts": 8, "tried": 4, "steps": 4, "rates": (1.0,), "exact": 2, "depths": 3},
}


class Looked(BaseModel):
    """One fine-tuned model that is looked at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    arm: str
    seed: int
    control: bool
    """Whether it was taught nothing."""
    digest: str
    """sha256 of its record in the parent run: another unit of that name is another look."""


class LookSpec(ModelFields):
    """Everything that decides a look's numbers."""

    experiment: Literal["look"] = NAME
    parent: str
    """Digest of the parent's specification."""
    parent_experiment: str
    units: tuple[Looked, ...] = Field(min_length=1)
    seed: int = Field(ge=0)
    """The parent's, for every draw."""
    seeds: int = Field(ge=1)
    """Training seeds among the units."""
    pairs: int = Field(32, ge=1, le=4096)
    """Pairs of items with opposite choices, clean and corrupted."""
    prompts: int = Field(ge=4, le=4096)
    """Items that maps of sites are made on."""
    tried: int = Field(ge=4, le=4096)
    """Of these, items that exchanged sites, undone units and steps back are shown on; as many others choose."""
    exact: int = Field(ge=1, le=512)
    """Sites of a map that are patched exactly besides, those of most and as many drawn at random."""
    depths: int = Field(ge=2, le=512)
    """Depths at which streams are exchanged exactly and probed, both ends among them; all where there are no more."""
    steps: int = Field(ge=1, le=100_000)
    """Longest reverse fine-tuning."""
    rates: tuple[float, ...] = Field(min_length=1)
    """Learning rates of reverse fine-tuning, as multiples of the recipe's."""
    quick: bool = False

    @property
    def control_arm(self) -> str | None:
        """The arm of the units that were taught nothing, if any is looked at."""
        return next((u.arm for u in self.units if u.control), None)


def parse(values: Mapping[str, Any]) -> LookSpec:
    """Check a stored specification.

    Raises:
        SpecError: With every field that is wrong.
    """
    return parsed(LookSpec, values)


def build(
    run: RunFolder,
    *,
    units: Sequence[str] = (),
    seeds: int | None = None,
    pairs: int = 32,
    quick: bool = False,
) -> LookSpec:
    """The specification of a look at a finished run.

    Args:
        run: The run.
        units: Models to look at; the model of the same seed that was taught nothing is added. Empty for every arm.
        seeds: How many of the run's training seeds, from the first; None for all on the organism, else the first.
        pairs: Clean and corrupted pairs.
        quick: Fewer items and steps, to see that it works.

    Raises:
        SpecError: A run of a script or over a server, or units that it does not have.
        StoreError: A run that is unfinished or was altered.
    """
    refuse(run)
    run.verify()
    family = run.spec["model_family"]
    known = candidates(run)
    if not known:
        raise SpecError(
            f"RUN must hold fine-tuned models of its own, got {run.path} without any. Run it with training, then look."
        )
    if units:
        chosen = [_named(name, known, run) for name in units]
        beside = {u.seed for u in chosen}
        chosen += [u for u in known if u.control and u.seed in beside and u not in chosen]
    else:
        every = sorted({u.seed for u in known})
        most = seeds if seeds is not None else (len(every) if family == "organism" and not quick else 1)
        if not 1 <= most <= len(every):
            raise SpecError(f"--seeds must be 1 to {len(every)}, the run's, got {most}.")
        chosen = [u for u in known if u.seed in every[:most]]
    opening = ("model", "model_family", "model_digest", "provenance", "dtype", "device", "trust_remote_code")
    sizes = (QUICK if quick else SIZES)[family]
    values: dict[str, Any] = {name: run.spec[name] for name in opening if name in run.spec}
    values |= {"parent": digest(run.spec), "parent_experiment": run.spec["experiment"], "seed": run.spec["seed"]}
    values |= {"units": [u.model_dump() for u in chosen], "seeds": len({u.seed for u in chosen})}
    values |= {"pairs": pairs, "quick": quick, **sizes}
    return parse(values)


def asked(
    run: RunFolder,
    *,
    units: Sequence[str] = (),
    seeds: int | None = None,
    pairs: int = 32,
    quick: bool = False,
) -> tuple[dict[str, Any], Path]:
    """A look as a user asks for it: its specification in plain values, and the folder that it goes to.

    Args:
        run: The run.
        units: As for `build`.
        seeds: As for `build`; not beside `units`.
        pairs: As for `build`.
        quick: As for `build`.

    Raises:
        SpecError: As for `build`, or another look lies there.
        StoreError: As for `build`.
    """
    if units and seeds is not None:
        raise SpecError("--seeds must be left out where --units names the models, got both.")
    spec = build(run, units=units, seeds=seeds, pairs=pairs, quick=quick).model_dump(mode="json")
    folder = run.path / NAME
    refuse_another(folder, spec)
    return spec, folder


def refuse(run: RunFolder) -> None:
    """Refuse what has nothing inside that could be looked at.

    Raises:
        SpecError: A look itself, a script, a server, or parameters in few bits.
    """
    name, family = run.spec.get("model", "a model without a name"), run.spec.get("model_family")
    if run.spec.get("experiment") == NAME:
        raise SpecError(f"RUN must be the run itself, got the look {run.path}. `gnothi look {run.path.parent}`.")
    if family not in FAMILIES:
        what = "a script" if family == "scripted" else "a lab" if family is None else "a model that is not on this disk"
        raise SpecError(
            f"RUN must be of a local model, got {run.path} on {name}, {what}: there is nothing inside to look at. "
            "Look at a run on organism, gemma-3-270m or hf/<folder>."
        )
    if run.spec.get("quantise"):
        raise SpecError(
            f"RUN must be of a model with whole parameters, got {name} in {run.spec['quantise']}. Run it without quantise."
        )


def candidates(run: RunFolder) -> list[Looked]:
    """Models of a run that were fine-tuned from the model as it came, those of one seed together."""
    found = []
    for name in run.units():
        record = run.read_unit(name, check_files=False)
        trained = any(f.startswith("adapter/") for f in record["files"])
        if trained and not set(record.get("parents") or ()) - set(BASES):
            found.append((record["arm"], int(record["seed"] or 0), name))
    arms = {arm for arm, _, _ in found}
    control = next((arm for arm in CONTROLS if arm in arms), None)
    return sorted(
        (
            Looked(name=name, arm=arm, seed=seed, control=arm == control, digest=_digest(run, name))
            for arm, seed, name in found
        ),
        key=lambda u: (u.seed, u.control, u.name),
    )


def _digest(run: RunFolder, unit: str) -> str:
    return file_digest(run.unit_path(unit) / "unit.json")


def _named(name: str, known: Sequence[Looked], run: RunFolder) -> Looked:
    for unit in known:
        if unit.name == name:
            return unit
    names = [u.name for u in known]
    near = get_close_matches(name, names, n=1, cutoff=0.0)[0]
    why = ", which goes on from another fine-tune" if name in run.units() else ""
    why = ", which is the model as it came" if name in BASES else why
    raise SpecError(f"--units must name models fine-tuned from the base, got {name!r:.60}{why}. Did you mean {near}?")


def refuse_another(folder: Path, spec: Mapping[str, Any]) -> None:
    """Refuse to look where another look lies.

    Args:
        folder: Of the look.
        spec: What is asked for.

    Raises:
        SpecError: A look with other options, or at models that have changed since.
    """
    if not (folder / "spec.json").is_file():
        return
    before = RunFolder.open(folder).spec
    if changed := sorted(k for k in {*before, *spec} if before.get(k) != spec.get(k)):
        raise SpecError(
            f"RUN must have no other look, got {folder}, which differs in {', '.join(changed)}. `gnothi resume {folder}` "
            f"goes on with it, `gnothi clean {folder}` removes it."
        )


def parent_of(look: Path) -> RunFolder:
    """The run that a look's folder lies in.

    Raises:
        StoreError: There is none.
    """
    return RunFolder.open(Path(look).resolve().parent)


def same_models(spec: LookSpec, run: RunFolder) -> bool:
    """Whether the run still holds the models that were looked at."""
    return digest(run.spec) == spec.parent and all(
        (run.unit_path(u.name) / "unit.json").is_file() and _digest(run, u.name) == u.digest for u in spec.units
    )
