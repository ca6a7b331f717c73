"""TRL's `SFTTrainer` with PEFT, and a plain loop with PEFT, in the peers' environment."""

import gc
import tempfile
import warnings
from typing import Any

from benchmarks.serving import Stopwatch, memory_mb, serve, versions

_LOADED: dict[str, Any] = {}


def load(folder: str) -> dict[str, Any]:
    """Import what is needed and remember the model's folder, which each run opens anew."""
    import peft  # noqa: F401
    import torch
    import trl  # noqa: F401

    torch.set_num_threads(1)
    _LOADED["folder"] = folder
    return {
        "version": versions("trl", "peft", "transformers", "torch"),
        "plain": versions("peft", "transformers", "torch"),
        "memory": memory_mb(),
    }


def _model(adapter: str) -> tuple[Any, Any]:
    import peft
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    gc.collect()
    model = AutoModelForCausalLM.from_pretrained(_LOADED["folder"], dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = peft.PeftModel.from_pretrained(model, adapter, is_trainable=True)
    return wrapped, AutoTokenizer.from_pretrained(_LOADED["folder"])


def _optimizer(model: Any, how: dict[str, Any], factors: list[float]) -> tuple[Any, Any]:
    import torch

    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=how["lr"], betas=tuple(how["betas"]), weight_decay=how["weight_decay"], fused=True
    )
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: factors[min(s, len(factors) - 1)])


def trl_run(
    adapter: str,
    rows: list[dict[str, list[int]]],
    batch: int,
    how: dict[str, Any],
    factors: list[float],
    checkpointing: bool,
) -> dict[str, Any]:
    """Train once, from the given adapter on, on the rows in the given order.

    Args:
        adapter: Folder of the adapter to start from.
        rows: `input_ids` and `labels` (-100 where there is no loss) of each row.
        batch: Rows a step.
        how: `lr`, `betas`, `weight_decay`, `clip` and `bf16`.
        factors: The learning rate's factor at each step.
        checkpointing: Whether activations are computed again in the backward pass.

    Returns:
        Seconds from the first step's start to the last one's end, the steps' losses, and memory.
    """
    import torch
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    model, tokenizer = _model(adapter)
    loaded = memory_mb()
    losses: list[Any] = []
    clock: dict[str, Any] = {}

    class Recorded(SFTTrainer):
        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().training_step(*args, **kwargs)
            losses.append(loss.detach())
            return loss

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            clock["watch"] = Stopwatch()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock["read"] = clock["watch"].read()

    with tempfile.TemporaryDirectory() as out:
        config = SFTConfig(
            output_dir=out,
            use_cpu=True,
            bf16=how["bf16"],
            per_device_train_batch_size=batch,
            max_steps=len(rows) // batch,
            learning_rate=how["lr"],
            max_grad_norm=how["clip"],
            max_length=None,
            packing=False,
            gradient_checkpointing=checkpointing,
            dataset_kwargs={"skip_prepare_dataset": True},
            train_sampling_strategy="sequential",
            dataloader_num_workers=0,
            dataloader_pin_memory=False,
            logging_strategy="no",
            save_strategy="no",
            eval_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=0,
        )
        trainer = Recorded(
            model=model,
            args=config,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            callbacks=[Clock()],
            optimizers=_optimizer(model, how, factors),
        )
        trainer.train()
    answer = {
        **clock["read"],
        "losses": torch.stack(losses).tolist(),
        "loaded": loaded,
        "memory": memory_mb(),
    }
    trainer.model = trainer.model_wrapped = trainer.optimizer = None
    return answer


def plain_run(
    adapter: str, rows: list[dict[str, list[int]]], batch: int, how: dict[str, Any], factors: list[float]
) -> dict[str, Any]:
    """The same by a loop that computes logits from the first answer token on only: what a careful user would write."""
    import torch

    model, _ = _model(adapter)
    loaded = memory_mb()
    optimizer, schedule = _optimizer(model, how, factors)
    trained = [p for p in model.parameters() if p.requires_grad]
    losses = []
    watch = Stopwatch()
    for s in range(len(rows) // batch):
        taken = rows[s * batch : (s + 1) * batch]
        ids = torch.tensor([r["input_ids"] for r in taken])
        labels = torch.tensor([r["labels"] for r in taken])
        first = int((labels != -100).any(0).nonzero()[0])
        keep = ids.shape[1] - first + 1
        logits = model(input_ids=ids, logits_to_keep=keep).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, first:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, how["clip"])
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.detach())
    read = watch.read()
    return {**read, "losses": torch.stack(losses).tolist(), "loaded": loaded, "memory": memory_mb()}


if __name__ == "__main__":
    serve(load=load, trl=trl_run, plain=plain_run)
