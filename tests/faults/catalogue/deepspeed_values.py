"""Faults of the DeepSpeed JSON that its classes do not see: parts of the wrong kind, schedulers, optimizers, options."""

from __future__ import annotations

from typing import Any

from tests.faults.catalogue.deepspeed import ZERO2, ZERO3, config, zero
from tests.faults.fault import COPY, Fault
from tests.faults.workspace import Workspace

CURRENT = "current full zero2"
HAND = {"healable": False}


def zero_misspelt(place: Workspace) -> None:
    place.deepspeed.write_text(place.deepspeed.read_text().replace("zero_optimization", "zero_optimisation"))


def invalid(id: str, what: str, base: str = ZERO2, healable: bool = False, **changed: Any) -> Fault:
    return Fault(id, "ds-config-invalid", what, config(**changed), base, healable=healable)


ADAMW = {"type": "AdamW", "params": {"lr": "auto", "torch_adam": True}}
FAULTS = [
    Fault("ds-zero-misspelt", "ds-config-invalid", "zero_optimisation", zero_misspelt, ZERO2, **HAND),
    Fault("ds-zero-misspelt-current", "ds-config-invalid", "zero_optimisation", zero_misspelt, CURRENT, **HAND),
    invalid("ds-zero-null", "zero_optimization: null", zero_optimization=None),
    invalid("ds-bf16-bare", "bf16: true", bf16=True, healable=True),
    invalid("ds-fp16-bare", "fp16: false", CURRENT, fp16=False, healable=True),
    invalid("ds-checkpointing-bare", "activation_checkpointing: true", activation_checkpointing=True),
    invalid("ds-optimizer-as-text", "optimizer: AdamW", optimizer="AdamW"),
    invalid("ds-optimizer-without-type", "an optimizer without type", CURRENT, optimizer={"params": {"lr": "auto"}}),
    invalid("ds-optimizer-parameter", "learning_rate for lr",
            optimizer={**ADAMW, "params": {**ADAMW["params"], "learning_rate": 0.1}}),
    invalid("ds-optimizer-one-bit", "OneBitAdam under ZeRO", optimizer={"type": "OneBitAdam", "params": {"lr": "auto"}}),
    invalid("ds-optimizer-newer", "Muon with a DeepSpeed before it", optimizer={"type": "Muon", "params": {"lr": "auto"}}),
    invalid("ds-scheduler-unknown", "scheduler: CosineLR", scheduler={"type": "CosineLR", "params": {}}),
    invalid("ds-scheduler-unknown-current", "scheduler: CosineLR", CURRENT, scheduler={"type": "CosineLR", "params": {}}),
    invalid("ds-scheduler-without-type", "a scheduler without type", scheduler={"params": {"warmup_num_steps": "auto"}}),
    invalid("ds-scheduler-parameter", "warmup_steps for warmup_num_steps",
            scheduler={"type": "WarmupLR", "params": {"warmup_steps": 1}}),
    Fault("ds-scheduler-rate", "ds-config-hf-mismatch", "warmup_max_lr is another learning rate",
          config(scheduler={"type": "WarmupLR", "params": {"warmup_max_lr": 3e-5, "warmup_num_steps": "auto"}}), ZERO2),
    invalid("ds-communication-type", "communication_data_type: fp61", communication_data_type="fp61"),
    invalid("ds-communication-type-current", "communication_data_type: float32", CURRENT, communication_data_type="float32"),
    invalid("ds-accumulation-type", "grad_accum_dtype: fp23", data_types={"grad_accum_dtype": "fp23"}),
    Fault("ds-amp", "ds-config-hf-mismatch", "amp beside bf16", config(amp={"enabled": True, "opt_level": "O1"}), ZERO2),
    Fault("ds-bucket-as-text", "ds-config-invalid", 'allgather_bucket_size: "5e8"', zero(allgather_bucket_size="5e8"),
          ZERO2),
    Fault("ds-live-as-text", "ds-config-invalid", 'stage3_max_live_parameters: "1e9"',
          zero(stage=3, stage3_max_live_parameters="1e9"), ZERO3),
    Fault("ds-offload-of-old", "ds-offload-client-optimizer", "cpu_offload: true", zero(cpu_offload=True), ZERO2, **HAND),
    Fault("ds-total-batch-in-words", "ds-config-hf-mismatch", "train_batch_size: Auto", config(train_batch_size="Auto"),
          ZERO2),
    invalid("ds-monitor-path", "csv_monitor with a number for a path", csv_monitor={"enabled": True, "output_path": 5},
            healable=True),
    Fault("ds-tensorboard-not-installed", "log-tensorboard-missing", "tensorboard in the JSON",
          config(tensorboard={"enabled": True}), ZERO2, packages=COPY, **HAND),
    Fault("ds-wandb-not-installed", "log-wandb-not-installed", "wandb in the JSON", config(wandb={"enabled": True}), ZERO2,
          packages=COPY, **HAND),
    invalid("ds-tag-validation", "tag_validation: Maybe", checkpoint={"tag_validation": "Maybe"}),
    invalid("ds-elastic-and-fixed", "elasticity beside batch sizes",
            elasticity={"enabled": True, "max_train_batch_size": 8, "micro_batch_sizes": [1]}),
    invalid("ds-prescaled", "prescale_gradients with ZeRO-2", prescale_gradients=True, healable=True),
    invalid("ds-breakdown-in-words", 'wall_clock_breakdown: "yes"', CURRENT, wall_clock_breakdown="yes"),
    invalid("ds-tensor-parallel", "autotp_size: 4 with one process", CURRENT, tensor_parallel={"autotp_size": 4}),
    invalid("ds-autocast-type", "torch_autocast with dtype bf61", CURRENT,
            torch_autocast={"enabled": True, "dtype": "bf61"}),
    invalid("ds-compile-enabled", "compile.enabled, which is no key", CURRENT, compile={"enabled": True}, healable=True),
]  # fmt: skip
