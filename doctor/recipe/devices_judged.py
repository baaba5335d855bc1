"""Judgements of variables that choose a device or a precision for which this environment lacks the package."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from doctor.facts import Facts
from doctor.findings import Finding, found

_found = partial(found, "variables")

# DS_ACCELERATOR -> the package that deepspeed/accelerator/real_accelerator.py imports to prove it.
_ACCELERATORS = {"npu": "torch-npu", "xpu": "intel-extension-for-pytorch", "mlu": "torch-mlu", "sdaa": "torch-sdaa",
                 "hpu": "habana-torch-plugin"}  # fmt: skip
_OF_FP8 = ("transformer-engine", "ms-amp", "torchao")


def accelerator_there(facts: Facts) -> Iterator[Finding]:
    """It is asked for when DeepSpeed is imported, which trl does where it is installed, whatever the recipe says."""
    name, installed = "DS_ACCELERATOR", facts["packages.versions"]
    value = facts["variables.set"].get(name, "")
    needed = _ACCELERATORS.get(value.partition(".")[0])
    if needed and needed not in installed and "deepspeed" in installed:
        what = f"{name}={value} needs {needed}, which is not installed"
        yield _found("launch-variable-invalid", what, name, variable=name)
    elif value.lower() == "cuda" and facts.get("gpu.count") == 0 and facts["recipe.values"].get("deepspeed"):
        what = f"{name}={value} makes DeepSpeed ask for a GPU, and this machine has none"
        yield _found("launch-variable-invalid", what, name, variable=name)


def precision_there(facts: Facts) -> Iterator[Finding]:
    """The variable of `accelerate launch` counts where the recipe sets neither bf16 nor fp16."""
    name, values = "ACCELERATE_MIXED_PRECISION", facts["recipe.values"]
    chosen = any(values.get(key) for key in ("bf16", "fp16"))
    value = facts["variables.set"].get(name, "no").lower()
    if chosen or value in ("no", "fp16", "bf16"):
        return
    if value != "fp8":
        what = f"{name}={value} is none of no, fp8, fp16, bf16"
        yield _found("launch-variable-invalid", what, name, variable=name)
    elif not any(package in facts["packages.versions"] for package in _OF_FP8):
        what = f"{name}=fp8 needs {' or '.join(_OF_FP8)}, and none of them is installed"
        yield _found("launch-variable-invalid", what, name, variable=name)


ALL = (accelerator_there, precision_there)
