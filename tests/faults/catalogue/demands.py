"""Faults of what LLaMA-Factory asks for after its arguments: stages, streams, recomputation, imports beyond its ranges."""

from __future__ import annotations

import shutil
from typing import Any

from tests.faults.catalogue.adapters import adapter
from tests.faults.catalogue.deepspeed import environ
from tests.faults.catalogue.packages import fault
from tests.faults.catalogue.recipe import values
from tests.faults.fault import Fault, Inject, together
from tests.faults.workspace import Workspace

CURRENT, LORA = "current full", "current lora"
STREAM = {"streaming": True, "max_steps": 1}
UNCHECKED = environ(FORCE_TORCHRUN="0", DISABLE_VERSION_CHECK="1")


def under_zero3(place: Workspace) -> None:
    place.environ |= {"FORCE_TORCHRUN": "1", "LOCAL_SIZE": "1", "MASTER_PORT": "29583"}
    place.write_deepspeed(zero_optimization={"stage": 3, "overlap_comm": False}, bf16={"enabled": False})
    place.set_recipe(bf16=None)  # the Trainer of transformers 5 refuses it without a GPU


def rewarded(kind: str) -> Inject:
    """PPO with an adapter, or a whole model, as its reward model that was not trained with stage rm."""

    def inject(place: Workspace) -> None:
        if kind == "lora":
            adapter()(place)
            place.set_recipe(adapter_name_or_path=None)
            shutil.move(place.root / "saves/adapter", place.root / "saves/reward")
        else:
            shutil.copytree(place.model, place.root / "saves/reward")
        place.set_recipe(stage="ppo", reward_model="saves/reward", reward_model_type=kind)

    return inject


def stream(id: str, what: str, **more: Any) -> Fault:
    return Fault(id, "data-streaming-workers", what, values(**STREAM, **more), CURRENT)


FAULTS = [
    stream("stream-without-workers", "streaming with dataloader_num_workers left at 0"),
    stream("stream-of-few", "streaming 16 records with 40 workers", dataloader_num_workers=40),
    Fault("lora-target-nothing", "peft-target-modules-empty", 'lora_target: ""', values(lora_target=""), "sky-t1 lora"),
    Fault("recomputes-frozen", "ds-zero3-recompute-frozen", "use_reentrant_gc: false with LoRA under ZeRO-3",
          together(under_zero3, values(use_reentrant_gc=False)), LORA, fresh=True),
    Fault("reward-without-head", "train-reward-model-not-loaded", "a reward adapter without a value head",
          rewarded("lora"), "sky-t1 lora", healable=False),
    Fault("reward-head-at-random", "train-reward-model-not-loaded", "a whole reward model without a value head",
          rewarded("full"), "sky-t1 lora", healable=False, warns=True),
    Fault("ppo-with-newer-trl", "pkg-trl-mismatch", "stage: ppo with trl 0.24", rewarded("full"), LORA, healable=False),
    fault("trl-too-new-unchecked", "pkg-trl-mismatch", "trl 0.16.1, DISABLE_VERSION_CHECK", ("trl==0.16.1",),
          inject=UNCHECKED),
    fault("peft-of-transformers-4", "pkg-peft-transformers-mismatch", "peft 0.17.0 with transformers 5.6",
          ("peft==0.17.0",), base=CURRENT, inject=UNCHECKED),
    fault("accelerate-too-old-unchecked", "pkg-accelerate-mismatch", "accelerate 0.21.0, DISABLE_VERSION_CHECK",
          ("accelerate==0.21.0",), inject=UNCHECKED),
    fault("accelerate-optimizer-modes", "pkg-accelerate-mismatch", "accelerate 0.33.0 with transformers 4.46.1",
          ("accelerate==0.33.0",), inject=UNCHECKED),
]  # fmt: skip
