"""Faults of the sections of the DeepSpeed JSON: no object, a parameter that is missing, one that the recipe contradicts."""

from __future__ import annotations

from typing import Any

from tests.faults.catalogue.deepspeed import ZERO2, config, zero
from tests.faults.catalogue.recipe import values
from tests.faults.fault import Fault, Inject, together

CURRENT = "current full zero2"


def invalid(id: str, what: str, base: str = ZERO2, inject: Inject | None = None, **changed: Any) -> Fault:
    return Fault(id, "ds-config-invalid", what, inject or config(**changed), base, healable=False)


def optimizer(**params: Any) -> Inject:
    return config(optimizer={"type": "AdamW", "params": {"lr": "auto", "torch_adam": True, **params}})


def scheduler(kind: str, **params: Any) -> dict[str, Any]:
    return {"type": kind, "params": params}


def contradicts(id: str, what: str, inject: Inject) -> Fault:
    return Fault(id, "ds-config-hf-mismatch", what, inject, ZERO2, healable=False)


FAULTS = [
    invalid("ds-profiler-bare", "flops_profiler: true", flops_profiler=True),
    invalid("ds-logger-bare", "comms_logger: true", CURRENT, comms_logger=True),
    invalid("ds-tensorboard-bare", "tensorboard: true", CURRENT, tensorboard=True),
    invalid("ds-aio-list", "aio: [1]", CURRENT, aio=[1]),
    invalid("ds-elasticity-list", "elasticity: [1]", elasticity=[1]),
    invalid("ds-amp-bare", "amp: true", amp=True),
    invalid("ds-data-efficiency-bare", "data_efficiency: true", data_efficiency=True),
    invalid("ds-autocast-bare", "torch_autocast: true", CURRENT, torch_autocast=True),
    invalid("ds-bf16-list", "bf16: [true]", bf16=[True]),
    invalid("ds-hybrid-key", "hybrid_engine.enable", CURRENT, hybrid_engine={"enable": True}),
    invalid("ds-logger-loud", 'comms_logger.verbose: "loud"', comms_logger={"enabled": True, "verbose": "loud"}),
    invalid("ds-overlap-auto", 'overlap_comm: "auto", which nothing fills in', inject=zero(overlap_comm="auto")),
    invalid("ds-bucket-infinite", "reduce_bucket_size: Infinity", inject=zero(reduce_bucket_size=float("inf"))),
    invalid("ds-clipping-null", "gradient_clipping: null", gradient_clipping=None),
    invalid("ds-parameters-list", "optimizer.params is a list", optimizer={"type": "AdamW", "params": ["lr"]}),
    invalid("ds-sgd-betas", "betas for SGD", CURRENT,
            optimizer={"type": "SGD", "params": {"lr": "auto", "betas": "auto"}}),
    invalid("ds-decay-without-total", "WarmupDecayLR without total_num_steps",
            scheduler=scheduler("WarmupDecayLR", warmup_num_steps="auto")),
    invalid("ds-cycle-without-rates", "OneCycle without its rates", scheduler=scheduler("OneCycle")),
    invalid("ds-rate-quoted", 'warmup_min_lr: "0"',
            scheduler=scheduler("WarmupLR", warmup_min_lr="0", warmup_max_lr="auto", warmup_num_steps="auto")),
    invalid("ds-scheduler-parameters-null", "scheduler.params: null", CURRENT,
            scheduler={"type": "WarmupLR", "params": None}),
    contradicts("ds-betas", "betas: [0.8, 0.9] beside the recipe's", optimizer(betas=[0.8, 0.9])),
    contradicts("ds-decay", "weight_decay: 0.5 beside the recipe's 0", optimizer(weight_decay=0.5)),
    contradicts("ds-warmup-steps", "warmup_num_steps: 7 beside 1 in the recipe",
                together(config(scheduler=scheduler("WarmupLR", warmup_num_steps=7, warmup_max_lr="auto")),
                         values(warmup_steps=1))),
]  # fmt: skip
