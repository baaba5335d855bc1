"""Faults of the DeepSpeed JSON and of what DeepSpeed needs around it."""

from __future__ import annotations

import json
from typing import Any

from tests.faults.catalogue.recipe import values
from tests.faults.fault import Fault, Inject, together
from tests.faults.workspace import Workspace
from tests.stack.programs import leave_out

ZERO2, ZERO3 = "sky-t1 full zero2", "sky-t1 full zero3"


def config(**changed: Any) -> Inject:
    return lambda place: place.edit_deepspeed(**changed)


def zero(**changed: Any) -> Inject:
    return config(zero_optimization={"stage": 2, "overlap_comm": False, **changed})


def no_batch(place: Workspace) -> None:
    written = json.loads(place.deepspeed.read_text())
    kept = {key: value for key, value in written.items() if not key.startswith(("train_batch", "train_micro"))}
    place.deepspeed.write_text(json.dumps(kept, indent=2) + "\n")


def text(change: str, into: str) -> Inject:
    def inject(place: Workspace) -> None:
        before = place.deepspeed.read_text()
        assert change in before
        place.deepspeed.write_text(before.replace(change, into, 1))

    return inject


def trailing_comma(place: Workspace) -> None:
    before = place.deepspeed.read_text()
    place.deepspeed.write_text(before[: before.rindex("\n}")] + ",\n}\n")


def without(program: str) -> Inject:
    """As on a machine that lacks it."""
    return lambda place: leave_out(place, program)


def environ(**changed: str | None) -> Inject:
    """Variables of the shell; None takes one away."""

    def inject(place: Workspace) -> None:
        for name, value in changed.items():
            place.environ.pop(name, None)
            if value is not None:
                place.environ[name] = value

    return inject


def fresh_total(place: Workspace) -> None:
    place.edit_deepspeed(train_batch_size=12, train_micro_batch_size_per_gpu=1, gradient_accumulation_steps=1)


def gptq(place: Workspace) -> None:
    place.keep_a_copy()
    place.edit_json(place.model / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})


FILE = [
    Fault(
        "ds-path-old",
        "ds-config-missing",
        "the folder of another release",
        values(deepspeed="examples/ds_z3_offload_config.json"),
        ZERO2,
    ),
    Fault(
        "ds-path-misspelt",
        "ds-config-missing",
        "ds_z3_ofload_config.json",
        values(deepspeed="examples/deepspeed/ds_z3_ofload_config.json"),
        "sky-t1 lora zero2",
    ),
    Fault("ds-comma", "ds-config-invalid", "a comma behind the last key", trailing_comma, ZERO2),
    Fault("ds-comment", "ds-config-invalid", "a // comment", text("{\n", "{\n  // ZeRO-2\n"), ZERO3),
    Fault(
        "ds-empty",
        "ds-config-invalid",
        "an empty file",
        lambda place: place.deepspeed.write_text("") and None,
        ZERO2,
        healable=False,
    ),
    Fault(
        "ds-list",
        "ds-config-invalid",
        "a list",
        lambda place: place.deepspeed.write_text("[]\n") and None,
        "sky-t1 lora zero2",
        healable=False,
    ),
]
VALUES = [
    Fault("ds-stage-4", "ds-config-invalid", "stage: 4", zero(stage=4), ZERO2),
    Fault(
        "ds-stage-text", "ds-config-invalid", 'stage: "3"', zero(stage="3"), ZERO3, shows=r"trainable parameters = 0\b"
    ),
    Fault("ds-batch-absent", "ds-batch-size-mismatch", "neither train_batch_size nor the micro batch", no_batch, ZERO2),
    Fault("ds-stage-auto", "ds-config-invalid", 'stage: "auto"', zero(stage="auto"), ZERO2, warns=True),
    Fault(
        "ds-key-unknown",
        "ds-config-invalid",
        "stage3_gather_fp16_weights misspelt",
        zero(stage=3, stage3_gather_16bit_weight_on_save=True),
        ZERO3,
    ),
    Fault(
        "ds-device-unknown",
        "ds-config-invalid",
        "offload_optimizer to gpu",
        zero(offload_optimizer={"device": "gpu"}),
        ZERO2,
    ),
    Fault(
        "ds-bucket-auto",
        "ds-config-invalid",
        "reduce_bucket_size auto in words",
        zero(reduce_bucket_size="large"),
        "sky-t1 lora zero2",
    ),
    Fault(
        "ds-bucket-fraction",
        "ds-prefetch-bucket-float",
        "stage3_prefetch_bucket_size: 3686.4",
        zero(stage=3, stage3_prefetch_bucket_size=3686.4),
        ZERO3,
    ),
    Fault("ds-zero-as-number", "ds-config-invalid", "zero_optimization: 2", config(zero_optimization=2), ZERO2),
    Fault(
        "ds-micro-batch",
        "ds-config-hf-mismatch",
        "train_micro_batch_size_per_gpu: 4 beside 1 in the recipe",
        config(train_micro_batch_size_per_gpu=4),
        ZERO2,
    ),
    Fault("ds-total-batch", "ds-config-hf-mismatch", "train_batch_size: 7", config(train_batch_size=7), ZERO2),
    Fault("ds-batch-arithmetic", "ds-batch-size-mismatch", "12 is not 1 × 1 × 1", fresh_total, "sky-t1 lora zero2"),
    Fault(
        "ds-accumulation-quoted",
        "ds-config-hf-mismatch",
        'gradient_accumulation_steps: "1"',
        config(gradient_accumulation_steps="1"),
        ZERO2,
    ),
    Fault("ds-clipping", "ds-config-hf-mismatch", "gradient_clipping: 0.5", config(gradient_clipping=0.5), ZERO3),
    Fault(
        "ds-learning-rate",
        "ds-config-hf-mismatch",
        "an optimizer with another learning rate",
        config(optimizer={"type": "AdamW", "params": {"lr": 3e-5, "torch_adam": True}}),
        ZERO2,
    ),
    Fault(
        "ds-bf16-only-here",
        "ds-config-hf-mismatch",
        "bf16 in the JSON, not in the recipe",
        together(config(bf16={"enabled": True}), values(bf16=None)),
        ZERO2,
    ),
    Fault(
        "ds-bf16-and-fp16",
        "ds-config-hf-mismatch",
        "bf16 and fp16 in the JSON",
        config(bf16={"enabled": True}, fp16={"enabled": True}),
        ZERO2,
    ),
    Fault(
        "ds-micro-batch-current",
        "ds-config-hf-mismatch",
        "train_micro_batch_size_per_gpu: 4",
        config(train_micro_batch_size_per_gpu=4),
        "current full zero2",
    ),
    Fault("ds-stage-4-current", "ds-config-invalid", "stage: 4", zero(stage=4), "current full zero2"),
    Fault("ds-comma-current", "ds-config-invalid", "a comma behind the last key", trailing_comma, "current full zero2"),
]


def with_bom(place: Workspace) -> None:
    place.deepspeed.write_bytes(b"\xef\xbb\xbf" + place.deepspeed.read_bytes())


MORE = [
    Fault("ds-bom", "ds-config-invalid", "a byte order mark", with_bom, ZERO2),
    Fault("ds-fp16-beside-bf16", "ds-config-hf-mismatch", "fp16 in the JSON, bf16 in the recipe",
          config(fp16={"enabled": True}, bf16={"enabled": False}), ZERO2),
    Fault("ds-optimizer-unknown", "ds-config-invalid", "an optimizer that DeepSpeed does not have",
          config(optimizer={"type": "AdamX", "params": {"lr": "auto"}}), ZERO2),
]  # fmt: skip
AROUND = [
    Fault(
        "ds-without-torchrun",
        "launch-torchrun-missing",
        "FORCE_TORCHRUN=0",
        environ(FORCE_TORCHRUN="0", LOCAL_SIZE="1"),
        ZERO2,
    ),
    Fault(
        "ds-without-torchrun-current",
        "launch-torchrun-missing",
        "FORCE_TORCHRUN=0",
        environ(FORCE_TORCHRUN="0"),
        "current full zero2",
    ),
    Fault(
        "ds-without-numactl",
        "env-numactl-missing",
        "no numactl on a machine without GPU, ZeRO-3",
        together(environ(LOCAL_SIZE=None), without("numactl")),
        ZERO3,
        fresh=True,
    ),
    Fault(
        "ds-nvme-without-path",
        "ds-offload-nvme",
        "offload to NVMe without nvme_path",
        zero(stage=3, offload_optimizer={"device": "nvme"}),
        ZERO3,
        healable=False,
    ),
    Fault(
        "ds-adafactor-offloaded",
        "ds-offload-client-optimizer",
        "offload with optim: adafactor",
        together(zero(offload_optimizer={"device": "cpu"}), values(optim="adafactor")),
        ZERO2,
    ),
    Fault(
        "ds-with-quantisation",
        "ds-zero3-quantized",
        "a GPTQ checkpoint under ZeRO-3",
        together(values(finetuning_type="lora"), gptq),
        ZERO3,
        arguments=("--model", "{root}/models/whole"),
    ),
]
FAULTS = [*FILE, *VALUES, *MORE, *AROUND]
