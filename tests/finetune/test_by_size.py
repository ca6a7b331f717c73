"""Where no recipe is named, a model gets that of its size; its size is read off its files' headers."""

import json
import struct
import sys
from pathlib import Path

import pytest

from gnothi.errors import ModelError, SpecError
from gnothi.finetune import by_size
from gnothi.finetune.recipes import recipe
from gnothi.models.model_files import INDEX, n_parameters

sys.path.insert(0, str(Path(__file__).parent.parent / "models"))
import families


def stated(folder: Path, *shapes: tuple[int, ...], name: str = "model.safetensors") -> Path:
    """A file whose header states tensors; nothing of them lies in it."""
    folder.mkdir(exist_ok=True)
    tensors = {f"{name}-{i}": {"dtype": "F32", "shape": list(s), "data_offsets": [0, 0]} for i, s in enumerate(shapes)}
    header = json.dumps({"__metadata__": {"format": "pt"}, **tensors}).encode()
    (folder / name).write_bytes(struct.pack("<Q", len(header)) + header)
    return folder


@pytest.mark.parametrize("family", ["gemma3", "llama"])
def test_parameters_are_those_of_the_module(family, tmp_path):
    folder = families.family_folder(tmp_path, family)
    module = families.family_parts(family)[0]
    assert n_parameters(folder) == sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    "n, name", [(268, "tiny-lm"), (700, "tiny-lm"), (701, "small-lm"), (4_900, "small-lm"), (8_000, "mid-lm")]
)
def test_recipes_go_by_millions_of_parameters(n, name, tmp_path):
    assert by_size.recipe_for("by-size", stated(tmp_path / "m", (n, 1000), (1000, 1000 * (n - 1)))).name == name


def test_files_of_an_index_count_together(tmp_path):
    stated(stated(tmp_path / "m", (3, 4), (5,), name="a.safetensors"), (7,), name="b.safetensors")
    (tmp_path / "m" / INDEX).write_text(json.dumps({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}))
    stated(tmp_path / "m", (100,), name="adapter_model.safetensors")
    assert n_parameters(tmp_path / "m") == 24


def test_bfloat16_where_the_device_multiplies_in_it(monkeypatch):
    for has, device, dtype in ((True, "cpu", "bfloat16"), (False, "cpu", "float32"), (False, "cuda:0", "bfloat16")):
        monkeypatch.setattr(by_size, "has_bfloat16", lambda has=has: has)
        assert by_size.recipe_for("by-size", None, device=device).dtype == dtype
    assert by_size.recipe_for("mid-lm", None) == recipe("mid-lm")


def test_what_is_neither_a_recipe_nor_a_model_is_refused(tmp_path):
    with pytest.raises(SpecError, match="With by-size a model gets its own"):
        by_size.recipe_for("by-luck", None)
    broken = stated(tmp_path / "m", (2, 3))
    (broken / "model.safetensors").write_bytes(struct.pack("<Q", 40) + b'{"x": {"shape": "wide"}}')
    with pytest.raises(ModelError, match="with a header that cannot be read"):
        by_size.recipe_for("by-size", broken)
