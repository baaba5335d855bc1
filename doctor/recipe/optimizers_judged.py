"""Packages that an optimizer or a kernel of transformers asks for when the trainer is made: long after the data are read."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from doctor.facts import Facts
from doctor.findings import Finding, found, in_recipe

_finding = partial(found, "arguments")

# Beginning of optim -> the package that it needs (transformers, Trainer.get_optimizer_cls_and_kwargs), and whether the
# name on PyPI is that package: apex and torchdistx are built from their repositories, the other two come with hardware.
_PACKAGES = {
    "adamw_apex_fused": ("apex", False),
    "adamw_anyprecision": ("torchdistx", False),
    "adamw_torch_npu_fused": ("torch-npu", False),
    "adamw_torch_xla": ("torch-xla", False),
    "galore_": ("galore-torch", True),
    "apollo_": ("apollo-torch", True),
    "lomo": ("lomo-optim", True),
    "adalomo": ("lomo-optim", True),
    "grokadamw": ("grokadamw", True),
    "schedule_free_": ("schedulefree", True),
    "adamw_torch_4bit": ("torchao", True),
    "adamw_torch_8bit": ("torchao", True),
    "stable_adamw": ("torch-optimi", True),
}


def optimizer_there(facts: Facts) -> Iterator[Finding]:
    values, installed = facts["recipe.values"], facts["packages.versions"]
    optim = str(values.get("optim", ""))
    for begin, (package, on_pypi) in _PACKAGES.items():
        if optim.startswith(begin) and package not in installed:
            details: dict[str, Any] = {"module": package, "key": "optim"} | (
                {"distribution": package} if on_pypi else {}
            )
            what = f"optim: {optim} needs {package}, which is not installed"
            yield _finding("pkg-missing", what, in_recipe(facts, "optim"), **details)
            return
    projected = optim.startswith(("galore_", "apollo_")) and not values.get("optim_target_modules")
    if projected and "optim_target_modules" in facts["arguments.fields"]:
        what = f"optim: {optim} needs optim_target_modules; use_galore and use_apollo of LLaMA-Factory do not"
        yield _finding("cfg-missing-argument", what, in_recipe(facts, "optim"), key="optim_target_modules")


def apex_there(facts: Facts) -> Iterator[Finding]:
    """Only mixed precision without DeepSpeed looks at half_precision_backend (Trainer.__init__)."""
    values = facts["recipe.values"]
    mixed = values.get("fp16") is True or values.get("bf16") is True
    key = "half_precision_backend"
    asked = values.get(key) == "apex" and mixed and not values.get("deepspeed") and key in facts["arguments.fields"]
    if asked and "apex" not in facts["packages.versions"]:
        what = f"{key}: apex needs apex, which is not installed"
        yield _finding("pkg-missing", what, in_recipe(facts, key), module="apex", key=key)


def liger_there(facts: Facts) -> Iterator[Finding]:
    """The trainer's own switch beside enable_liger_kernel of LLaMA-Factory."""
    key = "use_liger_kernel"
    asked = facts["recipe.values"].get(key) is True and key in facts["arguments.fields"]
    if asked and "liger-kernel" not in facts["packages.versions"]:
        what = f"{key} needs liger-kernel, which is not installed"
        details: dict[str, Any] = {"module": "liger-kernel", "distribution": "liger-kernel", "key": key}
        yield _finding("pkg-missing", what, in_recipe(facts, key), **details)


ALL = (optimizer_there, apex_there, liger_there)
