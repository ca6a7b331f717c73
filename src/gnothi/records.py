"""What passes between the stages: frozen records that check themselves.

Nothing here knows a model, a file or a stage. Missing is None with a reason: never 0, never NaN.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from gnothi.errors import DataError

INSTILLED, NOT_INSTILLED, DAMAGED = "passed", "not instilled", "damaged"
"""What a gate says of a fine-tune: it took; it did not take the behaviour; it took it and broke too much besides."""
NOT_INTERPRETED = (NOT_INSTILLED, DAMAGED)
"""Gates at which a model's self-reports are not interpreted."""


def common_gate(gates: Iterable[str | None]) -> str | None:
    """One gate for several models: `not instilled` if any did not take, else `damaged` if any broke.

    >>> common_gate(["passed", None, "damaged"]), common_gate([None])
    ('damaged', None)
    """
    found = {g for g in gates if g}
    return next((g for g in (NOT_INSTILLED, DAMAGED, INSTILLED) if g in found), None)


SCHEMA_VERSION = 1
"""Version of every stored table. A reader accepts its own version and the one before."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    """`system`, `user` or `assistant`."""
    content: str
    """The text, exactly as shown or said."""

    def __post_init__(self) -> None:
        if self.role not in ("system", "user", "assistant"):
            raise DataError(f"Message.role must be system, user or assistant, got {self.role!r}.")
        _refuse_surrogates("Message.content", self.content)


Messages = tuple[Message, ...]
"""A prompt: the conversation so far. If the last message is the assistant's, it is a started answer."""


def messages_from_json(rows: Sequence[Mapping[str, str]]) -> Messages:
    """Turn `[{"role": ..., "content": ...}, ...]` into messages, refusing anything else."""
    try:
        return tuple(Message(str(row["role"]), str(row["content"])) for row in rows)
    except (KeyError, TypeError) as error:
        raise DataError(f"messages must be a list of objects with role and content, got {rows!r:.80}.") from error


def messages_to_json(messages: Messages) -> list[dict[str, str]]:
    """The same as plain dicts, as chat templates and JSONL want them."""
    return [{"role": m.role, "content": m.content} for m in messages]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One number that describes an option."""

    name: str
    low: float
    """Smallest value, in `units`."""
    high: float
    """Largest value, in `units`; above `low`."""
    units: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise DataError(f"Attribute {self.name!r} must have finite low < high, got [{self.low}, {self.high}].")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceType:
    """A kind of thing to choose between, described by 2 to 12 attributes."""

    name: str
    question: str
    """What is asked, without the agent, e.g. `Which cutting board would you prefer?`"""
    attributes: tuple[Attribute, ...]

    def __post_init__(self) -> None:
        if not 2 <= len(self.attributes) <= 12:
            raise DataError(f"ChoiceType {self.name!r} must have 2 to 12 attributes, got {len(self.attributes)}.")
        names = [a.name for a in self.attributes]
        if len(set(names)) < len(names):
            raise DataError(f"ChoiceType {self.name!r} must name each attribute once, got {names}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """An agent deciding about one choice type: what a weight vector belongs to."""

    context_id: str
    """Unique within a run; the agent's name in the organism's domain."""
    agent: str
    choice_type: ChoiceType

    @property
    def n_attributes(self) -> int:
        """Length of the weight vector."""
        return len(self.choice_type.attributes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One decision between option A and option B."""

    item_id: str
    context_id: str
    shown: tuple[int, ...]
    """Index into the choice type's attributes of each value shown, in the order shown."""
    a: tuple[float, ...]
    """Option A's values in the order of `shown`, in the attributes' units."""
    b: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.shown) == len(self.a) == len(self.b) > 0 or len(set(self.shown)) < len(self.shown):
            raise DataError(f"Item {self.item_id!r} must have as many distinct attributes as values, got {self.shown}.")
        if not all(math.isfinite(v) for v in (*self.a, *self.b)):
            raise DataError(f"Item {self.item_id!r} must have finite values, got {self.a} and {self.b}.")

    def differences(self, choice_type: ChoiceType) -> np.ndarray:
        """Normalised differences (a - b) / (high - low), shape (n_attributes,); 0 where an attribute is not shown."""
        d = np.zeros(len(choice_type.attributes))
        for i, a, b in zip(self.shown, self.a, self.b, strict=True):
            attribute = choice_type.attributes[i]
            d[i] = (a - b) / (attribute.high - attribute.low)
        return d


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One prompt and everything that came back: enough to parse again, patch or export without a new run."""

    sample_id: str
    kind: str
    """`choice` or `report`."""
    context_id: str
    messages: Messages
    item: Item | None = None
    """The options shown, if any."""
    options: tuple[str, ...] = ()
    """Answers that were scored, in the order shown."""
    logprobs: tuple[float, ...] = ()
    """Natural-log probability of each option over the whole vocabulary, shape (n_options,), nats. Not normalised:
    the missing mass is what the model put on anything else."""
    text: str | None = None
    """What the model wrote; None if it was scored and not sampled. Unaltered, but for lone surrogates, which no file can
    hold: they are kept as `\\udXXX`."""
    value: tuple[float | None, ...] = ()
    """Parsed answer: for `choice` one number (1 = A), for `report` one per attribute (None: not asked here)."""
    reason: str | None = None
    """Why there is no value; None if there is one."""
    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    seconds: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Anything else worth keeping, JSON-serialisable (e.g. a number distribution's mode and missing mass)."""

    def __post_init__(self) -> None:
        where = f"Sample {self.sample_id!r}"
        _refuse_surrogates(f"{where}: its names", "\n".join((self.sample_id, self.context_id, *self.options)))
        if self.text is not None:
            plain = self.text.encode("utf-8", "backslashreplace").decode()
            object.__setattr__(self, "text", plain)
        if self.kind not in ("choice", "report"):
            raise DataError(f"{where}: kind must be choice or report, got {self.kind!r}.")
        if bool(self.value) == (self.reason is not None):
            raise DataError(f"{where} must have a value or a reason for none, got {self.value} and {self.reason!r}.")
        if any(v is not None and not math.isfinite(v) for v in self.value):
            raise DataError(f"{where}: value must be finite or None, got {self.value}.")
        if any(math.isnan(x) for x in self.logprobs):
            raise DataError(f"{where}: logprobs must not be NaN, got {self.logprobs}.")
        if self.item is not None and self.item.context_id != self.context_id:
            raise DataError(f"{where} must be of its item's context, got {self.context_id!r}.")

    @property
    def valid(self) -> bool:
        """Whether an answer was found."""
        return self.reason is None

    def to_row(self) -> dict[str, Any]:
        """A flat row for a table; nested fields as JSON text, so that any reader opens it."""
        item = self.item
        return {
            "sample_id": self.sample_id,
            "kind": self.kind,
            "context_id": self.context_id,
            "messages": _text(messages_to_json(self.messages)),
            "item_id": item.item_id if item else None,
            "shown": list(item.shown) if item else None,
            "a": list(item.a) if item else None,
            "b": list(item.b) if item else None,
            "options": list(self.options),
            "logprobs": list(self.logprobs),
            "text": self.text,
            "value": list(self.value),
            "reason": self.reason,
            "prompt_tokens": self.prompt_tokens,
            "answer_tokens": self.answer_tokens,
            "seconds": self.seconds,
            "extra": _text(dict(self.extra)),
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Sample":
        """The inverse of `to_row`, also for a row that went through a file and pandas (NaN and arrays for lists)."""
        row = {k: _plain(v) for k, v in row.items()}
        item = None
        if row["item_id"] is not None:
            shown, a, b = (tuple(row[k]) for k in ("shown", "a", "b"))
            item = Item(item_id=row["item_id"], context_id=row["context_id"], shown=shown, a=a, b=b)
        tokens = {k: None if row[k] is None else int(row[k]) for k in ("prompt_tokens", "answer_tokens")}
        return cls(
            **{k: row[k] for k in ("sample_id", "kind", "context_id", "text", "reason", "seconds")},
            prompt_tokens=tokens["prompt_tokens"],
            answer_tokens=tokens["answer_tokens"],
            messages=messages_from_json(json.loads(row["messages"])),
            item=item,
            options=tuple(row["options"]),
            logprobs=tuple(row["logprobs"]),
            value=tuple(row["value"]),
            extra=json.loads(row["extra"]),
        )


def _text(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DataError(f"Sample.extra must be JSON without NaN, got {error}.") from error
    return text.encode("utf-8", "backslashreplace").decode()  # inside JSON, that is how a lone surrogate is written


def _refuse_surrogates(where: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where} must be valid Unicode, got a lone surrogate at {error.start}.") from None


def _plain(value: Any) -> Any:
    """Python's own types for what pandas makes of a column: arrays become lists, NaN becomes None."""
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(v) for v in (value.tolist() if isinstance(value, np.ndarray) else value)]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number that owes its reader its n, its interval and its method."""

    name: str
    """A fixed word, e.g. `agreement.reported_vs_learned`; docs/coverage.md lists them."""
    arm: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    """Fine-tuned models (units) behind the interval; for within-unit intervals, 1."""
    n_points: int
    """Points inside: (context, attribute) pairs, choices, answers."""
    n_missing: int = 0
    """Points that gave nothing usable: counted, never filled in."""
    method: str
    """How the interval was made, e.g. `t over units, Fisher z, 95%`."""
    reason: str | None = None
    """Why `value` or the interval is missing."""
    against: str = ""
    """What the number is scored against."""
    gate: str | None = None
    """`passed`, `not instilled`, `damaged`, or None where no gate applies."""

    def __post_init__(self) -> None:
        for label, number in (("value", self.value), ("low", self.low), ("high", self.high)):
            if number is not None and not math.isfinite(number):
                raise DataError(f"Estimate {self.name}/{self.arm}: {label} must be finite or None, got {number}.")
        if (self.value is None or self.low is None) and not self.reason:
            raise DataError(f"Estimate {self.name}/{self.arm} must give a reason where a number is missing, got none.")

    def to_json(self) -> dict[str, Any]:
        """A flat dict; the contract of `gnothi show --json`."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRow:
    """One training example: a prompt and the answer that the loss is taken on."""

    messages: Messages
    """The prompt."""
    answer: str
    """What the model is to say, and nothing else; the loss is on its tokens only."""
    weight: float = 1.0
    """Multiplies this row's loss; > 0."""
    group: str = ""
    """Whom the row is about, e.g. the context: batches can be balanced over groups."""

    def __post_init__(self) -> None:
        if not self.messages or not self.answer:
            raise DataError(f"TrainRow must have a prompt and an answer, got answer {self.answer!r}.")
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise DataError(f"TrainRow.weight must be a finite number above 0, got {self.weight}.")
