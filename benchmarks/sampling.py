"""A hundred answers a prompt on Gemma 3 270M, against transformers' own `generate` at its best batch size.

Both sides hold the same module in memory, fp32, one thread, and draw from the whole vocabulary at temperature 1, stopping
at a line's end: the peer is given every token with a newline in it as an end token, which is cheaper for it than its stop
strings. `num_return_sequences` of 100, 50 and 20 (the same total) are tried first, and the fastest counts. Answers differ,
since the peer knows no seed for one sample; `max_abs_diff` is over the probabilities of the first token, as each side's
own pass gives them. Sides alternate, and the fastest repeat counts. `flops` are those that our side ran.
"""

import time
import warnings
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks import subjects
from gnothi.behaviours.example import generator
from gnothi.models.base import Sampling
from gnothi.models.local import LocalModel
from gnothi.records import Message, Messages
from gnothi.render.questions import packaged
from gnothi.render.questions.scoring import NumberScore

N = 100
WIDTHS = (100, 50, 20)
SHORT, LONG = 8, 64
"""Tokens of an answer at most."""


def prompts() -> list[Messages]:
    """A scale from 0 to 100 (51 tokens) and a choice between two prospects (110), as the package asks them."""
    scale = next(q for q in packaged("risk").questions if isinstance(q.score, NumberScore) and "base" in q.models)
    choice = generator("risk").rows(2, seed=0)[1]
    return [(Message("user", scale.ask[0].text),), choice.messages]


class Passes:
    """What a module computes while this is on: operations, and the logits of the first pass."""

    def __init__(self, module: Any):
        self.body = sum(p.numel() for n, p in module.named_parameters() if p.ndim == 2 and "layers" in n)
        self.head = module.get_output_embeddings().weight.numel()
        self.flops, self.first = 0, None
        self.handle = module.register_forward_hook(self, with_kwargs=True)

    def __call__(self, module: Any, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        """Attention's products are left out: they are small at these lengths."""
        self.first = output.logits[0, -1].float() if self.first is None else self.first
        self.flops += 2 * (kwargs["input_ids"].numel() * self.body + output.logits.shape[:2].numel() * self.head)

    def __enter__(self) -> "Passes":
        return self

    def __exit__(self, *_: object) -> None:
        self.handle.remove()


class Peer:
    """`generate`, with what a user would set."""

    def __init__(self, model: LocalModel):
        self.model = model
        pieces = model.tokenizer.batch_decode([[i] for i in range(len(model.tokenizer))])
        self.newlines = [i for i, piece in enumerate(pieces) if "\n" in piece]

    def __call__(self, messages: Messages, n: int, width: int, most: int, stop: bool, **more: Any) -> Any:
        """What the last call of `generate` returned; as many calls as n answers need."""
        ids, _ = self.model.encode(messages)
        given = torch.tensor([ids])
        module: Any = self.model.module
        eos = [module.generation_config.eos_token_id, *(self.newlines if stop else ())]
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = None
            for _ in range(n // width):
                found = module.generate(
                    given,
                    attention_mask=torch.ones_like(given),
                    do_sample=True,
                    temperature=1.0,
                    top_k=0,
                    top_p=1.0,
                    max_new_tokens=most,
                    num_return_sequences=width,
                    eos_token_id=eos,
                    pad_token_id=0,
                    **more,
                )
        return found


def _timed(call: Any) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def difference(model: LocalModel, peer: Peer, asked: Sequence[Messages]) -> float:
    """Largest difference of a first token's probability."""
    largest = 0.0
    for messages in asked:
        out = peer(messages, 2, 2, 1, False, output_logits=True, return_dict_in_generate=True)
        with Passes(model.module) as seen:
            model.generate([messages], Sampling(n=2, temperature=1.0, max_tokens=1))
        assert seen.first is not None
        theirs, ours = (torch.softmax(x.double(), -1) for x in (out.logits[0][0].float(), seen.first))
        largest = max(largest, float((theirs - ours).abs().max()))
    return largest


def run(repeats: int = 2) -> list[dict[str, Any]]:
    """A row for short answers, and one for answers that are long and all different."""
    import transformers

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = LocalModel.load(subjects.gemma(), name="gemma-3-270m")
        peer, asked = Peer(model), prompts()
        away = difference(model, peer, asked)
        tried = {w: _timed(lambda w=w: peer(asked[0], w, w, SHORT, True)) / w for w in WIDTHS}
        width = min(tried, key=lambda w: tried[w])
        rows = []
        for name, given, n, most, stop, times in (
            ("short", asked, N, SHORT, True, repeats),
            ("long", asked[:1], N // 2, LONG, False, 1),
        ):
            sampling = Sampling(n=n, temperature=1.0, max_tokens=most, stop=("\n",) if stop else (), seed=1)
            ours, theirs = [], []
            with Passes(model.module) as seen:
                ours.append(_timed(lambda given=given, how=sampling: model.generate(given, how)))
            for repeat in range(times):
                theirs.append(_timed(lambda g=given, n=n, m=most, s=stop: [peer(x, n, min(n, width), m, s) for x in g]))
                if repeat + 1 < times:
                    ours.append(_timed(lambda given=given, how=sampling: model.generate(given, how)))
            fast, slow = min(ours), min(theirs)
            answers = n * len(given)
            rows.append(
                {
                    "name": f"sampling/{n} {name} answers",
                    "ours": answers / fast,
                    "peer": answers / slow,
                    "ratio": slow / fast,
                    "unit": "answers/s",
                    "peer_name": f"transformers generate, num_return_sequences={min(n, width)}",
                    "peer_version": transformers.__version__,
                    "repeats_s": {"ours": ours, "peer": theirs, "peer_s_an_answer_by_width": tried},
                    "max_abs_diff": away,
                    "flops": seen.flops,
                    "headline": name == "short",
                }
            )
        return rows
    finally:
        torch.set_num_threads(threads)
