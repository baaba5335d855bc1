"""Faults of a DeepSpeed JSON that says "auto", a word or null where nobody fills anything in."""

from __future__ import annotations

from typing import Any

from tests.faults.catalogue.deepspeed import ZERO2, config
from tests.faults.catalogue.recipe import values
from tests.faults.fault import Fault

CURRENT = "current full zero2"
ADAMW = {"type": "AdamW", "params": {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto"}}


def auto(id: str, what: str, base: str = ZERO2, **changed: Any) -> Fault:
    return Fault(id, "ds-config-invalid", what, config(**changed), base)


FAULTS = [
    auto("ds-loss-scale-auto", "loss_scale: auto", fp16={"enabled": "auto", "loss_scale": "auto"}),
    auto("ds-communication-auto", "communication_data_type: auto", communication_data_type="auto"),
    auto("ds-accumulation-type-auto", "grad_accum_dtype: auto", CURRENT, data_types={"grad_accum_dtype": "auto"}),
    auto("ds-checkpointing-auto", "partition_activations: auto",
         activation_checkpointing={"partition_activations": "auto"}),
    auto("ds-profiler-auto", "profile_step: auto", CURRENT, flops_profiler={"enabled": False, "profile_step": "auto"}),
    auto("ds-aio-auto", "block_size: auto", aio={"block_size": "auto"}),
    auto("ds-amp-auto", "amp: enabled: auto", CURRENT, amp={"enabled": "auto"}),
    auto("ds-amsgrad-auto", "amsgrad: auto", optimizer={**ADAMW, "params": {**ADAMW["params"], "amsgrad": "auto"}}),
    auto("ds-bf16-auto", 'bf16: "auto"', bf16="auto"),
    auto("ds-fp16-auto", 'fp16: "auto"', CURRENT, fp16="auto"),
    auto("ds-optimizer-rate-null", "lr: null in the optimizer", optimizer={**ADAMW, "params": {"lr": None}}),
    Fault("ds-lion-without-gpu", "cuda-unavailable", "Lion on a machine without GPU",
          config(optimizer={"type": "Lion", "params": {"lr": "auto"}}), ZERO2, healable=False),
    Fault("muon-with-deepspeed", "cfg-conflicting-args", "use_muon with DeepSpeed", values(use_muon=True), CURRENT,
          healable=False),
]  # fmt: skip
