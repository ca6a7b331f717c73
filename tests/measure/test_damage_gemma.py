"""The damage battery on a real model: nothing where nothing changed, and a wrecked model fails. Slow."""

import importlib.util

import pytest
import torch

from gnothi.measure.damage import damage, kind_of
from gnothi.measure.damage_gate import Thresholds, verdict
from gnothi.models import gemma
from gnothi.models.adapters import Adapter, AdapterSpec, new_lora, target_modules
from gnothi.models.local import LocalModel
from gnothi.models.registry import resolve

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec(gemma.MODULE) is None, reason=f"needs {gemma.PACKAGE}"),
]


@pytest.fixture(scope="module")
def base() -> LocalModel:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(gemma.ACCEPT, "1")
        info = resolve("gemma-3-270m")
    assert info.folder is not None
    return LocalModel.load(info.folder, name=info.name)


def lora(base: LocalModel, size: float) -> LocalModel:
    generator = torch.Generator().manual_seed(0)
    fresh = new_lora(base.module, target_modules(base.module, ("all",)), 8, 0)
    pairs = {n: (a, size * torch.randn(b.shape, generator=generator)) for n, (a, b) in fresh.items()}
    return base.with_adapter(Adapter(spec=AdapterSpec(kind="lora", rank=8, alpha=16.0, targets=("all",)), lora=pairs))


def test_an_adapter_that_changes_nothing_passes_and_its_base_follows_instructions(base):
    assert kind_of(base, organism=False) == "base"
    found = damage(lora(base, 0.0), base, kind="base", seed=0, quick=True)
    assert found.figures["kl_text"].value == found.figures["kl_answers"].value == 0.0
    assert all(f.change is None or abs(f.change) < 1e-4 for f in found.figures.values())
    assert found.figures["instructions"].value > 0.5 and 1 < found.figures["loss"].value < 4
    assert verdict(found, Thresholds()) == (True, None)


def test_a_wrecked_model_fails(base):
    found = damage(lora(base, 0.1), base, kind="base", seed=0, quick=True)
    passed, reason = verdict(found, Thresholds())
    assert not passed and "held-out loss" in reason and "0% of instructions" in reason
