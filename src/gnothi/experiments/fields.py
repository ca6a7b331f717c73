"""Fields of a specification: those that say which model it is, and a check with one line for everything that is wrong."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gnothi.errors import SpecError
from gnothi.models.registry import ModelInfo, check_device

Spec = TypeVar("Spec", bound=BaseModel)


class ModelFields(BaseModel):
    """Which model a run is on, and how it is opened: the same in every specification."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    model_family: str
    model_digest: str
    """The run refuses another model of the same name."""
    provenance: dict[str, str] = Field(default_factory=dict)
    """Where the model comes from, its licence and how it is spoken to; shown on the page."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """What its parameters are kept in."""
    device: str = "cpu"
    """A torch device, e.g. `cuda`."""
    quantise: Literal["4bit", "8bit"] | None = None
    """Load linear layers in fewer bits with bitsandbytes (extra `quantised`)."""
    trust_remote_code: bool = False
    """Whether code that the model's folder brings is run; only for code that was read and is trusted."""

    @property
    def opening(self) -> dict[str, Any]:
        """How the model is opened: keyword arguments of `subject.opened`."""
        return {
            "dtype": self.dtype,
            "device": self.device,
            "quantise": self.quantise,
            "trust_remote_code": self.trust_remote_code,
        }

    def model_notes(self) -> list[str]:
        """What a page says of the model, a line each."""
        told = {k: v for k, v in self.provenance.items() if k not in ("renderer", "thinking")}
        notes = []
        if about := told.pop("about", None):
            notes.append(f"The model: {about}.")
        if told:
            notes.append("; ".join(f"{k.replace('_', ' ')}: {v}" for k, v in told.items()) + ".")
        if self.model_family == "hf":
            plain = self.provenance.get("renderer", "template") != "template"
            spoken = "in the plain form `User: … Assistant:`, since it has no chat template" if plain else ""
            spoken = spoken or "through its chat template"
            switch = self.provenance.get("thinking")
            thinking = f", with its thinking switched {switch}" if switch else ""
            loaded = f"{self.dtype} on {self.device}" + (f", linear layers in {self.quantise}" if self.quantise else "")
            notes.append(f"Conversations are written {spoken}{thinking}. Parameters: {loaded}.")
        return notes


def of_model(info: ModelInfo, values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that follow from the model that was resolved.

    Args:
        info: The model.
        values: What is known of the specification; `device` is looked at.

    Raises:
        SpecError: The device is not here.
    """
    check_device(str(values.get("device", "cpu")))
    provenance = {k: str(v) for k, v in info.provenance.items()}
    return {
        "model": info.name,
        "model_family": info.family,
        "model_digest": info.digest,
        "provenance": provenance,
    }


def parsed(kind: type[Spec], values: Mapping[str, Any]) -> Spec:
    """Check a stored or hand-written specification.

    Raises:
        SpecError: With every field that is wrong.
    """
    try:
        return kind(**values)
    except ValidationError as error:
        problems = "; ".join(_problem(kind, e) for e in error.errors())
        raise SpecError(f"spec must be possible, got {problems}. See docs/runs.md for the fields.") from error


def _problem(kind: type[BaseModel], error: Any) -> str:
    where = ".".join(map(str, error["loc"]))
    if not where:  # about several fields; the message names them
        return error["msg"].removeprefix("Value error, ").rstrip(".")
    if error["type"] != "extra_forbidden":
        return f"{where}: {error['msg']}, got {error['input']!r:.60}"
    near = get_close_matches(where, kind.model_fields, n=1)
    return f"{where}: no such field" + (f" (did you mean {near[0]}?)" if near else "")
