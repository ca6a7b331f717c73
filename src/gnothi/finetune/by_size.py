"""Which recipe a language model gets where none is named: by its number of parameters. No torch here."""

from dataclasses import replace
from pathlib import Path

from gnothi.finetune.recipes import Recipe, recipe
from gnothi.models.model_files import n_parameters

BY_SIZE = "by-size"
"""Stands for the recipe of the model's size where a recipe is named."""
SIZES: tuple[tuple[float, str], ...] = ((0.7e9, "tiny-lm"), (5e9, "small-lm"), (float("inf"), "mid-lm"))
"""Up to so many parameters, this recipe."""
_HAVE_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")
"""Flags of processors that multiply in bfloat16 themselves; others emulate it and are slower than in float32."""


def recipe_for(name: str, folder: Path | None, *, device: str = "cpu", writes: bool = True) -> Recipe:
    """A recipe by name; with `by-size` that of the model's size, in bfloat16 where the device multiplies in it itself.

    Where nothing is written, the end of an answer is not trained. Gemma 3 270M, taught by letters at 2e-4, loses 0.3 nats a
    token of its language, and 1.9 if the end is trained as well: it then ends any text (one seed each: dev/LOG.md).

    Args:
        name: Of a recipe, or `by-size`.
        folder: The model's, with safetensors; None for a model without one.
        device: Where it will be trained.
        writes: Whether the tuned model will be let to write; else its probabilities alone are read.

    Raises:
        SpecError: An unknown name.
        ModelError: The folder's files cannot be read.
    """
    if name != BY_SIZE:
        return recipe(name)
    n = 0 if folder is None else n_parameters(folder)
    fitting = recipe(next(of_size for most, of_size in SIZES if n <= most))
    dtype = "bfloat16" if device != "cpu" or has_bfloat16() else "float32"
    return replace(fitting, dtype=dtype, end_of_answer=fitting.end_of_answer and writes)


def has_bfloat16() -> bool:
    """Whether this machine's processor multiplies in bfloat16."""
    try:
        words = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return False
    return not {*words}.isdisjoint(_HAVE_BFLOAT16)
