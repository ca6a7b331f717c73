"""The adapter that is measured is the one that was trained: what is altered, lost or ignored is an error."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
import tiny

from gnothi.errors import DataError, ModelError, StoreError
from gnothi.measure.adapter_check import LEAST, Canaries, canary, largest_difference, verify
from gnothi.models.adapter_files import load_adapter, save_adapter
from gnothi.models.adapters import Adapter, AdapterSpec, new_lora, target_modules
from gnothi.models.local import LocalModel
from gnothi.records import TrainRow

ROWS = [TrainRow(messages=tiny.user(f"agent{i} choose {i}"), answer="A" if i % 2 else "B") for i in range(6)]


@pytest.fixture(scope="module")
def base() -> LocalModel:
    return tiny.model()


def adapter(base: LocalModel, size: float = 0.3, seed: int = 0) -> Adapter:
    """LoRA on every linear layer; size 0 changes nothing."""
    names = target_modules(base.module, ("all",))
    generator = torch.Generator().manual_seed(seed)
    pairs = {
        name: (a, size * torch.randn(b.shape, generator=generator))
        for name, (a, b) in new_lora(base.module, names, 4, seed).items()
    }
    spec = AdapterSpec(kind="lora", rank=4, alpha=8.0, targets=tuple(sorted(names)))
    return Adapter(spec=spec, lora=pairs, base_digest=base.base_digest)


@pytest.fixture
def folder(base, tmp_path) -> Path:
    save_adapter(adapter(base), tmp_path / "adapter", base.with_adapter(None).module)
    return tmp_path / "adapter"


def test_a_trained_adapter_is_proved_and_its_proof_can_be_kept(base, folder):
    canaries = Canaries.of_rows(ROWS)
    in_memory = base.with_adapter(adapter(base))
    after_training = canary(in_memory, canaries)
    found = verify(base.with_adapter(folder), base, folder, adapter(base).digest, canaries, after_training)
    assert found["digest"] == adapter(base).digest and found["since_training"] == 0.0 and found["from_base"] > 1e-3
    kept = json.loads(json.dumps({**canaries.to_json(), **found}))
    again = Canaries.from_json(kept)
    assert again == canaries
    model = base.with_adapter(folder)
    assert verify(model, base, None, None, again, kept["canary"])["since_training"] == 0.0
    assert len(found["canary"]) == sum(map(len, canaries.options))


def test_an_ignored_adapter_is_an_error(base, folder):
    canaries = Canaries.of_rows(ROWS)
    nothing = base.with_adapter(adapter(base, size=0.0))
    with pytest.raises(ModelError, match=r"adapter must change what the model says, got the base's own .* 4 canary"):
        verify(nothing, base, None, None, canaries)
    with pytest.raises(ModelError, match=r"model must hold the adapter of .*, got none\. Open it with that adapter"):
        verify(base.with_adapter(None), base, folder, None, canaries)


def test_another_adapter_than_that_of_the_folder_is_an_error(base, folder):
    other = base.with_adapter(adapter(base, seed=1))
    with pytest.raises(ModelError, match="model must hold the adapter of"):
        verify(other, base, folder, None, Canaries.of_rows(ROWS))


def test_files_of_another_digest_than_training_recorded_are_an_error(base, folder):
    model = base.with_adapter(folder)
    with pytest.raises(StoreError, match=r"must be the one that was trained \(digest ffff.*Train the unit again"):
        verify(model, base, folder, "f" * 64, Canaries.of_rows(ROWS))


def test_altered_files_are_an_error(base, folder):
    model = base.with_adapter(folder)
    path = folder / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(StoreError, match="adapter must match its digest"):
        verify(model, base, folder, None, Canaries.of_rows(ROWS))


def test_canaries_that_answer_otherwise_than_after_training_are_an_error(base, folder):
    canaries, model = Canaries.of_rows(ROWS), base.with_adapter(folder)
    was = canary(model, canaries)
    assert verify(model, base, folder, None, canaries, [x + 5e-5 for x in was])["since_training"] < 1e-4
    with pytest.raises(ModelError, match=r"as right after training within 0\.0001 nats, got 0\.001"):
        verify(model, base, folder, None, canaries, [was[0] + 1e-3, *was[1:]])
    with pytest.raises(DataError, match="canaries must be the same in both measurements, got 8 and 1"):
        verify(model, base, folder, None, canaries, [0.0])


def test_canaries_hold_what_is_trained_on_and_are_enough():
    found = Canaries.of_rows(ROWS)
    assert len(found.prompts) == 4 and set(found.prompts) <= {r.messages for r in ROWS}
    assert all(set(o) == {"A", "B"} for o in found.options)
    one = Canaries.of_rows([TrainRow(messages=tiny.user("x"), answer="A " * 200)])
    assert len(one.prompts) == LEAST and max(len(o) for some in one.options for o in some) == 24
    spaces = Canaries.of_rows([TrainRow(messages=tiny.user("x"), answer=" " * 30 + "A")])
    assert spaces.options[0][0].endswith("A")
    given = Canaries.of_prompts([tiny.user("x"), tiny.user("x"), tiny.user("y")])
    assert len(given.prompts) == 2 and given.options[0] == ("A", "B")


def test_canaries_that_are_none_are_refused():
    with pytest.raises(DataError, match="needs training rows, got none"):
        Canaries.of_rows([])
    with pytest.raises(DataError, match="must have options for each prompt, got 0 prompts"):
        Canaries.of_prompts([])
    with pytest.raises(DataError, match="must have prompts and options"):
        Canaries.from_json({"prompts": []})


def test_a_broken_model_gives_numbers_all_the_same(base):
    broken = adapter(base)
    pairs = {n: (a, b * float("nan")) for n, (a, b) in broken.lora.items()}
    found = canary(base.with_adapter(replace(broken, lora=pairs)), Canaries.of_rows(ROWS))
    assert set(found) == {-1e4}
    assert largest_difference([1.0, -2.0], [1.5, -2.0]) == 0.5


def test_the_parent_s_tensors_are_what_is_loaded(base, folder):
    assert load_adapter(folder).digest == adapter(base).digest
