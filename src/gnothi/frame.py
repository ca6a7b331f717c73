"""Everything that a run asked and what came back, as one table: a row for each unit and item or question."""

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gnothi.store import RunFolder

if TYPE_CHECKING:
    import pandas as pd

COLUMNS: dict[str, str] = {
    "unit": "the fine-tuned model that was asked, or the base",
    "arm": "its arm",
    "seed": "its training seed, counted from 0; missing for a base that stands for every seed",
    "fold": "half of the agents that its report training left out; missing elsewhere",
    "gate": "`passed`, `not instilled` or `damaged`; missing where no gate applies",
    "kind": "`choice`: what the model does; `report`: what it says of itself",
    "sample_id": "id of the item or question; the same in every unit and run that asks it",
    "question": "a study's question; `choice` or `weights` in `preferences`",
    "subject": "whom it is about: a persona, or the agent's context",
    "labels": "JSON object of what else groups it; in `preferences` the set of agents (`scope`) and the attributes asked for",
    "item_id": "id of the two options decided between, in `preferences`",
    "prompt_digest": "sha256 of the prompt's messages, as they are stored",
    "options": "answers that were scored, in the order shown",
    "logprobs": "natural-log probability of each of them over the whole vocabulary",
    "answer": "the text if there is one, else the likeliest option or number; missing where there are several texts or none",
    "answers": "every text that was sampled, as it came back",
    "value": "the score or number that was read; missing where there are several or none",
    "values": "all numbers that were read: for weights one an attribute, None where it was not asked",
    "reason": "why nothing could be read; missing if something was",
    "prompt_tokens": "length of the prompt, where it was kept",
    "answer_tokens": "length of the answers together, where it was kept",
    "extra": "JSON object of what else came back: the mode of a distribution, its missing mass, scores of single answers",
    "model_digest": "sha256 of the model that answered, adapter included",
    "adapter_digest": "sha256 of the adapter alone; missing for the base",
}
"""Columns of `frame`, in order, with what each holds."""


def frame(run: RunFolder, *, prompts: bool = False) -> "pd.DataFrame":
    """One row for each unit and item or question.

    Args:
        run: A run; units that are whole are read.
        prompts: Whether to add `messages`, each prompt as JSON text: it may be most of the table.

    Returns:
        `COLUMNS`, units in the order of their names, rows in the order asked. The types of columns are the same in every
        run, also where it is empty.
    """
    import pandas as pd

    columns: dict[str, list[Any]] = {name: [] for name in (*COLUMNS, *(["messages"] if prompts else []))}
    for unit in run.units():
        record = run.read_unit(unit, check_files=False)
        about = {name: record.get(name) for name in ("arm", "seed", "fold", "gate", "model_digest", "adapter_digest")}
        for name in ("choices", "reports"):
            if f"{name}.parquet" not in record["files"]:
                continue
            for row in _rows(run, unit, name):
                found = {"unit": unit, **about, **_told(row)}
                for column, values in columns.items():
                    values.append(found[column])
    table = pd.DataFrame({name: pd.Series(values, dtype=_dtype(name)) for name, values in columns.items()})
    return table


def _dtype(column: str) -> str:
    if column in ("seed", "fold", "prompt_tokens", "answer_tokens"):
        return "Int64"
    return "float64" if column == "value" else "object"


def _rows(run: RunFolder, unit: str, name: str) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    run.table(unit, name)  # for its checks
    return pq.read_table(run.unit_path(unit) / f"{name}.parquet").to_pylist()


def _told(row: Mapping[str, Any]) -> dict[str, Any]:
    """A stored sample in the words of `COLUMNS`."""
    extra = json.loads(row["extra"])
    values = list(row["value"])
    numbers = [v for v in values if v is not None]
    texts = extra.pop("answers", None) or ([] if row["text"] is None else [row["text"]])
    if "question" in row:  # a study's
        question, subject, labels = row["question"], row["subject"], row["labels"]
    else:
        question, subject = "choice" if row["kind"] == "choice" else "weights", row["context_id"]
        asked = {"attributes": extra["attributes"]} if "attributes" in extra else {}
        labels = json.dumps({"scope": row["scope"], **asked}, sort_keys=True)
    for name in ("question", "subject", "labels"):
        extra.pop(name, None)
    return {
        "kind": row["kind"],
        "sample_id": row["sample_id"],
        "question": question,
        "subject": subject,
        "labels": labels,
        "item_id": row["item_id"],
        "prompt_digest": hashlib.sha256(row["messages"].encode()).hexdigest(),
        "options": list(row["options"]),
        "logprobs": list(row["logprobs"]),
        "answer": _answer(row, texts, extra),
        "answers": list(texts),
        "value": numbers[0] if len(numbers) == 1 else None,
        "values": values,
        "reason": row["reason"],
        "prompt_tokens": row["prompt_tokens"],
        "answer_tokens": row["answer_tokens"],
        "extra": json.dumps(extra, sort_keys=True, ensure_ascii=False),
        "messages": row["messages"],
    }


def _answer(row: Mapping[str, Any], texts: list[str], extra: Mapping[str, Any]) -> str | None:
    if texts:
        return texts[0] if len(texts) == 1 else None
    logprobs = row["logprobs"]
    if len(logprobs) and logprobs.count(max(logprobs)) == 1:
        return row["options"][logprobs.index(max(logprobs))]
    return str(extra["mode"]) if extra.get("mode") is not None else None


def units(run: RunFolder) -> "pd.DataFrame":
    """One row for each unit: its record, nested facts as columns of dotted names (`damage.…`)."""
    import pandas as pd

    records = [run.read_unit(unit, check_files=False) for unit in run.units()]
    return pd.DataFrame([{"unit": r["unit"], "gate": None, **_flat(r)} for r in records])


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        nested = isinstance(value, Mapping) and name != "files"
        found |= _flat(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return found
