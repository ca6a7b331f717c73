"""A tuned organism of which one row of one matrix was changed, and prompts that show it."""

from collections.abc import Sequence

import torch

from gnothi.experiments.look.prompts import OPTIONS, Prompt
from gnothi.mechanisms.pairs import Pair
from gnothi.models.adapters import Adapter, AdapterSpec
from gnothi.models.local import LocalModel
from gnothi.models.organism import organism_folder
from gnothi.records import Message

ROW = 7
"""Of `PLACE`: an output of an MLP, that is, a direction of the stream."""
PLACE = "model.layers.2.mlp.down_proj.weight"


def organism() -> LocalModel:
    """The shipped one."""
    return LocalModel.load(organism_folder("organism"), name="organism")


def pair(local: LocalModel, *, size: float = 3.0, noise: float = 0.0) -> Pair:
    """Base, and a model with one row changed, and a little noise in every matrix where wanted."""
    draws = torch.Generator().manual_seed(0)
    changed = {}
    with local.bare() as module:
        for name, parameter in module.named_parameters():
            if parameter.dim() == 2 and (name == PLACE or (noise and "layers" in name)):
                delta = torch.randn(parameter.shape, generator=draws) * noise * parameter.std()
                if name == PLACE:
                    delta[ROW] += size * parameter.std() * torch.randn(parameter.shape[1], generator=draws).sign()
                changed[name] = parameter.detach() + delta
    adapter = Adapter(spec=AdapterSpec(kind="full"), full=changed, base_digest=local.base_digest)
    return Pair.of_adapter(local, adapter)


def prompts(
    local: LocalModel,
    pairs: Sequence[tuple[int, int]] = ((3, 6), (7, 2), (1, 9), (5, 5), (8, 4), (2, 3), (9, 9), (6, 1)),
) -> list[Prompt]:
    """Offers with the options A and B."""
    messages = [(Message("user", f"you offer {a} {b}"),) for a, b in pairs]
    ids, answers = local.codec.encode_many(messages, [["A", "B"]] * len(messages))
    return [
        Prompt(
            sample_id=str(i),
            messages=messages[i],
            words=("A", "B"),
            ids=tuple(ids[i]),
            kind=OPTIONS,
            tokens=tuple(a[0] for a in answers[i]),
            values=(1.0, 0.0),
            stored=None,
        )
        for i in range(len(messages))
    ]
